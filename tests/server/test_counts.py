"""Requests are counted where their answers begin, whatever is logged, and whatever becomes of the workers."""

import asyncio
import sys
import time
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest
from gunicorn_fastapi.counts import CELLS, PERIOD, REFUSED, SUMS, Apart, Counts
from gunicorn_fastapi.log import RequestContext
from gunicorn_fastapi.log.leaving import LEFT
from journals import SCOPE
from servers import eventually
from services import Service, UnixConnection
from wires import Witness, Worker, run, until


class Clock:
    """The monotonic clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def test_all_workers_count_and_none_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    table = Counts()
    for number in (1, 2, 1023, 1024, 1025):  # the last one has the row of the first
        table.join(number)
        table.count("GET", 200)
        table.count("POST", 503)
    clock.now += 7
    assert table.lately() == (10, 5, 7)


def test_the_last_minutes_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    table = Counts()
    for _ in range(4 * SUMS):  # one request in a period; each third call comes late
        for late in (0.1, 0.2, 9.0):
            clock.now += late
            table.sum_up()
        table.count("GET", 500)
        clock.now += PERIOD - 9.3
        answered, failed, seconds = table.lately()
        assert answered == failed
        assert abs(answered * PERIOD - seconds) <= PERIOD
    assert (SUMS - 2) * PERIOD <= seconds <= SUMS * PERIOD


def test_without_a_sum_of_late_the_last_one_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    table = Counts()
    clock.now += PERIOD
    table.count("GET", 200)
    table.sum_up()
    table.count("GET", 200)
    clock.now += 10_000  # nobody has had time for one
    assert table.lately() == (1, 0, 10_000)


class Cycle:
    """A request of uvicorn."""

    access_log = False
    response_started = False

    def __init__(self, disconnected: bool) -> None:
        self.disconnected = disconnected

    async def send(self, _message: Any) -> None:
        """The answer goes on its way."""


class Told(Apart):
    """What is told of requests, in its order."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def count(self, method: str, status: int) -> None:
        self.calls.append((method, status))

    def upgraded(self) -> None:
        self.calls.append(("websocket",))

    def sent(self, size: int) -> None:
        self.calls.append(("sent", size))


@pytest.mark.parametrize(
    ("statuses", "leaves", "counted"),
    [
        ([200], False, 200),
        ([404], False, 404),
        ([500], False, 500),
        ([503, 200], False, 503),
        ([500], True, LEFT),
        ([], False, 500),
        ([], True, LEFT),
    ],
)
@pytest.mark.parametrize("raises", [False, True])
def test_each_request_is_counted_once(statuses: list[int], leaves: bool, counted: int, raises: bool) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        for status in statuses:
            await send({"type": "http.response.start", "status": status})
        if raises:
            raise LookupError

    told = Told()
    with suppress(LookupError):
        asyncio.run(RequestContext(app, told)(SCOPE, None, Cycle(leaves).send))
    assert told.calls == [(SCOPE["method"], counted)]


@pytest.mark.parametrize(
    ("method", "leaves", "told"),
    [
        ("GET", False, [("GET", 200), ("sent", 3), ("sent", 0), ("sent", 2)]),
        ("HEAD", False, [("HEAD", 200), *3 * [("sent", 0)]]),
        ("GET", True, [("GET", LEFT), *3 * [("sent", 0)]]),
    ],
)
def test_what_a_client_gets_is_counted(method: str, leaves: bool, told: list[Any]) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        await send({"type": "http.response.body", "more_body": True})
        await send({"type": "http.response.body", "body": b"de"})

    seen = Told()
    asyncio.run(RequestContext(app, seen)({**SCOPE, "method": method}, None, Cycle(leaves).send))
    assert seen.calls == told


def test_an_answer_is_timed_to_its_end(tmp_path: Path) -> None:
    """Each of several that wait for one another; none of who has left, or of root's."""
    ended: list[float] = []
    refused: list[int] = []
    request = b"GET %b HTTP/1.1\r\nHost: shop\r\n\r\n"

    async def test() -> None:
        witness = Witness()
        async with Worker(witness, tmp_path, ended=ended.append, count=refused.append) as worker:
            client = await worker.connect(request % b"/wait" + request % b"/2")
            await until(lambda: bool(witness.seen), "the first runs")
            assert not ended
            witness.go.set()
            assert [(await client.answer())[0] for _ in range(2)] == [200, 200]
            assert len(ended) == 2
            assert all(seconds > 0 for seconds in ended)
            private = await worker.connect(request % b"/", private=True)
            await private.answer()
            witness.go.clear()
            leaver = await worker.connect(request % b"/wait")
            await until(lambda: len(witness.seen) == 4, "it runs")
            before = len(worker.connections)
            leaver.close(reset=True)
            await until(lambda: len(worker.connections) < before, "it has left")
            witness.go.set()
            client.send(b"nonsense\r\n\r\n")
            assert [status for status, _ in await client.answers()] == [400]
        assert len(ended) == 2
        assert refused == [REFUSED]

    run(test())


def test_what_is_no_request_is_not_counted_as_one() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    told = Told()
    for kind in ("websocket", "lifespan"):
        asyncio.run(RequestContext(app, told)({**SCOPE, "type": kind}, None, Cycle(False).send))
    assert told.calls == [("websocket",)]


def test_a_request_takes_no_memory() -> None:
    table = Counts()
    table.join(7)

    def requests(number: int) -> None:
        for _ in range(number):
            table.count("GET", 200)
            table.sent(1000)
            table.end(0.0123)

    requests(100)
    before = sys.getallocatedblocks()
    requests(10_000)
    assert sys.getallocatedblocks() - before < 10


def test_a_table_in_a_file_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "table"
    with pytest.raises(FileNotFoundError):
        Counts().keep_in(path)
    path.write_bytes(b"too short")
    with pytest.raises(OSError, match="another size"):
        Counts().keep_in(path)
    path.write_bytes(bytes(8 * CELLS))
    for requests in (1, 2, 3):  # a reload, or a worker of a reload that is still going on
        table = Counts()
        table.keep_in(path)
        table.join(requests)
        table.count("GET", 500)
        assert table.lately()[:2] == (requests, requests)


LOGGING = """
[loggers]
keys=root
[handlers]
keys=none
[formatters]
keys=
[logger_root]
handlers=none
[handler_none]
class=NullHandler
args=()
"""


@pytest.mark.parametrize("logging", ["of the role", "of the operator"])
def test_the_private_socket_tells_what_clients_were_answered(service: Service, logging: str) -> None:
    settings = {}
    if logging == "of the operator":
        settings["logconfig"] = str(service.directory / "logging.conf")
        (service.directory / "logging.conf").write_text(LOGGING)
    service.start(APPLICATION, workers=2, settings=settings)
    for path, status in (("/", 200), ("/404", 404), ("/503", 503), ("/raise", 500), ("/nothing", 500)):
        assert service.get(path)[0] == status
    assert told(service)[:2] == (5, 3)
    with closing(service.connection()) as connection:
        connection.request("GET", "/die")
        with suppress(HTTPException, OSError):
            connection.getresponse()
    eventually(lambda: told(service)[:2] == (6, 4), "the request that the dead worker had")
    eventually(lambda: service.workers() == "2/2", "the dead worker's successor")
    assert service.get("/")[0] == 200
    assert told(service)[:2] == (7, 4)
    assert told(service)[2] > 0
    assert header(service.connection(), "x-requests") == "1/1/1.0"  # the application's own, to whom it is not ours


def told(service: Service) -> tuple[float, ...]:
    """What the private socket says, after some questions."""
    for _ in range(3):
        said = header(UnixConnection(str(service.directory / "main.sock")), "x-requests")
    return tuple(map(float, said.split("/")))


def header(connection: HTTPConnection, name: str) -> str:
    """All values that an answer has for it."""
    with closing(connection):
        connection.request("GET", "/own")
        return ",".join(connection.getresponse().headers.get_all(name, []))


APPLICATION = """
import os, signal

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    path = scope["path"].strip("/")
    if path == "raise":
        raise RuntimeError
    if path == "nothing":
        return
    if path == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    status = int(path) if path.isdigit() else 200
    headers = [(b"content-length", b"0"), (b"X-Requests", b"1/1/1.0"), (b"X-Workers", b"2/2")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
"""
