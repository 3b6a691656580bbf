"""The guarded protocol under real gunicorn: what a client may take up, and what it cannot say in two ways."""

import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest
from conftest import StartServer
from malformed import CASES, SECOND, Case, chunked, get, post
from servers import BIN, PATIENCE, ServerProcess, eventually, free_port
from websockets.sync.client import connect

TESTING = Path(__file__).parents[1] / "testing"
FILES = TESTING.parent / "roles/gunicorn_fastapi/files"

CONFIGURATION = """
import resource
from gunicorn_fastapi import guard as guarding
from gunicorn_fastapi.worker import DrainingUvicornWorker

worker_class = "gunicorn_fastapi.worker.DrainingUvicornWorker"
control_socket_disable = True
accesslog = "-"
keepalive = 30
forwarded_allow_ips = ""
"""

WORKER = "DrainingUvicornWorker"
REFUSED = "Refused with "
CLOSED = "Closed "


class Shop:
    """One gunicorn with one worker that serves the echo application, and what that has seen."""

    def __init__(self, start_server: StartServer, directory: Path, settings: str = "") -> None:
        self.port = free_port()
        self._seen = directory / "seen"
        configuration = directory / "gunicorn.conf.py"
        configuration.write_text(f"{CONFIGURATION}bind = '127.0.0.1:{self.port}'\n{settings}")
        self.server: ServerProcess = start_server(
            [str(BIN / "gunicorn"), f"--config={configuration}", "echo_app:app"],
            directory=directory,
            environment={"PYTHONPATH": f"{TESTING}:{FILES}", "ECHO_FILE": str(self._seen)},
        )
        self.server.wait_for("Application startup complete.")

    def connect(self, data: bytes = b"") -> socket.socket:
        """A connection on which ``data`` was sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(data)
        return connection

    def statuses(self, data: bytes) -> list[int]:
        """The statuses of all answers to what is sent, until the server closes."""
        with self.connect(data) as connection:
            return statuses(connection)

    def seen(self) -> list[str]:
        """What the application has seen so far."""
        return self._seen.read_text().splitlines() if self._seen.exists() else []

    def works(self) -> bool:
        """Whether a new client is answered."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as client:
            client.request("GET", "/works")
            return client.getresponse().read() == b"GET /works 0"

    def open_files(self) -> int:
        """How many files the worker has open."""
        (worker,) = self.server.children()
        return len(list(Path(f"/proc/{worker}/fd").iterdir()))


def statuses(connection: socket.socket) -> list[int]:
    """The statuses of the answers on a connection, until the server closes it. Each answer must be whole."""
    stream = b""
    # Who sends on after the last answer is reset; what came before is there all the same.
    with suppress(ConnectionResetError):
        while data := connection.recv(65536):
            stream += data
    found = []
    while stream:
        head, _, stream = stream.partition(b"\r\n\r\n")
        found.append(int(head.split()[1]))
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        assert length, head
        assert len(stream) >= int(length[1]), head
        stream = stream[int(length[1]) :]
    return found


def is_closed(connection: socket.socket) -> bool:
    """Wait for the end of a connection on which nothing is answered."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A server for all tests that leave it as it was."""
    directory = tmp_path_factory.mktemp("shop")
    with ExitStack() as stack:

        def start(command: list[str], *, directory: Path, environment: dict[str, str]) -> ServerProcess:
            server = ServerProcess(command, directory / "output", directory=directory, environment=environment)
            stack.callback(server.end)
            return server

        # Each refusal of so many tests in a second is to have its own record.
        yield Shop(start, directory, "import gunicorn_fastapi.guard\ngunicorn_fastapi.guard.REFUSALS = 100_000\n")


@pytest.mark.parametrize("size", [None, 1], ids=["whole", "bytes"])
@pytest.mark.parametrize("case", CASES, ids=[case.name.replace(" ", "-") for case in CASES])
def test_malformed(shop: Shop, case: Case, size: int | None) -> None:
    """In one piece and byte by byte: the answer, what the application has seen, and one record."""
    before, output, workers = len(shop.seen()), len(shop.server.output), shop.server.children()
    data = case.data + SECOND
    with shop.connect() as connection:
        client = "{}:{}".format(*connection.getsockname())
        with suppress(ConnectionError):  # it has been answered already, and the connection has ended
            for start in range(0, len(data), size or len(data)):
                connection.sendall(data[start : start + (size or len(data))])
        answers = statuses(connection)
    assert answers[0] == case.status
    assert shop.seen()[before:] == list(case.seen)
    good = [status for status in answers if status == 200]
    assert len(good) == len(case.seen)
    records = [line for line in shop.server.output[output:].splitlines() if client in line and REFUSED in line]
    assert len(records) == len(answers) - len(good) <= 1, records
    assert shop.server.children() == workers
    assert shop.works()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (get(headers=b"Host: shop\r\nA: %b\r\n" % (b"a" * 65000)), 200),
        (get(headers=b"Host: shop\r\nA: %b\r\n" % (b"a" * 65600)), 431),
        (get(headers=b"Host: shop\r\nA: %b\r\n" % (b"a" * 8_000_000)), 431),
        (get(headers=b"Host: shop\r\n" + b"A: b\r\n" * 99), 200),
        (get(headers=b"Host: shop\r\n" + b"A: b\r\n" * 100), 431),
        (get(headers=b"Host: shop\r\n" + b"A: b\r\n" * 100_000), 431),
        (get(b"/" + b"a" * 4000), 200),
        (get(b"/" + b"a" * 4100), 414),
        (get(b"/" + b"a" * 8_000_000), 414),
        (b"\r\n" * 100_000, 431),
        (chunked(b"1;" + b"a" * 1_000_000), 431),
        (chunked(b"0\r\nA: " + b"a" * 1_000_000), 431),
        (get() * 50 + get(headers=b"Host: shop\r\nA: %b\r\n" % (b"a" * 65600)), 200),
    ],
    ids=lambda value: value if isinstance(value, int) else value[:8],
)
def test_sizes(shop: Shop, data: bytes, status: int) -> None:
    """The bounds, from both sides. gunicorn's own are its defaults here: 4094 for the address, 100 headers."""
    seen = len(shop.seen())
    with shop.connect() as connection:
        connection.sendall(data + SECOND)
        answers = statuses(connection)
    assert answers[0] == status
    assert (len(shop.seen()) > seen) == (status == 200)
    assert not any("aaaa" * 2000 in line for line in shop.seen())


def test_a_head_in_a_pipeline_has_the_same_bound(shop: Shop) -> None:
    """Also when nobody can tell how much of what was received belongs to it."""
    seen = len(shop.seen())
    shop.statuses(get() + get(b"/huge", b"Host: shop\r\nA: %b\r\n" % (b"a" * 65600)))
    assert shop.seen()[seen:] == ["GET / 0"]


def test_too_many_requests_at_once(shop: Shop) -> None:
    """Those that were accepted are answered, in order, and then the connection ends."""
    answers = shop.statuses(get() * 500)
    assert answers == [200] * (len(answers) - 1) + [400]
    assert 101 <= len(answers) <= 103


def test_two_requests_at_once_are_answered_in_order(shop: Shop) -> None:
    """Pipelining goes on to work."""
    seen = len(shop.seen())
    assert shop.statuses(get(b"/a") + post(b"Content-Length: 5\r\n", b"hello") + SECOND) == [200, 200, 200]
    assert shop.seen()[seen:] == ["GET /a 0", "POST / 5", "GET /second 0"]


def test_trailers_are_no_headers(shop: Shop) -> None:
    """A proxy that removes a header from its client's requests may let it pass as a trailer."""
    with shop.connect(chunked(b"5\r\nhello\r\n0\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")) as connection:
        response = HTTPResponse(connection)
        response.begin()
        assert response.getheader("x-names") == "host transfer-encoding"


def test_nobody_is_believed_about_who_it_is(shop: Shop) -> None:
    """Not even on loopback, which uvicorn and gunicorn trust by default."""
    forged = b"Host: shop\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nForwarded: for=192.0.2.1\r\n"
    with shop.connect(get(headers=forged)) as connection:
        response = HTTPResponse(connection)
        response.begin()
        assert (response.getheader("x-client"), response.getheader("x-scheme")) == ("127.0.0.1", "http")


def test_a_proxy_that_is_named_is_believed(start_server: StartServer, tmp_path: Path) -> None:
    """By gunicorn's setting; but not in trailers."""
    shop = Shop(start_server, tmp_path, "forwarded_allow_ips = '127.0.0.1'")
    header = b"X-Forwarded-For: 192.0.2.1\r\n"
    trailer = chunked(b"5\r\nhello\r\n0\r\n%b\r\n" % header)
    for data, client in ((get(headers=b"Host: shop\r\n" + header), "192.0.2.1"), (trailer, "127.0.0.1")):
        with shop.connect(data) as connection:
            response = HTTPResponse(connection)
            response.begin()
            assert response.getheader("x-client") == client


def test_websocket(shop: Shop) -> None:
    """The upgrade that is understood still is."""
    for headers in ({}, {"Content-Length": "0"}, {"Expect": "nothing"}):
        with connect(f"ws://127.0.0.1:{shop.port}/", additional_headers=headers) as websocket:
            websocket.send("hello")
            assert websocket.recv() == "hello"


def test_websocket_before_an_answer(shop: Shop) -> None:
    """Its answer would be taken for that to the request before it."""
    upgrade = b"Host: shop\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    assert shop.statuses(get(b"/wait") + get(headers=upgrade + key)) == [200, 400]


def test_headers_that_are_not_complete_in_time(start_server: StartServer, tmp_path: Path) -> None:
    """Nothing, a part, one byte after the other, a part after an answer, empty lines after an answer."""
    shop = Shop(start_server, tmp_path, "DrainingUvicornWorker.header_timeout = 1")
    with shop.connect() as silent, shop.connect(b"GET / HTTP/1.1\r\nHost:") as begun, shop.connect() as slow:
        for byte in b"GET /slow HTTP/1.1\r\nHost: shop\r\nA: %b\r\n\r\n" % (b"a" * 5000):
            try:
                slow.sendall(bytes([byte]))
            except OSError:
                break
            time.sleep(0.05)
        assert all(map(is_closed, (silent, begun, slow)))
    for rest in (b"GET /again", b"\r\n"):
        with shop.connect(get()) as connection:
            response = HTTPResponse(connection)
            response.begin()
            response.read()
            connection.sendall(rest)
            assert is_closed(connection)
    assert shop.seen() == ["GET / 0"] * 2
    shop.server.wait_for("of 127.0.0.1: no request within 1 s", times=2)


def test_who_waits_for_the_application_is_not_late(start_server: StartServer, tmp_path: Path) -> None:
    """A request that came in time, but was not read in time."""
    shop = Shop(start_server, tmp_path, "DrainingUvicornWorker.header_timeout = 2")
    with shop.connect() as client, shop.connect() as blocking:
        time.sleep(1.5)
        blocking.sendall(get(b"/block"))
        eventually(lambda: shop.seen() == ["GET /block 0"], "the application is busy")
        client.sendall(SECOND)
        assert statuses(client) == [200]


def test_a_slow_body_has_its_time(start_server: StartServer, tmp_path: Path) -> None:
    """Longer than headers have, as long as it comes; and so has the application."""
    shop = Shop(start_server, tmp_path, f"{WORKER}.header_timeout = 0.5\n{WORKER}.stall_timeout = 2.5")
    with shop.connect(post(b"Content-Length: 4\r\n", b"")) as slow, shop.connect(get(b"/wait") * 4 + SECOND) as waiting:
        for _ in range(4):
            time.sleep(1)
            slow.sendall(b"a")
        response = HTTPResponse(slow)
        response.begin()
        assert response.read() == b"POST / 4"
        assert statuses(waiting) == [200] * 5
    assert CLOSED not in shop.server.output


def test_who_gives_or_takes_nothing_is_closed(start_server: StartServer, tmp_path: Path) -> None:
    """A body that stops, an answer that is not taken."""
    shop = Shop(start_server, tmp_path, "DrainingUvicornWorker.stall_timeout = 1")
    with shop.connect(post(b"Content-Length: 9\r\n", b"a")) as silent, shop.connect(get(b"/large?20000000")) as deaf:
        assert is_closed(silent)
        record = re.compile(r"Closed (\d) connection\(s\), \d of 127.0.0.1: slow client, no progress for 1 s")
        eventually(lambda: sum(map(int, record.findall(shop.server.output))) == 2, "both are closed")
        received = 0
        try:
            while data := deaf.recv(65536):
                received += len(data)
        except ConnectionResetError:
            pass
        assert received < 20_000_000
    assert shop.works()


def test_incomplete_requests_together(start_server: StartServer, tmp_path: Path) -> None:
    """The oldest ones go when all together are too large."""
    shop = Shop(start_server, tmp_path, "guarding.HELD = 200_000\nDrainingUvicornWorker.header_timeout = 600")
    with ExitStack() as stack:
        part = b"GET / HTTP/1.1\r\nA: " + b"a" * 50_000
        first = stack.enter_context(shop.connect(part))
        assert shop.works()
        for _ in range(10):
            stack.enter_context(shop.connect(part))
        shop.server.wait_for("incomplete requests of more than 200000 bytes")
        assert is_closed(first)
        with shop.connect(part) as last:
            time.sleep(2)
            last.sendall(b"\r\n" + b"Host: shop\r\nConnection: close\r\n\r\n")
            assert statuses(last) == [200]


def test_a_full_worker_makes_room(start_server: StartServer, tmp_path: Path) -> None:
    """Those who wait for nothing leave for those who ask; then there are as many files open as before."""
    shop = Shop(start_server, tmp_path, "worker_connections = 50\nDrainingUvicornWorker.header_timeout = 600")
    assert shop.works()
    files = shop.open_files()
    with ExitStack() as stack:
        for number in range(400):
            stack.enter_context(shop.connect(b"GET / HTTP/1.1\r\n"[: number % 16]))
            if number % 40 == 0:
                assert shop.works()
        assert shop.works()
        eventually(lambda: shop.open_files() <= files + 51, "no more connections than the bound")
    shop.server.wait_for("more than 50 connections")
    eventually(lambda: shop.open_files() <= files, "no connection is left")
    shop.server.stop()


def test_a_worker_full_of_work_says_so(start_server: StartServer, tmp_path: Path) -> None:
    """Nobody who is being answered is closed: the newcomer gets 503, and is answered when there is room."""
    shop = Shop(start_server, tmp_path, "worker_connections = 20")
    one = get(b"/wait", b"Host: shop\r\nConnection: close\r\n")
    with ExitStack() as stack:
        busy = [stack.enter_context(shop.connect(one)) for _ in range(20)]
        eventually(lambda: len(shop.seen()) == 20, "the application has all requests")
        assert shop.statuses(b"") == [503]
        assert [statuses(connection) for connection in busy] == [[200]] * 20
    assert shop.works()


def test_fewer_files_than_clients(start_server: StartServer, tmp_path: Path) -> None:
    """The bound is below the limit of files, whatever is set."""
    limit = "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))"
    shop = Shop(start_server, tmp_path, f"{limit}\nworker_connections = 10000")
    with ExitStack() as stack:
        for _ in range(600):
            stack.enter_context(shop.connect(b"GET"))
        assert shop.works()
    shop.server.wait_for("more than 128 connections")
    assert shop.works()
    assert "Too many open files" not in shop.server.output


def test_a_full_worker_drains(start_server: StartServer, tmp_path: Path) -> None:
    """Who has asked is answered during the stop; who has not is closed with the rest."""
    settings = "worker_connections = 30\nkeepalive = DrainingUvicornWorker.drain_timeout = 1"
    shop = Shop(start_server, tmp_path, settings)
    with ExitStack() as stack:
        asked = stack.enter_context(shop.connect(get(b"/wait")))
        eventually(lambda: shop.seen() == ["GET /wait 0"], "the application has the request")
        silent = [stack.enter_context(shop.connect(b"GET")) for _ in range(60)]
        shop.server.signal(signal.SIGTERM)
        assert statuses(asked) == [200]
        assert all(map(is_closed, silent))
        assert shop.server.process.wait(PATIENCE) == 0


BODY_MAX = "DrainingUvicornWorker.body_max = 1000"


def test_bodies(start_server: StartServer, tmp_path: Path) -> None:
    """By the length that is announced, and by what comes."""
    shop = Shop(start_server, tmp_path, BODY_MAX)
    for size, status in ((1000, 200), (1001, 413), (5_000_000, 413)):
        body = b"x" * size
        assert shop.statuses(post(b"Content-Length: %d\r\n" % size, body) + SECOND)[0] == status
        assert shop.statuses(chunked(b"%x\r\n%b\r\n0\r\n\r\n" % (size, body)) + SECOND)[0] == status
    assert shop.statuses(post(b"Content-Length: 1001\r\nExpect: 100-continue\r\n", b"")) == [413]
    small = b"".join(b"1\r\nx\r\n" for _ in range(1001))
    assert shop.statuses(chunked(small + b"0\r\n\r\n"))[0] == 413
    assert shop.seen() == ["POST / 1000", "GET /second 0"] * 2
    whole = post(b"Content-Length: 1000\r\n", b"x" * 1000)
    assert shop.statuses(whole + whole + SECOND) == [200] * 3
