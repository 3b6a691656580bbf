"""A worker's connections in this process: real sockets, an application that says what it got, a clock to move."""

import asyncio
import functools
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from pathlib import Path
from typing import Any, Self

from gunicorn_fastapi import peers, upstream
from gunicorn_fastapi.closed import Door
from gunicorn_fastapi.guard import Guard
from gunicorn_fastapi.log import RequestContext
from gunicorn_fastapi.protocol import GuardedProtocol
from gunicorn_fastapi.server import DrainingServer
from gunicorn_fastapi.shared import Shares
from servers import PATIENCE
from uvicorn.config import Config

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class Loop(asyncio.SelectorEventLoop):
    """A loop whose clock a test puts forward."""

    ahead = 0.0

    def time(self) -> float:
        """As the parent's, and what it was put forward."""
        return super().time() + self.ahead


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test in such a loop."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(test)


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait until something holds."""
    for _ in range(PATIENCE * 200):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(what)


async def answer(send: Send, body: bytes, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    """A whole answer."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


class Witness:
    """An application that keeps what it got. A WebSocket's messages are echoed, by their length.

    ``/wait`` is answered when ``go`` is set; ``/early`` before its body is read; ``/large`` is 20 MB; a WebSocket
    ``/busy`` takes no message until ``go`` is set, ``/talk`` talks without end, ``/refuse`` is none, and ``/nothing``
    has no answer.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, bytes]] = []
        self.headers: list[list[tuple[bytes, bytes]]] = []
        self.scopes: list[Message] = []
        self.messages: list[int] = []
        self.left: list[Message] = []
        self.go = asyncio.Event()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One handler for each kind."""
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await self.websocket(scope, receive, send)
            return
        body, more = b"", scope["path"] != "/early"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.append(message)
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.seen.append((scope["method"], scope["path"], body))
        self.headers.append(scope["headers"])
        if scope["path"] == "/wait":
            await self.go.wait()
        await answer(send, b"x" * 20_000_000 if scope["path"] == "/large" else scope["path"].encode())

    async def websocket(self, scope: Message, receive: Receive, send: Send) -> None:
        """Accept, unless the path says otherwise, and echo lengths."""
        await receive()
        if scope["path"] == "/nothing":
            return
        if scope["path"] == "/refuse":
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept"})
        if scope["path"] == "/busy":
            await self.go.wait()
        while scope["path"] == "/talk":
            await send({"type": "websocket.send", "bytes": bytes(65536)})
        while (message := await receive())["type"] == "websocket.receive":
            data = message.get("bytes")
            self.messages.append(len(message["text"].encode() if data is None else data))
            await send({"type": "websocket.send", "text": str(self.messages[-1])})
        self.left.append(message)


class Client:
    """The other end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        host, port = (writer.get_extra_info("sockname") or ("-", 0))[:2]
        self.name = f"{host}:{port}"
        self._inflate = zlib.decompressobj(wbits=-15)

    def send(self, data: bytes) -> None:
        """Send without waiting."""
        self.writer.write(data)

    async def head(self) -> bytes:
        """The head of the next answer."""
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE)

    async def answer(self) -> tuple[int, bytes, bytes]:
        """The next whole answer: its status, its head, its body."""
        head = await self.head()
        length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
        body = await asyncio.wait_for(self.reader.readexactly(int(length)), PATIENCE) if length else b""
        return int(head.split()[1]), head, body

    async def rest(self) -> bytes:
        """All until the end of the connection."""
        try:
            return await asyncio.wait_for(self.reader.read(), PATIENCE)
        except ConnectionResetError:
            return b""

    async def answers(self) -> list[tuple[int, bytes]]:
        """Status and body of all answers until the end of the connection."""
        found, stream = [], await self.rest()
        while stream:
            head, _, stream = stream.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
            assert len(stream) >= length, head
            found.append((int(head.split()[1]), stream[:length]))
            stream = stream[length:]
        return found

    async def frame(self) -> tuple[int, bytes]:
        """The next frame of a server."""
        first, size = await asyncio.wait_for(self.reader.readexactly(2), PATIENCE)
        if size > 125:
            form = ">H" if size == 126 else ">Q"
            (size,) = struct.unpack(form, await self.reader.readexactly(struct.calcsize(form)))
        payload = await asyncio.wait_for(self.reader.readexactly(size), PATIENCE)
        if first & 64:
            payload = self._inflate.decompress(payload + b"\x00\x00\xff\xff")
        return first & 15, payload

    async def close_code(self) -> int:
        """The code of the close frame, whatever comes before it; then the connection ends."""
        opcode, payload = await self.frame()
        while opcode != 8:
            opcode, payload = await self.frame()
        await self.rest()
        return int.from_bytes(payload[:2], "big")

    def close(self, *, reset: bool = False) -> None:
        """Leave; with a reset the other end is told that nothing will be taken any more."""
        if reset and not self.writer.is_closing():
            connection = self.writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Worker:
    """The server of one worker, without gunicorn. ``bounds`` are those of the guard."""

    def __init__(
        self, application: Application, directory: Path | None = None, notice: Path | None = None, **bounds: Any
    ) -> None:
        self.config = Config(
            application,
            lifespan="off",
            log_config=None,
            timeout_keep_alive=30,
            forwarded_allow_ips=bounds.get("trusted"),
        )
        self.config.load()
        upstream.translate_forwarded(self.config.loaded_app, peers.unmapped)
        self.config.loaded_app = RequestContext(self.config.loaded_app)
        self.guard = Guard(**bounds)
        self.config.http_protocol_class = functools.partial(GuardedProtocol, self.guard)  # type: ignore[assignment]
        self.shares = Shares()
        self.server = DrainingServer(
            self.config, 0.5, 60, self.guard, self.shares, Door(self.config, notice, self.shares)
        )
        self.server.lifespan = self.config.lifespan_class(self.config)
        self.connections = self.server.server_state.connections
        self._clients: list[Client] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._private = socket.socket(socket.AF_UNIX)
        self._path = str(directory / "main.sock") if directory else ""
        if directory:
            self._private.bind(self._path)
            self._private.listen()

    async def __aenter__(self) -> Self:
        """Serve."""
        await self.server.startup([self._listener, self._private] if self._path else [self._listener])
        return self

    async def __aexit__(self, *_: object) -> None:
        """End at once."""
        for client in self._clients:
            client.close()
        for server in self.server.servers:
            server.close()
        for connection in list(self.connections):
            connection.transport.abort()
        await until(lambda: not self.connections, "no connection is left")
        self._listener.close()
        self._private.close()

    def address(self) -> tuple[str, int]:
        """The public one."""
        host, port = self._listener.getsockname()
        return host, port

    async def connect(self, data: bytes = b"", *, private: bool = False, limit: int = 2**25) -> Client:
        """A client that has sent this."""
        if private:
            streams = await asyncio.open_unix_connection(self._path, limit=limit)
        else:
            streams = await asyncio.open_connection(*self._listener.getsockname(), limit=limit)
        client = Client(*streams)
        self._clients.append(client)
        client.send(data)
        return client

    async def websocket(self, path: bytes = b"/", offer: bytes = b"", **options: Any) -> Client:
        """A client whose handshake was answered with 101."""
        client = await self.connect(handshake(path, offer), **options)
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        return client

    async def pass_time(self, seconds: float) -> None:
        """Put the clock forward, and look as often as a worker does."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        for _ in range(int(seconds) + 1):
            loop.ahead += seconds / (int(seconds) + 1)
            self.guard.look(self.connections, loop.time())
            await asyncio.sleep(0)


def handshake(path: bytes = b"/", more: bytes = b"") -> bytes:
    """A client's opening of a WebSocket."""
    return (
        b"GET %b HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%b\r\n" % (path, more)
    )


def frame(opcode: int, payload: bytes = b"", *, is_last: bool = True, is_compressed: bool = False) -> bytes:
    """A client's frame, with a mask that changes nothing."""
    first, size = 128 * is_last | 64 * is_compressed | opcode, len(payload)
    if size < 126:
        head = bytes((first, 128 | size))
    elif size < 65536:
        head = struct.pack(">BBH", first, 254, size)
    else:
        head = struct.pack(">BBQ", first, 255, size)
    return head + bytes(4) + payload
