"""The draining worker under real gunicorn: what is sent is answered, whatever ends the worker.

The public socket belongs to the test, as it belongs to systemd on a host, and each gunicorn inherits
it. The application (``counting_app``) keeps its own count, so that an answer that nobody gave, or a
request that was handled twice, shows too.
"""

import asyncio
import json
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import StartServer
from gunicorn_fastapi.closed import Door
from gunicorn_fastapi.guard import Guard
from gunicorn_fastapi.server import DrainingServer
from gunicorn_fastapi.shared import Shares
from load import Generator, Load, Result
from servers import BIN, PASS_SOCKET, PATIENCE, ServerProcess, eventually
from uvicorn.config import Config
from uvicorn.lifespan.off import LifespanOff
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

TESTING = Path(__file__).parents[1] / "testing"
FILES = TESTING.parent / "roles/gunicorn_fastapi/files"

CONFIGURATION = """
from gunicorn_fastapi.hooks import Hooks
from gunicorn_fastapi.worker import DrainingUvicornWorker

DrainingUvicornWorker.drain_timeout = {drain_timeout}
worker_class = {worker_class!r}
workers = {workers}
graceful_timeout = {graceful_timeout}
keepalive = {keepalive}
max_requests = {max_requests}
timeout = {timeout}
backlog = 2048
control_socket_disable = True
globals().update(Hooks("counting", "release").settings({{}}))
"""

WORKER = "gunicorn_fastapi.worker.DrainingUvicornWorker"

BOTH_PARSERS = pytest.mark.parametrize("worker_class", [WORKER, "h11_worker.H11"])


DRAINING = "Draining "
"""What the worker logs when it begins to stop; the blank tells it from the worker's name."""


class Site:
    """One public socket and the gunicorns that serve the counting application on it."""

    def __init__(self, start_server: StartServer, directory: Path, listener: socket.socket) -> None:
        self._start_server = start_server
        self._listener = listener
        self.directory = directory
        self.host, self.port = listener.getsockname()

    def start(
        self,
        worker_class: str = WORKER,
        *,
        workers: int = 2,
        drain_timeout: float = 5,
        graceful_timeout: int = 20,
        keepalive: int = 5,
        max_requests: int = 0,
        timeout: int = 30,
    ) -> ServerProcess:
        """Start one gunicorn on the socket and wait until its workers accept."""
        configuration = self.directory / "gunicorn.conf.py"
        configuration.write_text(
            CONFIGURATION.format(
                worker_class=worker_class,
                workers=workers,
                drain_timeout=drain_timeout,
                graceful_timeout=graceful_timeout,
                keepalive=keepalive,
                max_requests=max_requests,
                timeout=timeout,
            )
        )
        descriptor = self._listener.fileno()
        server = self._start_server(
            [
                sys.executable,
                *("-c", PASS_SOCKET, str(descriptor)),
                *(f"{BIN}/gunicorn", "counting_app:app", f"--config={configuration}"),
            ],
            directory=self.directory,
            environment={
                "PYTHONPATH": f"{TESTING}:{FILES}",
                "COUNTING_APP_DIRECTORY": str(self.directory),
            },
            descriptors=(descriptor,),
        )
        server.wait_for("Application startup complete.", times=workers)
        return server

    def connection(self) -> HTTPConnection:
        """A client connection of its own, opened at once."""
        connection = HTTPConnection(self.host, self.port, timeout=PATIENCE)
        connection.connect()
        return connection

    def close(self) -> None:
        """Give the address up; whoever comes now is refused."""
        self._listener.close()

    def count(self, name: str) -> int:
        """How many times the application has noted ``name``."""
        path = self.directory / name
        return path.stat().st_size if path.exists() else 0

    def go(self) -> None:
        """Let the application's waiting requests end."""
        (self.directory / "go").touch()

    @contextmanager
    def under_load(self) -> Iterator["Traffic"]:
        """Keep-alive and one-request connections, GET and POST, until the block ends."""
        traffic = Traffic(f"http://{self.host}:{self.port}/")
        try:
            yield traffic
        finally:
            traffic.end()


class Traffic:
    """Four kinds of clients in a thread of their own, at saturation."""

    def __init__(self, url: str) -> None:
        self._over = threading.Event()
        self.generators = {
            (method, keep_alive): Generator(
                Load(
                    url,
                    connections=4,
                    seconds=2 * PATIENCE,
                    keep_alive=keep_alive,
                    method=method,
                    body=b"x" * 1000 if method == "POST" else b"",
                    label="x-pid",
                )
            )
            for method in ("GET", "POST")
            for keep_alive in (True, False)
        }
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()

    async def _run(self) -> None:
        await asyncio.gather(*(g.run(self._over.is_set) for g in self.generators.values()))

    def results(self) -> list[Result]:
        """One result for each kind of client."""
        return [generator.result for generator in self.generators.values()]

    def total(self, count: Callable[[Result], int]) -> int:
        """A count summed over all clients."""
        return sum(map(count, self.results()))

    def labels(self) -> Counter[str]:
        """How many answers each worker process gave."""
        return sum((result.labels for result in self.results()), Counter[str]())

    def go_on(self, answers: int = 500) -> None:
        """Wait for that many further answers of every kind of client."""
        goals = [(result, result.answered + answers // 4) for result in self.results()]
        eventually(lambda: all(result.answered >= goal for result, goal in goals), "further answers")

    def end(self) -> None:
        """Send no more and wait for what is outstanding."""
        self._over.set()
        self._thread.join()

    def assert_nothing_lost(self, site: Site) -> None:
        """Every request was answered, and the application handled exactly those."""
        for (method, keep_alive), generator in self.generators.items():
            result = generator.result
            kind = f"{method}, {'keep-alive' if keep_alive else 'close'}: {result}"
            assert not result.failures, kind
            assert result.sent == result.answered > 0, kind
        for method in ("GET", "POST"):
            answered = sum(g.result.answered for (m, _), g in self.generators.items() if m == method)
            assert site.count(method) == answered


@pytest.fixture
def site(start_server: StartServer, tmp_path: Path) -> Iterator[Site]:
    """An empty site on a free port."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        yield Site(start_server, tmp_path, listener)


def ask(connection: HTTPConnection, header: str = "connection") -> str | None:
    """Ask on an open connection; a header of the answer, its ``Connection`` if nothing else. No answer raises."""
    connection.request("GET", "/")
    response = connection.getresponse()
    response.read()
    assert response.status == 200
    return response.getheader(header)


def lost_after_stop(site: Site, server: ServerProcess, stopping: str) -> int:
    """Stop the server, wait for ``stopping`` in its log, ask on each open connection: how many fail."""
    connections = [site.connection() for _ in range(20)]
    for connection in connections:
        assert ask(connection) is None
    server.signal(signal.SIGTERM)
    server.wait_for(stopping, times=2)
    lost = 0
    for connection in connections:
        with closing(connection):
            try:
                assert ask(connection) == "close"
            except (OSError, HTTPException):
                lost += 1
    assert server.process.wait(PATIENCE) == 0
    return lost


@BOTH_PARSERS
def test_open_connections_are_answered_after_the_stop(site: Site, worker_class: str) -> None:
    """A connection that is open when the worker is stopped gets its next request answered."""
    assert lost_after_stop(site, site.start(worker_class), DRAINING) == 0
    assert site.count("GET") == 40


def test_the_stock_worker_loses_the_same_requests(site: Site) -> None:
    """The tests here can fail: uvicorn's own worker loses every one of these requests."""
    assert lost_after_stop(site, site.start("uvicorn_worker.UvicornWorker"), "Finished server process") == 20
    assert site.count("GET") == 20


@BOTH_PARSERS
def test_two_masters_on_one_socket(site: Site, worker_class: str) -> None:
    """Under load a second gunicorn joins and the first one leaves, several times."""
    server = site.start(worker_class)
    with site.under_load() as traffic:
        for _ in range(3):
            traffic.go_on()
            successor = site.start(worker_class)
            traffic.go_on()
            server.stop()
            assert "Error while closing socket" not in server.output
            server = successor
        traffic.go_on()
    traffic.assert_nothing_lost(site)
    assert len(traffic.labels()) >= 5
    server.stop()


def test_reload(site: Site) -> None:
    """SIGHUP under load, twice."""
    server = site.start()
    with site.under_load() as traffic:
        for generation in (2, 3):
            traffic.go_on()
            server.signal(signal.SIGHUP)
            server.wait_for("Application startup complete.", times=2 * generation)
            eventually(lambda: len(server.children()) == 2, "the old workers have left")
        traffic.go_on()
    traffic.assert_nothing_lost(site)
    server.stop()


def test_max_requests(site: Site) -> None:
    """Workers that recycle themselves lose nothing, and there are as many afterwards as before."""
    server = site.start(max_requests=400)
    with site.under_load() as traffic:
        eventually(lambda: len(traffic.labels()) >= 6, "answers from six workers")
        traffic.go_on()
    traffic.assert_nothing_lost(site)
    eventually(lambda: len(server.children()) == 2, "two workers")
    server.stop()


def test_recycling_worker_accepts_beside_an_idle_connection(site: Site) -> None:
    """The only worker has had its last request: an idle client does not keep new ones waiting."""
    server = site.start(workers=1, max_requests=1, drain_timeout=600, keepalive=600)
    with closing(site.connection()) as idle:
        first = ask(idle, "x-pid")
        server.wait_for(DRAINING)
        for _ in range(3):
            with closing(site.connection()) as new:
                assert ask(new, "x-pid") not in (first, None)
        assert str(first) in map(str, server.children())
        assert ask(idle) == "close"
    server.wait_for("Application startup complete.", times=2)
    server.stop()


def test_draining_worker_is_not_taken_for_dead(site: Site) -> None:
    """A drain that takes longer than gunicorn's ``timeout`` does not look like a worker that hangs."""
    server = site.start(workers=1, max_requests=1, timeout=3, drain_timeout=1)
    with closing(site.connection()) as streaming, closing(site.connection()) as client:
        streaming.request("GET", "/stream")
        response = streaming.getresponse()
        assert ask(client) is None
        server.wait_for(DRAINING)
        time.sleep(5)  # longer than the timeout and a look of the master
        site.go()
        assert response.read() == b"beginend"
    server.wait_for("Application startup complete.", times=2)
    assert "WORKER TIMEOUT" not in server.output
    server.stop()


@BOTH_PARSERS
def test_stream_ends_after_the_idle_are_gone(site: Site, worker_class: str) -> None:
    """A running response outlasts the drain time, and its connection is good for one more request."""
    server = site.start(worker_class, workers=1, drain_timeout=1, keepalive=600)
    with closing(site.connection()) as idle, closing(site.connection()) as streaming:
        assert ask(idle) is None
        streaming.request("GET", "/stream")
        response = streaming.getresponse()
        assert response.read(5) == b"begin"
        server.signal(signal.SIGTERM)
        assert idle.sock.recv(1) == b"", "an idle connection is closed without an answer"
        site.go()
        assert response.read() == b"end"
        assert response.getheader("connection") is None
        assert ask(streaming) == "close"
    assert server.process.wait(PATIENCE) == 0


@BOTH_PARSERS
def test_answer_that_has_not_begun_says_close(site: Site, worker_class: str) -> None:
    """A request that was being handled when the stop came ends its connection by agreement."""
    server = site.start(worker_class, workers=1)
    with closing(site.connection()) as client:
        client.request("GET", "/late")
        eventually(lambda: site.count("late") == 1, "the application has the request")
        time.sleep(1.2)  # uvicorn renews the headers that later requests get once a second
        server.signal(signal.SIGTERM)
        server.wait_for(DRAINING)
        site.go()
        response = client.getresponse()
        assert (response.read(), response.getheader("connection")) == (b"late", "close")
    assert server.process.wait(PATIENCE) == 0


def test_connection_with_unread_bytes_is_not_closed() -> None:
    """A request that the loop has not read yet when its connection's time is over is waited for."""
    ours, theirs = socket.socketpair()

    class Connection:
        """As uvicorn's protocols look to its server."""

        cycle = None
        transport = SimpleNamespace(get_extra_info=lambda _: ours, is_closing=lambda: False)
        unread_at_shutdown: bool | None = None

        def shutdown(self) -> None:
            self.unread_at_shutdown = select.select([ours], [], [], 0)[0] != []
            server.server_state.connections.clear()

    config = Config(app="counting_app:app", lifespan="off", log_config=None)
    shares = Shares()
    door = Door(SimpleNamespace(loaded_app=None), None, shares)
    server = DrainingServer(config, drain_timeout=0, graceful_timeout=PATIENCE, guard=Guard(), shares=shares, door=door)
    server.lifespan = LifespanOff(config)
    server.servers = []
    server.should_exit = True
    connection: Any = Connection()
    server.server_state.connections.add(connection)

    async def scenario() -> None:
        theirs.send(b"GET")
        asyncio.get_running_loop().call_later(0.2, ours.recv, 3)
        await server.shutdown()

    with ours, theirs:
        asyncio.run(scenario())
    assert connection.unread_at_shutdown is False


def test_websocket_is_told_to_come_back(site: Site) -> None:
    """1012, service restart, for the client and for the application; nobody waits for its drain time."""
    server = site.start(workers=1, drain_timeout=600, graceful_timeout=600)
    with connect(f"ws://{site.host}:{site.port}/") as websocket:
        websocket.send("hello")
        assert websocket.recv() == "hello"
        server.signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(timeout=PATIENCE)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
    assert server.process.wait(PATIENCE) == 0
    assert site.count("websocket-1012") == 1


def test_endless_stream_is_cancelled_within_the_graceful_timeout(site: Site) -> None:
    """gunicorn's graceful timeout reaches uvicorn: the worker ends in order and is not killed."""
    server = site.start(workers=1, drain_timeout=0.5, graceful_timeout=4)
    with closing(site.connection()) as streaming:
        streaming.request("GET", "/endless")
        assert streaming.getresponse().read(5) == b"begin"
        server.stop()
    assert site.count("cancelled") == 1
    assert "Application shutdown complete." in server.output
    assert "SIGKILL" not in server.output


def test_load_generator_on_the_command_line(site: Site) -> None:
    """One JSON object; the exit status tells whether something was lost."""
    server = site.start()
    url = f"http://{site.host}:{site.port}/"
    command = [sys.executable, f"{TESTING}/load.py", "--seconds=1", "--rate=100", "--json"]
    run = subprocess.run(
        [*command, "--method=POST", "--body=hello", "--label=body", url],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    result = json.loads(run.stdout)
    assert result["sent"] == result["answered"] == site.count("POST")
    assert result["labels"] == {"hello": result["answered"]}
    assert 0 < result["latency"]["p50"] <= result["latency"]["p100"]

    server.stop()
    site.close()
    run = subprocess.run([*command, url], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert run.returncode == 1
    result = json.loads(run.stdout)
    assert result["sent"] == 0
    assert result["refused"] == result["failures"]["connect: ConnectionRefusedError"] > 0
