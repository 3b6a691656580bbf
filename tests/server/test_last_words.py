"""What is said of a worker that is killed: where it was, and what it held."""

import logging
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPException

import pytest
from gunicorn_fastapi.last_words import MOST, SIZE, SLOTS, LastWords
from gunicorn_fastapi.log import Request
from servers import eventually
from services import Service, UnixConnection

# /sleep and /regex let nobody else have the loop; the latter not even another thread the interpreter.
BLOCKING = """
import asyncio, re, threading, time

def meanwhile():
    threading.Event().wait()

threading.Thread(target=meanwhile, daemon=True).start()

def sleep():
    time.sleep(1000)

def regex():
    re.match(r"(a+)+$", "a" * 60 + "b")

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    path = scope["path"]
    if path == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await asyncio.sleep(1000)
    if path.startswith("/wait"):
        print("WAITING", flush=True)
        await asyncio.sleep(1000)
    if path in ("/sleep", "/regex"):
        {"/sleep": sleep, "/regex": regex}[path]()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})
"""


def ask(service: Service, path: str) -> None:
    """Ask, and get no answer."""

    def unanswered() -> None:
        with suppress(OSError, HTTPException):
            service.get(path)

    threading.Thread(target=unanswered, daemon=True).start()


@pytest.mark.parametrize("how", ["sleep", "regex"])
def test_a_blocked_worker_leaves_its_stacks_and_its_requests(service: Service, how: str) -> None:
    server = service.start(BLOCKING, workers=1, settings={"timeout": 2})
    server.wait_for("Started server")
    first = next(iter(server.children()))
    assert service.get("/")[0] == 200
    ask(service, "/wait/r%C3%A9sum%C3%A9?a=b")
    server.wait_for("WAITING")
    ask(service, "/stream")
    server.wait_for('"GET /stream HTTP/1.1" 200')
    ask(service, f"/{how}")
    server.wait_for("did nothing for 2 s")
    server.wait_for("Started server", times=2)
    server.stop()
    record = server.output.partition(f"Worker (pid:{first}) did nothing for 2 s (timeout) and was killed. ")[2]
    about = r"\([0-9a-f]{16}, \d+\.\d s"
    assert re.match(
        rf"It held 3 request\(s\): GET /wait/r%C3%A9sum%C3%A9 {about}\), GET /stream {about}, response begun\), "
        rf"GET /{how} {about}\)\. It was in:\n",
        record,
    )
    stacks = record[: record.index('"GET /')]
    assert f'main.py", line {10 if how == "sleep" else 13} in {how}\n' in stacks.replace(", in", " in")
    assert "in meanwhile\n" in stacks.replace(", in", " in")
    assert server.output.count('"GET /wait/r%C3%A9sum%C3%A9?a=b HTTP/1.1" 502') == 1
    assert server.output.count(f'"GET /{how} HTTP/1.1" 502') == 1
    assert server.output.count('"GET /stream HTTP/1.1"') == 1


def test_a_worker_that_is_killed_leaves_its_requests(service: Service) -> None:
    server = service.start(BLOCKING, workers=1)
    server.wait_for("Started server")
    ask(service, "/wait")
    server.wait_for("WAITING")
    first = next(iter(server.children()))
    os.kill(first, signal.SIGKILL)
    server.wait_for(f"Worker (pid:{first}) has died while it held 1 request(s): GET /wait (")
    server.wait_for('"GET /wait HTTP/1.1" 502')
    server.wait_for("Started server", times=2)
    with closing(UnixConnection(str(service.directory / "main.sock"))) as connection:
        connection.request("GET", "/")
        assert (connection.getresponse().getheader("x-requests") or "").startswith("1/1/")
    server.stop()


def test_a_worker_that_leaves_in_order_has_nothing_to_say(service: Service) -> None:
    server = service.start(BLOCKING, workers=1, settings={"timeout": 2, "max_requests": 2})
    server.wait_for("Started server")
    for _ in range(2):
        assert service.get("/")[0] == 200
    server.wait_for("Worker exiting")
    eventually(lambda: service.workers() == "1/1", "the next one serves")
    server.stop()
    assert "It was in" not in server.output
    assert "has died" not in server.output


@pytest.fixture
def words() -> Iterator[LastWords]:
    made = LastWords(30)
    yield made
    made.close()


def scope(path: str, **more: object) -> dict[str, object]:
    return {
        "method": "GET", "path": path, "query_string": b"", "client": ("192.0.2.1", 5), "http_version": "1.1", **more
    }  # fmt: skip


def test_what_has_ended_is_not_told(words: LastWords, caplog: pytest.LogCaptureFixture) -> None:
    slots = [words.begin(scope(f"/{number}"), Request("x")) for number in range(3)]
    for slot in slots:
        words.has_begun(slot)
        words.end(slot)
    words.tell(7, was_given_up=False, log=logging.getLogger("gunicorn.error"))
    assert caplog.records == []
    words.end(words.begin(scope("/long"), Request("x")))
    words.begin(scope("/b"), Request("x"))
    words.tell(7, was_given_up=False, log=logging.getLogger("gunicorn.error"))
    assert "held 1 request(s): GET /b (x, " in caplog.text


def test_more_than_there_is_room_for(words: LastWords, caplog: pytest.LogCaptureFixture) -> None:
    slots = [words.begin(scope("/a"), Request("x")) for _ in range(SLOTS + 5)]
    assert len(set(slots)) == SLOTS + 1
    caplog.set_level(logging.INFO)
    words.tell(7, was_given_up=True, log=logging.getLogger("gunicorn.error"))
    assert f"held {SLOTS} request(s): " in caplog.text
    assert f", and {SLOTS - MOST} more. It was in:\n?" in caplog.text
    for slot in slots:
        words.has_begun(slot)
        words.end(slot)
    assert {words.begin(scope("/a"), Request("x")) for _ in range(SLOTS)} == set(slots) - {-1}


@pytest.mark.parametrize(
    "odd",
    [
        scope("/" + SIZE * "x"), scope("/" + SIZE * "\U0001f600"), scope("/", query_string=SIZE * b"x"),
        scope("/", client=(SIZE * "x", 0)), scope("/", client=None), scope("/a\0\x85\n% %s"),
        {"path": "/", "query_string": b"", "client": ("::1", 1), "http_version": "1.1"},
    ],
)  # fmt: skip
def test_odd_requests_have_a_place_and_a_form(
    words: LastWords, odd: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        words.begin(odd, Request(128 * "i"))
    words.tell(7, was_given_up=False, log=logging.getLogger("gunicorn.error"))
    (record,) = caplog.records
    assert "held 2 request(s): " in record.getMessage()
    assert record.getMessage().isprintable()
    assert len(record.getMessage()) < 1500
