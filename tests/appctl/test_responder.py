"""The responder answers everybody, whatever they send, and loses nobody when it stops."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from appctl import responder

PROGRAM = Path(responder.__file__)


class Responder:
    """A responder on a port of its own, as systemd starts it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.page("<h1>closed</h1>")
        self.listener = socket.create_server(("127.0.0.1", 0))
        number = self.listener.fileno()
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(directory / "notify"))
        self.notify.settimeout(30)
        words = [sys.executable, "-IS", str(PROGRAM), str(directory)]
        start = f"import os; os.dup2({number}, 3); os.execv({words[0]!r}, {words!r})"
        self.process = subprocess.Popen(
            [sys.executable, "-c", start],
            pass_fds=[number],
            env={"LISTEN_FDS": "1", "NOTIFY_SOCKET": str(directory / "notify")},
            stdout=subprocess.PIPE,
        )
        assert self.notify.recv(100) == b"READY=1"

    def page(self, text: str, retry_after: object = 60) -> None:
        (self.directory / "page").write_text(text)
        (self.directory / "state.json").write_text(json.dumps({"retry_after": retry_after}))

    def connect(self) -> socket.socket:
        return socket.create_connection(self.listener.getsockname(), timeout=30)

    def ask(self, request: bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") -> tuple[bytes, bytes]:
        """The head and the body of the answer to a request."""
        with self.connect() as client:
            client.sendall(request)
            return received(client)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.notify.close()
        self.listener.close()


def received(client: socket.socket) -> tuple[bytes, bytes]:
    """Everything until the end. An end by a reset would raise."""
    found = b""
    while piece := client.recv(65536):
        found += piece
    head, _, body = found.partition(b"\r\n\r\n")
    return head, body


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Responder]:
    started = Responder(tmp_path)
    yield started
    started.end()


def test_everybody_gets_the_page(closed: Responder) -> None:
    head, body = closed.ask()
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html; charset=utf-8\r\n")
    for line in (b"Retry-After: 60", b"Connection: close", b"Cache-Control: no-store", b"Content-Length: 15"):
        assert line in head.split(b"\r\n")
    assert body == b"<h1>closed</h1>"
    assert closed.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")[1] == b""
    with closed.connect() as client:  # in pieces
        client.sendall(b"GET / HTTP/1.1\r\n")
        client.sendall(b"Host: a\r\n\r\n")
        assert received(client)[1] == body
    assert closed.ask(b"GET /" + b"x" * responder.HEAD)[1] == body  # a head without an end


def test_who_still_sends_a_body_gets_it_too(closed: Responder) -> None:
    """A connection that is closed with unread bytes is reset, and the answer is lost with it."""
    size = 4 * 1024 * 1024
    for _ in range(5):
        head, body = closed.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        assert (head[:12], body) == (b"HTTP/1.1 503", b"<h1>closed</h1>")


def test_it_answers_whom_it_has_accepted_and_leaves_the_others_in_the_queue(closed: Responder) -> None:
    with closed.connect() as accepted:
        accepted.sendall(b"GET / HTTP/1.1\r\n")
        closed.ask()  # whoever came before has been accepted, too
        closed.process.send_signal(signal.SIGTERM)
        accepted.sendall(b"Host: a\r\n\r\n")
        assert received(accepted)[1] == b"<h1>closed</h1>"
    assert closed.process.wait(30) == 0
    with closed.connect() as late:
        late.sendall(b"for the next one")
        connection, _ = closed.listener.accept()
        with connection:
            connection.settimeout(30)
            assert connection.recv(100) == b"for the next one"


def test_the_page_is_replaced(closed: Responder) -> None:
    closed.page("closed until noon", 3600)
    closed.process.send_signal(signal.SIGHUP)
    head, body = closed.ask()
    while body != b"closed until noon":
        head, body = closed.ask()
    assert b"Content-Type: text/plain; charset=utf-8" in head
    assert b"Retry-After: 3600" in head
    closed.page("closed for ever", "soon")
    closed.process.send_signal(signal.SIGHUP)
    assert closed.process.stdout
    assert closed.process.stdout.readline().startswith(b"<3>the page of the maintenance cannot be read: ")
    assert closed.ask()[1] == b"closed until noon"
