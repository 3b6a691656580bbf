"""The metrics of an application for who asks for them by HTTP, in a service of its own that systemd starts for that."""

import argparse
import contextlib
import socket
import threading
import time

from appctl import exposition, measuring
from appctl.app import App

IDLE = 300.0
"""Seconds without a question after which it ends. systemd starts it with the next one."""

WHOLE = 5.0
"""Seconds that a client has for its question, and for taking the answer."""

ASKING = 8
"""Clients at a time. The others wait in the queue."""

HEAD = 8192
"""Bytes of a question."""


def command_metrics(app: App, arguments: argparse.Namespace) -> dict[str, object]:
    """Print the metrics in Prometheus's form. With --serve: answer on the socket that is the standard input."""
    if not arguments.serve:
        text = exposition.written(measuring.families(app), openmetrics=False)
        if not arguments.json:
            print(text, end="")
        return {"metrics": text}
    with socket.socket(fileno=0) as listener:
        serve(app, listener, IDLE)
    return {}


def serve(app: App, listener: socket.socket, idle: float) -> None:
    """Answer until nobody has asked for `idle` seconds."""
    listener.settimeout(idle)
    room = threading.BoundedSemaphore(ASKING)
    while True:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            return
        except OSError:
            time.sleep(0.1)  # it has gone already, or there is no descriptor left
            continue
        room.acquire()
        threading.Thread(target=_attend, args=(app, connection, room), daemon=True).start()


def _attend(app: App, connection: socket.socket, room: threading.BoundedSemaphore) -> None:
    try:
        with connection, contextlib.suppress(OSError, TimeoutError):
            deadline = time.monotonic() + WHOLE
            head = b""
            while b"\r\n\r\n" not in head and len(head) <= HEAD:
                connection.settimeout(max(deadline - time.monotonic(), 0.001))
                piece = connection.recv(HEAD)
                if not piece:
                    return
                head += piece
            connection.settimeout(WHOLE)
            connection.sendall(answer(app, head))
            connection.shutdown(socket.SHUT_WR)
    finally:
        room.release()


def answer(app: App, head: bytes) -> bytes:
    """The answer to a question."""
    first, *rest = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    method, _, target = first.partition(" ")
    path = target.partition(" ")[0].partition("?")[0]
    pairs = [line.partition(":") for line in rest]
    accept = ",".join(value for name, _, value in pairs if name.strip().lower() == "accept")
    status, kind, body = "200 OK", exposition.TEXT, ""
    if method not in ("GET", "HEAD"):
        status, body = "405 Method Not Allowed", "GET /metrics\n"
    elif path != "/metrics":
        status, body = "404 Not Found", "They are at /metrics\n"
    else:
        openmetrics = exposition.wants_openmetrics(accept)
        kind = exposition.OPENMETRICS if openmetrics else exposition.TEXT
        body = exposition.written(measuring.families(app), openmetrics)
    content = body.encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(content)}", "Connection: close"]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode() + (b"" if method == "HEAD" else content)


def add_metrics(command: argparse.ArgumentParser) -> None:
    command.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
