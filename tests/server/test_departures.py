"""Workers that leave by plan: one at a time, and each when its successor serves."""

import copy
import logging
import os
import signal
import threading
import time
from contextlib import closing
from http.client import HTTPConnection
from types import SimpleNamespace
from typing import Any, Self

import pytest
from gunicorn_fastapi.departures import LATE, Departures
from gunicorn_fastapi.shared import BOOTING, LEAVING, READY, SPENT, Shares
from servers import PATIENCE, ServerProcess, eventually
from services import Service


class Master:
    """As much of gunicorn's master as has to do with the number of workers."""

    def __init__(self, num_workers: int) -> None:
        self.num_workers = num_workers
        self.WORKERS: dict[int, Any] = {}
        self.told: list[int] = []
        self.age = 0
        self.waited = False
        self.log = logging.getLogger("gunicorn.error")
        self.shares = Shares()
        Departures(self, self.shares)

    def spawn_worker(self) -> None:
        self.age += 1
        self.shares.forget(self.age)
        self.WORKERS[self.age] = SimpleNamespace(age=self.age, pid=self.age, begins=time.monotonic())

    def kill_worker(self, pid: int, number: int) -> None:
        assert number == signal.SIGTERM
        self.told.append(pid)

    def stop(self) -> None:
        for pid in list(self.WORKERS):
            self.kill_worker(pid, signal.SIGTERM)

    def reload(self) -> None:
        for _ in range(self.num_workers):
            self.spawn_worker()
        self.manage_workers()
        self.reap_workers()
        self.waited = True

    def reap_workers(self) -> None:
        pass

    def manage_workers(self) -> None:
        raise NotImplementedError

    # --- What workers do ---

    def are_now(self, state: int, *ages: int) -> None:
        for age in ages:
            worker = copy.copy(self.shares)
            worker.join(age)
            worker.is_now(state)

    def dies(self, age: int) -> None:
        del self.WORKERS[age]
        self.shares.forget(age)


@pytest.fixture
def master() -> Master:
    made = Master(2)
    made.manage_workers()
    assert list(made.WORKERS) == [1, 2]
    made.are_now(READY, 1, 2)
    return made


def test_one_that_asks_goes_when_its_successor_serves(master: Master) -> None:
    master.are_now(SPENT, 2)
    master.manage_workers()
    assert (list(master.WORKERS), master.told) == ([1, 2, 3], [])
    master.manage_workers()
    assert (list(master.WORKERS), master.told) == ([1, 2, 3], [])
    master.are_now(READY, 3)
    master.manage_workers()
    assert (list(master.WORKERS), master.told) == ([1, 2, 3], [2])


def test_the_next_one_waits_until_it_is_gone(master: Master) -> None:
    master.are_now(SPENT, 1, 2)
    master.manage_workers()
    master.are_now(READY, 3)
    master.manage_workers()
    assert master.told == [1]
    master.are_now(LEAVING, 1)
    master.manage_workers()
    assert (list(master.WORKERS), master.told) == ([1, 2, 3], [1])
    master.dies(1)
    master.manage_workers()
    assert (list(master.WORKERS), master.told) == ([2, 3, 4], [1])
    master.are_now(READY, 4)
    master.manage_workers()
    assert master.told == [1, 2]


def test_a_successor_that_dies_gets_one_itself(master: Master) -> None:
    master.are_now(SPENT, 1)
    master.manage_workers()
    master.dies(3)
    master.manage_workers()
    assert (list(master.WORKERS), master.told) == ([1, 2, 4], [])


def test_a_successor_that_does_not_come_up_is_told_once(master: Master, caplog: pytest.LogCaptureFixture) -> None:
    master.are_now(SPENT, 1)
    master.manage_workers()
    master.WORKERS[3].begins -= LATE - 1
    master.manage_workers()
    assert not caplog.records
    master.WORKERS[3].begins -= 2
    for _ in range(3):
        master.manage_workers()
    assert caplog.messages == ["Worker (pid:3) has not come up within 60 s. 2 of 2 workers serve"]
    assert (list(master.WORKERS), master.told) == ([1, 2, 3], [])


def test_a_reload_lets_the_old_ones_go_as_the_new_ones_serve(master: Master) -> None:
    master.reload()
    assert not master.waited
    assert (list(master.WORKERS), master.told) == ([1, 2, 3, 4], [])
    master.are_now(READY, 4)
    master.manage_workers()
    assert master.told == [1]
    master.are_now(READY, 3)
    master.manage_workers()
    assert master.told == [1, 2]
    master.manage_workers()
    assert master.told == [1, 2]


def test_a_reload_takes_the_place_of_one_before(master: Master) -> None:
    """Or else each of several in a row has as many workers boot beside those of the others."""
    master.reload()
    master.are_now(READY, 3)
    master.reload()
    assert (list(master.WORKERS), master.told) == ([1, 2, 3, 4, 5, 6], [4, 1])
    master.are_now(READY, 5, 6)
    master.manage_workers()
    assert master.told == [4, 1, 2, 3]


def test_a_reload_at_the_start_stops_nobody(master: Master) -> None:
    master.are_now(BOOTING, 1, 2)
    master.reload()
    assert (list(master.WORKERS), master.told) == ([1, 2, 3, 4], [])


def test_fewer_and_more_workers(master: Master) -> None:
    master.num_workers = 1
    master.manage_workers()
    assert master.told == [1]
    master.num_workers = 3
    master.manage_workers()
    assert (list(master.WORKERS), master.told) == ([1, 2, 3, 4], [1])


def test_one_that_somebody_else_stops_is_replaced_while_it_drains(master: Master) -> None:
    master.are_now(LEAVING, 1)
    master.manage_workers()
    assert (list(master.WORKERS), master.told) == ([1, 2, 3], [])


def test_one_that_is_dead_is_replaced(master: Master) -> None:
    master.dies(1)
    master.manage_workers()
    assert (list(master.WORKERS), master.told) == ([2, 3], [])


def test_who_gets_a_signal_to_stop_knows_whether_it_is_gunicorns(master: Master) -> None:
    seen = []
    for age in (1, 2):
        worker = copy.copy(master.shares)
        worker.join(age)
        seen.append(worker)
    assert [worker.can_ask() for worker in seen] == [True, True]
    master.are_now(SPENT, 2)
    master.manage_workers()
    master.are_now(READY, 3)
    master.manage_workers()
    assert [worker.can_ask() for worker in seen] == [True, False]
    master.dies(2)
    assert seen[1].can_ask()  # its successor in the row
    master.stop()
    assert not seen[0].can_ask()


def test_who_has_nobody_to_ask_stops_at_once() -> None:
    assert not Shares().can_ask()


SLOW_START = """
import asyncio, os, signal
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route


@asynccontextmanager
async def lifespan(_):
    await asyncio.sleep(0.5)
    yield


async def healthz(_):
    return JSONResponse(os.getpid())


async def body(request):
    return JSONResponse(len(await request.body()))


# As middlewares do that look at the memory of their process, with each request above the limit.
async def full(_):
    os.kill(os.getpid(), signal.SIGTERM)
    return JSONResponse(os.getpid())


app = Starlette(
    lifespan=lifespan,
    routes=[Route("/healthz", healthz), Route("/body", body, methods=["POST"]), Route("/full", full)],
)
"""


class Watch:
    """Asks all the time how many workers serve, until the block ends."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._over = threading.Event()
        self.seen: list[str | None] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(0.01):
            self.seen.append(self._service.workers())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def start(service: Service, **settings: Any) -> ServerProcess:
    server = service.start(SLOW_START, settings={"graceful_timeout": 600, **settings})
    eventually(lambda: service.workers() == "2/2", "both serve")
    return server


def processes(service: Service) -> set[bytes]:
    return {service.get("/healthz")[1] for _ in range(10)}


def half_a_body(service: Service) -> HTTPConnection:
    """A request of which the second byte of two is missing."""
    connection = service.connection()
    connection.putrequest("POST", "/body")
    connection.putheader("Content-Length", "2")
    connection.endheaders(b"x")
    return connection


def test_workers_that_slow_bodies_keep_from_ending_are_no_lack(service: Service) -> None:
    """Each has one, and each has had its number of requests: there are two that accept all the same."""
    server = start(service, max_requests=30)
    first = processes(service)
    slow = [half_a_body(service) for _ in range(8)]
    with Watch(service) as watch:
        eventually(lambda: not processes(service) & first or "Draining" in server.output, "one leaves")
        eventually(lambda: len(watch.seen) > 100, "more requests")
    assert set(watch.seen) == {"2/2"}
    for connection in slow:
        with closing(connection):
            connection.send(b"x")
            assert connection.getresponse().read() == b"2"
    server.stop()


@pytest.mark.parametrize("how", ["reload", "max_requests"])
def test_as_many_serve_all_the_time(service: Service, how: str) -> None:
    server = start(service, max_requests=40 if how == "max_requests" else 0)
    first = processes(service)
    with Watch(service) as watch:
        if how == "reload":
            server.signal(signal.SIGHUP)
        eventually(lambda: not processes(service) & first, "all are others")
    assert set(watch.seen) == {"2/2"}
    server.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_workers_that_somebody_else_stops_go_one_by_one(service: Service, number: signal.Signals) -> None:
    """Whatever their clients do, and however often they are told: two accept all the time."""
    server = start(service)
    first = server.children()
    slow = [half_a_body(service) for _ in range(8)]
    with Watch(service) as watch:
        for _ in range(3):
            for pid in first:
                os.kill(pid, number)
        server.wait_for(f"exits when its successor serves: it got {number.name}", times=2)
        server.wait_for("Draining")
        eventually(lambda: len(processes(service)) == 2, "two serve")
        for connection in slow:
            with closing(connection):
                connection.send(b"x")
                assert connection.getresponse().read() == b"2"
        server.wait_for("Draining", times=2)
        eventually(lambda: not server.children() & first, "all are others")
    assert set(watch.seen) == {"2/2"}
    assert server.output.count("it got") == 2
    server.stop()


def test_workers_that_find_themselves_too_large_go_one_by_one(service: Service) -> None:
    server = start(service)
    first = server.children()
    with Watch(service) as watch:
        eventually(lambda: service.get("/full")[0] == 200 and not server.children() & first, "all are others")
    assert set(watch.seen) == {"2/2"}
    server.stop()


def test_a_stop_that_comes_with_the_birth_of_a_worker_is_heeded(service: Service) -> None:
    """Until it has handlers of its own, it has those of gunicorn, which are of no use in it."""
    (service.directory / "mine.py").write_text(
        "import time\ndef post_fork(server, worker): print('FORKED', flush=True); time.sleep(1)\n"
    )
    server = service.start(SLOW_START, workers=1, settings={"graceful_timeout": 600, "post_fork": "mine.post_fork"})
    server.wait_for("FORKED")
    server.stop()
    assert "Application shutdown complete." in server.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_gunicorn_stops_in_order_whatever_it_is_told_by(service: Service, number: signal.Signals) -> None:
    server = start(service)
    os.kill(min(server.children()), signal.SIGTERM)
    server.wait_for("it got SIGTERM")
    server.signal(number)
    assert server.process.wait(PATIENCE) == 0
    assert server.output.count("Application shutdown complete.") == server.output.count("Started server process")
    assert "SIGKILL" not in server.output


def test_a_stop_in_the_middle_of_a_reload_is_heeded(service: Service) -> None:
    """gunicorn would wait for the old workers first."""
    server = start(service)
    with closing(half_a_body(service)) as slow:
        server.signal(signal.SIGHUP)
        server.wait_for("Draining", times=2)
        server.signal(signal.SIGTERM)
        server.wait_for("Draining", times=4)
        slow.send(b"x")
        assert slow.getresponse().read() == b"2"
    assert server.process.wait() == 0


FAILS_TO_START = """
import os
import time

async def app(scope, receive, send):
    await receive()
    try:
        os.mkdir("first")
        while not os.path.exists("second"):
            time.sleep(0.01)
    except FileExistsError:
        os.mkdir("second")
        print("SECOND", flush=True)
        time.sleep(2)
    await send({"type": "lifespan.startup.failed", "message": "no database"})
"""


def test_workers_that_cannot_start_one_after_the_other(service: Service) -> None:
    """The first ends gunicorn, and the second does not disturb its stop."""
    server = service.start(FAILS_TO_START, workers=2)
    assert server.process.wait(PATIENCE) == 3
    assert server.output.count("Worker exiting") == 2
    assert "Reason: Worker failed to boot." in server.output
    assert "HaltServer" not in server.output


def test_a_stop_while_a_worker_fails_to_start(service: Service) -> None:
    (service.directory / "first").mkdir()
    server = service.start(FAILS_TO_START, workers=1)
    server.wait_for("SECOND")
    server.stop()
    assert "HaltServer" not in server.output


FAILS_LATER = """
import os
from contextlib import asynccontextmanager
from pathlib import Path
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route


@asynccontextmanager
async def lifespan(_):
    if Path("away").exists():
        raise RuntimeError("no database")
    yield


async def healthz(_):
    return JSONResponse(os.getpid())


app = Starlette(lifespan=lifespan, routes=[Route("/healthz", healthz)])
"""


@pytest.mark.parametrize("how", ["max_requests", "term", "reload", "kill"])
def test_a_worker_that_cannot_start_ends_nobody_who_serves(service: Service, how: str) -> None:
    """They serve on for as long as a database is away, and are replaced when it is back."""
    server = service.start(FAILS_LATER, settings={"max_requests": 40 if how == "max_requests" else 0})
    eventually(lambda: service.workers() == "2/2", "both serve")
    first = server.children()
    (service.directory / "away").touch()
    if how == "reload":
        server.signal(signal.SIGHUP)
    elif how != "max_requests":
        os.kill(min(first), signal.SIGKILL if how == "kill" else signal.SIGTERM)
    times = 2  # of a reload all there are
    eventually(lambda: len(processes(service)) > 0 and server.output.count("could not start") >= times, "two tries")
    assert service.workers() == ("1/2" if how == "kill" else "2/2")
    if how != "reload":
        server.wait_for("Workers have crashed within 10 s of their start, 2 times in a row")
        (service.directory / "away").unlink()
        eventually(lambda: len(processes(service) - first) > 0 and service.workers() == "2/2", "another one serves")
    assert "Shutting down: Master" not in server.output
    server.stop()


def test_when_nobody_serves_gunicorn_ends(service: Service) -> None:
    server = service.start(FAILS_LATER)
    eventually(lambda: service.workers() == "2/2", "both serve")
    (service.directory / "away").touch()
    for pid in server.children():
        os.kill(pid, signal.SIGKILL)
    assert server.process.wait(PATIENCE) == 3
    assert "Reason: Worker failed to boot." in server.output
