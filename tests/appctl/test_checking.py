"""What an instance has to answer beside its health path."""

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from appctl import checking, probe
from appctl.checking import NOWHERE, Check
from appctl.process import CtlError

ITEMS = Check("/items", 0, "localhost", "", {})


@contextlib.contextmanager
def serving(tmp_path: Path, answers: dict[str, list[bytes]]) -> Iterator[tuple[Path, list[bytes]]]:
    """An instance that gives each path its answers, the last one for ever; its address, and what it was asked."""
    asked: list[bytes] = []
    address = tmp_path / "main.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address))
    listener.listen()

    def serve() -> None:
        while True:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    request = connection.recv(4096)
                    if not request:
                        return
                    asked.append(request)
                    given = answers[request.split()[1].decode()]
                    connection.sendall(given.pop(0) if len(given) > 1 else given[0])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield address, asked
    finally:
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(address))
        thread.join(60)
        listener.close()
        assert not thread.is_alive()


def answer(status: int, body: bytes = b"", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def verify(address: Path, *checks: Check, timeout: float = 30) -> None:
    checking.verify(address, list(checks), timeout, os.getpid())


def test_what_holds_is_asked_as_it_says(tmp_path: Path) -> None:
    answers = {"/items": [answer(200, b'{"apple": 1}')], "/admin": [answer(401)]}
    with serving(tmp_path, answers) as (address, asked):
        verify(
            address,
            Check("/items", 0, "https://shop.example.com", "apple", {"Accept": "text/json"}),
            Check("/admin", 401, "localhost", "", {}),
        )
    assert b"Host: shop.example.com\r\n" in asked[0]
    assert b"X-Forwarded-Proto: https\r\nAccept: text/json\r\n\r\n" in asked[0]


@pytest.mark.parametrize(
    ("check", "given", "said"),
    [
        (ITEMS, answer(500, b"no database"), "answered 500, and 2xx was expected"),
        (ITEMS._replace(status=401), answer(200), "answered 200, and 401 was expected"),
        (ITEMS._replace(status=503), answer(200), "answered 200, and 503 was expected"),
        (ITEMS._replace(contains="apple"), answer(200, b"pear"), 'answered 200 without "apple"'),
        (ITEMS._replace(contains="a\x1bb"), answer(200), 'answered 200 without "a\\u001bb"'),
    ],
)
def test_what_fails_is_named_with_what_was_got(tmp_path: Path, check: Check, given: bytes, said: str) -> None:
    answers = {"/healthy": [answer(200)], "/items": [given]}
    with serving(tmp_path, answers) as (address, _), pytest.raises(probe.UnhealthyError) as failure:
        verify(address, ITEMS._replace(path="/healthy"), check)
    assert str(failure.value) == f"check 2 of gunicorn_fastapi_checks, GET /items: {said}"
    body = given.partition(b"\r\n\r\n")[2].decode()
    assert failure.value.details == f"(asked with Host: localhost{f'; body: {body}' if body else ''})"


def test_a_text_is_found_in_the_whole_of_a_body_that_comes_in_pieces(tmp_path: Path) -> None:
    pieces = b"".join(b"%x;x=y\r\n%b\r\n" % (len(piece), piece) for piece in (b"x" * 3000 + b"ap", b"ple", b""))
    given = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces
    with serving(tmp_path, {"/items": [given]}) as (address, _):
        verify(address, ITEMS._replace(contains="apple"))


def test_503_is_not_yet(tmp_path: Path) -> None:
    with serving(tmp_path, {"/items": [answer(503), answer(503), answer(200)]}) as (address, asked):
        verify(address, ITEMS)
        assert len(asked) == 3


def test_503_is_not_yet_for_ever(tmp_path: Path) -> None:
    with (
        serving(tmp_path, {"/items": [answer(503)]}) as (address, _),
        pytest.raises(CtlError, match=r"GET /items: answered 503, and 2xx was expected, within 0\.3 s$"),
    ):
        verify(address, ITEMS, timeout=0.3)


def test_nothing_is_asked_of_an_instance_that_has_exited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(probe, "own_main", gone)
    with pytest.raises(CtlError, match=r"GET /items: gunicorn exited before it was answered$"):
        verify(tmp_path / "none.sock", ITEMS)


def test_the_file_of_a_release_gives_the_host_where_a_check_has_none(tmp_path: Path) -> None:
    file = tmp_path / "checks.json"
    listed = {"path": "/", "status": 0, "host": "", "contains": "", "headers": {}}
    file.write_text(json.dumps([listed, {**listed, "host": "b"}]))
    assert [check.host for check in checking.read(file, "a")] == ["a", "b"]
    file.write_text("[1]")
    with pytest.raises(CtlError, match=r"cannot be read from .*Deploy it again"):
        checking.read(file, "a")


PAGE = answer(200, b"<html>1", "Content-Type: text/html; charset=utf-8\r\nX-Paths: /healthz /api/health\r\n")


@pytest.mark.parametrize(
    ("health", "nowhere"), [(answer(200, b"null"), answer(200, b"null")), (PAGE, PAGE.replace(b">1", b">2"))]
)
def test_what_answers_any_path_is_no_health_path(tmp_path: Path, health: bytes, nowhere: bytes) -> None:
    answers = {"/healthz": [health], NOWHERE: [nowhere]}
    with serving(tmp_path, answers) as (address, _), pytest.raises(probe.UnhealthyError) as failure:
        checking.refuse_fallback(address, "/healthz", "localhost", 30)
    assert "which cannot exist" in str(failure.value)
    assert ("path of its own: /api/health, add" in failure.value.details) == (health == PAGE)


@pytest.mark.parametrize("nowhere", [answer(404), answer(200, b"other"), answer(500), answer(302)])
def test_what_answers_another_path_otherwise_is_one(tmp_path: Path, nowhere: bytes) -> None:
    with serving(tmp_path, {"/healthz": [answer(200, b"{}")], NOWHERE: [nowhere]}) as (address, asked):
        checking.refuse_fallback(address, "/healthz", "localhost", 30)
        assert len(asked) == 2
