"""One question to the health path: its answer has an end, and says what it can."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from appctl.exchange import BODY, HEALTHY, NOT_YET, UNHEALTHY, Answer, ask, details, verdict


@pytest.fixture
def address(tmp_path: Path) -> Path:
    return tmp_path / "main.sock"


@contextlib.contextmanager
def serving(address: Path, serve: Callable[[socket.socket], None]) -> Iterator[list[bytes]]:
    """An instance that treats one connection like this; gives what it was asked."""
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen()

        def accept() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                asked.append(connection.recv(4096))
                serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield asked
        finally:
            thread.join(60)
            assert not thread.is_alive()


def sends(*pieces: bytes) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)

    return serve


def trickles(head: bytes) -> Callable[[socket.socket], None]:
    """A byte each hundredth of a second, for as long as somebody reads."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                connection.settimeout(0.01)
                if not connection.recv(1):
                    return

    return serve


def floods(head: bytes) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(b"x" * 65536)

    return serve


@pytest.mark.parametrize(
    ("host", "lines"),
    [
        ("localhost", [b"Host: localhost"]),
        ("shop.example.com:8443", [b"Host: shop.example.com:8443"]),
        ("https://shop.example.com", [b"Host: shop.example.com", b"X-Forwarded-Proto: https"]),
    ],
)
def test_the_request_names_the_host_and_looks_like_tls_where_that_is_meant(
    address: Path, host: str, lines: list[bytes]
) -> None:
    with serving(address, sends(b"HTTP/1.1 204 No Content\r\n\r\n")) as asked:
        assert ask(address, "/healthz?full=1", host).status == 204
    head = [b"GET /healthz?full=1 HTTP/1.1", *lines, b"User-Agent: health", b"Connection: close", b"", b""]
    assert sorted(asked[0].split(b"\r\n")) == sorted(head)


@pytest.mark.parametrize(
    ("pieces", "status", "body"),
    [
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",), 200, ""),
        ((b"HTTP/1.0 404 Not", b" Found\r\n\r", b"\n", b"no such", b" page"), 404, "no such page"),
        ((b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 500 X\r\n\r\nbad",), 500, "bad"),
        ((b"HTTP/1.1 500 X\r\nContent-Length: 3\r\n\r\nbad and more",), 500, "bad and more"),
        ((b"",), 0, ""),
        ((b"HTTP/1.1 20",), 0, ""),
        ((b"SSH-2.0-OpenSSH\r\n\r\n",), 0, ""),
        ((b"HTTP/1.1 999999 X\r\n\r\n",), 0, ""),
        ((b"HTTP/2 200\r\n\r\n",), 0, ""),
        ((b"\xff\x00\r\n\r\n",), 0, ""),
        ((b"HTTP/1.1 500 X\r\nContent-Length: 9999999999999999999999\r\n\r\n\x1b[31m\xff",), 500, "\\x1b[31m\ufffd"),
    ],
)
def test_an_answer_is_read(address: Path, pieces: tuple[bytes, ...], status: int, body: str) -> None:
    with serving(address, sends(*pieces)):
        answer = ask(address, "/healthz", timeout=30)
    assert (answer.status, answer.body) == (status, body)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"", 0),
        (b"HTTP/1.1 20", 0),
        (b"HTTP/1.1 200 OK\r\nX: ", 0),
        (b"HTTP/1.1 200 OK\r\n\r\n", 200),
        (b"HTTP/1.1 500 X\r\n\r\n", 500),
        (b"HTTP/1.1 500 X\r\nContent-Length: 100000\r\n\r\n", 500),
    ],
)
def test_an_answer_that_trickles_has_an_end(address: Path, head: bytes, status: int) -> None:
    with serving(address, trickles(head)):
        assert ask(address, "/healthz", timeout=1).status == status


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 500 X\r\n\r\n", b"HTTP/1.1 500 X\r\nX: "])
def test_an_answer_without_an_end_is_left(address: Path, head: bytes) -> None:
    with serving(address, floods(head)):
        answer = ask(address, "/healthz", timeout=600)
    assert answer.status == (500 if head else 0)
    assert len(answer.body) <= BODY


def test_interim_answers_alone_are_none(address: Path) -> None:
    def serve(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")

    with serving(address, serve):
        assert ask(address, "/healthz", timeout=0.5).status == 0


def test_nobody_who_listens_and_a_full_queue_are_errors_at_once(address: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ask(address, "/healthz", timeout=600)
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as waiting:
        listener.bind(str(address))
        with pytest.raises(ConnectionRefusedError):
            ask(address, "/healthz", timeout=600)
        listener.listen(0)
        first = waiting.enter_context(socket.socket(socket.AF_UNIX))
        first.connect(str(address))
        with pytest.raises(BlockingIOError):
            ask(address, "/healthz", timeout=600)


@pytest.mark.parametrize(
    ("status", "says"),
    [(200, HEALTHY), (204, HEALTHY), (299, HEALTHY), (503, NOT_YET), (0, NOT_YET)]
    + [(status, UNHEALTHY) for status in (199, 301, 304, 400, 404, 500, 502, 504, 999)],
)
def test_there_is_one_verdict(status: int, says: str) -> None:
    assert verdict(status) == says


@pytest.mark.parametrize(
    ("status", "location", "host", "told"),
    [
        (400, "", "localhost", "Set gunicorn_fastapi_health_host to one that it does"),
        (307, "https://localhost/healthz", "localhost", "gunicorn_fastapi_health_host: https://localhost"),
        (301, "https://shop.example.com/healthz", "localhost", "health_host: https://shop.example.com"),
        (301, "http://shop.example.com/healthz", "localhost", "gunicorn_fastapi_health_host to it"),
        (307, "http://localhost/healthz/", "localhost", "The path is /healthz/. Set gunicorn_fastapi_health_path"),
        (307, "/healthz/", "localhost", "The path is /healthz/. Set gunicorn_fastapi_health_path"),
        (302, "/login?next=/healthz", "localhost", "requires authentication"),
        (303, "https://shop.example.com/login", "https://shop.example.com", "requires authentication"),
        (302, "", "localhost", "requires authentication"),
        (302, "https://login.example.com/?next=%2Fhealthz", "localhost", "requires authentication"),
        (302, "//sso.example.com/healthz/login", "localhost", "requires authentication"),
        (302, "https://localhost/", "localhost", "requires authentication"),
        (302, "https://[::1", "localhost", "redirects to what was asked for"),
        (308, "https://localhost:8443/healthz/?a=b", "localhost", "health_host: https://localhost:8443"),
        (301, "//www.shop.example.com/healthz", "localhost", "to the host www.shop.example.com. Set"),
        (301, "https://www.shop.example.com/healthz", "https://shop.example.com", "to the host www.shop.example.com"),
        (307, "healthz/", "localhost", "The path is /healthz/. Set gunicorn_fastapi_health_path"),
        (301, "http://shop.example.com/healthz", "https://shop.example.com", "health_host: shop.example.com"),
        (301, "https://shop.example.com/healthz", "https://shop.example.com", "redirects to what was asked for"),
        (429, "", "localhost", "limits the rate of this path"),
        (401, "", "localhost", "requires authentication"),
        (404, "", "localhost", "does not have this path"),
        (405, "", "localhost", "does not accept GET"),
    ],
)
def test_what_is_likely_behind_an_answer_is_said(status: int, location: str, host: str, told: str) -> None:
    answer = Answer(f"HTTP/1.1 {status} X\r\nLOCATION: {location}".encode(), b"Invalid host header")
    said = details(answer, "/healthz", host)
    assert told in said
    assert said.startswith(f"(asked with Host: {host.removeprefix('https://')}")
    assert "body: Invalid host header)" in said
    assert f"Location: {location}" in said or not location


def test_what_is_shown_of_an_answer_is_safe_to_show() -> None:
    answer = Answer("HTTP/1.1 302 X\r\nLocation: \x9b31m\r\n".encode("latin-1"), "a\n\u202e\x1b[2J".encode())
    assert details(answer, "/", "localhost").startswith(
        "(asked with Host: localhost; Location: \\x9b31m; body: a\\n\\u202e\\x1b[2J)"
    )
