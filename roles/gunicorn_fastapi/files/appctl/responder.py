"""Answer each request with 503 and a page, while the application is in maintenance. Alone, without any privilege:

    python3 -IS responder.py DIRECTORY

has the page (`page`) and `Retry-After` (`state.json`) in a directory, and systemd's sockets. SIGHUP has it read them
again. SIGTERM has it take no more connections, answer those that it has, and exit: who waits in the queue waits for
whoever serves next.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from email.utils import formatdate
from pathlib import Path
from typing import Any

FIRST = 3
"""The first descriptor that systemd passes."""

CONNECTIONS = 4096
"""Connections at a time; more of them wait in the queue."""

HEAD = 64 * 1024
"""Bytes of a request's head. Of a larger one the end is not waited for."""

PATIENCE = 10.0
"""Seconds that a client may take to send its request, and again to take the answer and to stop sending a body."""

REST = 16 * 1024 * 1024
"""Bytes of a body that are read and forgotten, so that its sender gets to the answer."""


class Answer:
    """What everybody gets."""

    def __init__(self, directory: Path) -> None:
        state = json.loads((directory / "state.json").read_bytes())
        self.body = (directory / "page").read_bytes()
        kind = "text/html" if self.body.lstrip()[:1] == b"<" else "text/plain"
        self.head = (
            "HTTP/1.1 503 Service Unavailable\r\n"
            f"Content-Type: {kind}; charset=utf-8\r\nContent-Length: {len(self.body)}\r\n"
            f"Retry-After: {int(state['retry_after'])}\r\nCache-Control: no-store\r\nConnection: close\r\n"
        ).encode()

    def to(self, request: bytes) -> bytes:
        """The whole answer; HEAD gets no body."""
        date = f"Date: {formatdate(usegmt=True)}\r\n\r\n".encode()
        return self.head + date + (b"" if request.startswith(b"HEAD ") else self.body)


class Client(asyncio.Protocol):
    """One connection: the end of a request's head is awaited, answered, and what is left of its body is let pass."""

    def __init__(self, server: "Server") -> None:
        self.server = server
        self.head = b""
        self.rest = REST
        self.answered = False
        self.transport: Any = None
        self.timer: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.server.clients.add(self)
        self.timer = asyncio.get_running_loop().call_later(PATIENCE, transport.abort)

    def data_received(self, data: bytes) -> None:
        if self.answered:
            self.rest -= len(data)
            if self.rest < 0:
                self.transport.abort()
            return
        self.head += data
        if b"\r\n\r\n" not in self.head and len(self.head) <= HEAD:
            return
        self.answered = True
        self.timer.cancel()
        self.transport.write(self.server.answer.to(self.head))
        # Not closed at once: the kernel would reset what the client still sends, and take the answer with it.
        self.transport.write_eof()
        self.timer = asyncio.get_running_loop().call_later(PATIENCE, self.transport.abort)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, _error: Exception | None) -> None:
        self.timer.cancel()
        self.server.clients.discard(self)
        self.server.look()


class Server:
    """Accepts as long as there is room, and until it is told to stop."""

    def __init__(self, directory: Path, listeners: list[socket.socket]) -> None:
        self.directory = directory
        self.listeners = listeners
        self.answer = Answer(directory)
        self.clients: set[Client] = set()
        self.opening: set[asyncio.Task[Any]] = set()
        self.accepting: set[int] = set()
        self.stopping = False
        self.stopped = asyncio.Event()

    def renew(self) -> None:
        """Read page and state anew; what cannot be read leaves the former ones."""
        try:
            self.answer = Answer(self.directory)
        except (OSError, ValueError, KeyError, TypeError) as error:
            print(f"<3>the page of the maintenance cannot be read: {error}", flush=True)

    def stop(self) -> None:
        self.stopping = True
        self.look()

    def look(self) -> None:
        """Accept, or not, as there is room; end when nobody is left."""
        loop = asyncio.get_running_loop()
        room = not self.stopping and len(self.clients) + len(self.opening) < CONNECTIONS
        for listener in self.listeners:
            number = listener.fileno()
            if room and number not in self.accepting:
                self.accepting.add(number)
                loop.add_reader(number, self.accept, listener)
            elif not room and number in self.accepting:
                self.accepting.discard(number)
                loop.remove_reader(number)
        if self.stopping and not self.clients and not self.opening:
            self.stopped.set()

    def accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # no descriptor is left
            print(f"<4>a connection cannot be accepted: {error}", flush=True)
            return
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.connect_accepted_socket(lambda: Client(self), connection))
        self.opening.add(task)
        task.add_done_callback(self.opened)
        self.look()

    def opened(self, task: "asyncio.Task[Any]") -> None:
        self.opening.discard(task)
        if not task.cancelled():
            task.exception()  # the client has gone
        self.look()


async def serve(directory: Path, listeners: list[socket.socket]) -> None:
    """Answer until SIGTERM."""
    server = Server(directory, listeners)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, server.stop)
    loop.add_signal_handler(signal.SIGHUP, server.renew)
    server.look()
    ready()
    await server.stopped.wait()


def ready() -> None:
    """Tell systemd that it serves."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            notify.send(b"READY=1")


def main() -> None:
    count = int(os.environ["LISTEN_FDS"])
    listeners = [socket.socket(fileno=number) for number in range(FIRST, FIRST + count)]
    for listener in listeners:
        listener.setblocking(False)
    asyncio.run(serve(Path(sys.argv[1]), listeners))


if __name__ == "__main__":
    main()
