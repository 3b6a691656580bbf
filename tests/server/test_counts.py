"""Requests are counted where their answers begin, whatever is logged, and whatever becomes of the workers."""

import asyncio
import time
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from typing import Any

import pytest
from gunicorn_fastapi.counts import PERIOD, SUMS, Counts
from gunicorn_fastapi.log import RequestContext
from journals import SCOPE
from servers import eventually
from services import Service, UnixConnection


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
        table.count(failed=False)
        table.count(failed=True)
    clock.now += 7
    assert table.lately() == (10, 5, 7)


def test_the_last_minutes_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    table = Counts()
    for _ in range(4 * SUMS):  # one request in a period; each third call comes late
        for late in (0.1, 0.2, 9.0):
            clock.now += late
            table.sum_up()
        table.count(failed=True)
        clock.now += PERIOD - 9.3
        answered, failed, seconds = table.lately()
        assert answered == failed
        assert abs(answered * PERIOD - seconds) <= PERIOD
    assert (SUMS - 2) * PERIOD <= seconds <= SUMS * PERIOD


def test_without_a_sum_of_late_the_last_one_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    table = Counts()
    clock.now += PERIOD
    table.count(failed=False)
    table.sum_up()
    table.count(failed=False)
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


@pytest.mark.parametrize(
    ("statuses", "leaves", "counted"),
    [
        ([200], False, [False]),
        ([404], False, [False]),
        ([500], False, [True]),
        ([503, 200], False, [True]),
        ([500], True, [False]),
        ([], False, [True]),
        ([], True, [False]),
    ],
)
@pytest.mark.parametrize("raises", [False, True])
def test_each_request_is_counted_once(statuses: list[int], leaves: bool, counted: list[bool], raises: bool) -> None:
    told: list[bool] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        for status in statuses:
            await send({"type": "http.response.start", "status": status})
        if raises:
            raise LookupError

    with suppress(LookupError):
        asyncio.run(RequestContext(app, told.append)(SCOPE, None, Cycle(leaves).send))
    assert told == counted


def test_what_is_no_request_is_not_counted() -> None:
    told: list[bool] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    for kind in ("websocket", "lifespan"):
        asyncio.run(RequestContext(app, told.append)({**SCOPE, "type": kind}, None, Cycle(False).send))
    assert not told


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
