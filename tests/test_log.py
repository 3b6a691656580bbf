"""What reaches the journal: which records, in which order, as how many, by which of its two ways."""

import asyncio
import faulthandler
import json
import logging
import os
import re
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, cast

import pytest
from conftest import StartServer
from gunicorn_fastapi import log
from gunicorn_fastapi.log import Formatter, JournalHandler, JsonFormatter, Request, RequestContext
from servers import BIN, eventually, free_port
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string

FILES = Path(__file__).parent.parent / "roles/gunicorn_fastapi/files"
SPECIFIED = "%(asctime)s - %(levelname)s - %(name)s - %(message)s"

Record = dict[str, str]


def fields_of(entry: bytes) -> Record:
    """A record of the journal's protocol, field by field."""
    fields = {}
    while entry:
        name, sign, rest = re.split(rb"([=\n])", entry, maxsplit=1)
        if sign == b"=":
            value, _, entry = rest.partition(b"\n")
        else:
            (size,) = struct.unpack("<Q", rest[:8])
            value, entry = rest[8 : 8 + size], rest[9 + size :]
        fields[name.decode()] = value.decode()
    return fields


class FakeJournal:
    """Reads what arrives by either way, in the order of arrival, as journald does."""

    def __init__(self, stream: socket.socket, datagrams: socket.socket) -> None:
        self.records: list[Record] = []
        self._end, self._ended = os.pipe()
        self._thread = threading.Thread(target=self._run, args=(stream, datagrams))
        self._thread.start()

    def _run(self, stream: socket.socket, datagrams: socket.socket) -> None:
        text = b""
        while True:
            waiting: list[Any] = [datagrams, stream, self._end]
            ready, _, _ = select.select(waiting, [], [])
            if datagrams in ready:
                entry, descriptors, _, _ = socket.recv_fds(datagrams, 2**18, 1)
                for descriptor in descriptors:
                    entry = os.pread(descriptor, 2**24, 0)
                    os.close(descriptor)
                self.records.append(fields_of(entry))
            elif stream in ready:
                *lines, text = (text + stream.recv(2**16)).split(b"\n")
                self.records += [{"line": line.decode()} for line in lines]
            else:
                return

    def close(self) -> None:
        os.write(self._ended, b".")
        self._thread.join()
        os.close(self._end)
        os.close(self._ended)

    def wait_for(self, count: int) -> list[Record]:
        """The records, once there are as many."""
        eventually(lambda: len(self.records) >= count, f"{count} records")
        return self.records


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeJournal]:
    """Standard output is a stream to a journal, whose own socket is elsewhere than the real one's."""
    address = str(tmp_path / "journal")
    monkeypatch.setattr(log, "ADDRESS", address)
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(address)
        stream = os.fstat(theirs.fileno())
        monkeypatch.setattr(log, "STDOUT", theirs.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{stream.st_dev}:{stream.st_ino}")
        fake = FakeJournal(ours, datagrams)
        yield fake
        fake.close()


@pytest.fixture
def attach() -> Iterator[Callable[[JournalHandler, logging.Formatter], JournalHandler]]:
    """Have a handler take the records of the application and of uvicorn, and of nobody else, until the test ends."""
    names = ["app", "uvicorn.access"]
    attached = []

    def attach(handler: JournalHandler, formatter: logging.Formatter) -> JournalHandler:
        handler.setFormatter(formatter)
        for name in names:
            logging.getLogger(name).handlers = [handler]
            logging.getLogger(name).propagate = False
            logging.getLogger(name).setLevel(logging.DEBUG)
        attached.append(handler)
        return handler

    yield attach
    for name in names:
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
        logging.getLogger(name).setLevel(logging.NOTSET)
    for handler in attached:
        handler.close()


Attach = Callable[[JournalHandler, logging.Formatter], JournalHandler]


def answer(path: str = "/", status: int = 200, client: str = "127.0.0.1:12345") -> None:
    """Log an answered request in uvicorn's words."""
    logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', client, "GET", path, "1.1", status)


def fail(text: str = "it failed") -> None:
    """Log an error with its traceback."""
    try:
        raise LookupError(text)
    except LookupError:
        logging.getLogger("app").exception("An error")


# --- Lines and priorities ---------------------------------------------------------------------------


def test_the_access_line_is_that_of_the_specification(journal: FakeJournal, attach: Attach) -> None:
    attach(JournalHandler("app"), Formatter(SPECIFIED))
    answer()
    date, line = journal.wait_for(1)[0]["line"].split(" - ", 1)
    assert re.fullmatch(r"<6>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", date)
    assert line == 'INFO - uvicorn.access - 127.0.0.1:12345 - "GET / HTTP/1.1" 200'


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2), (35, 4)],
)
def test_each_level_has_its_priority_by_both_ways(
    journal: FakeJournal, attach: Attach, level: int, priority: int
) -> None:
    attach(JournalHandler("app"), Formatter("%(message)s"))
    logging.getLogger("app").log(level, "short")
    logging.getLogger("app").log(level, "two\nlines")
    line, entry = journal.wait_for(2)
    assert line == {"line": f"<{priority}>short"}
    assert (entry["PRIORITY"], entry["MESSAGE"]) == (str(priority), "two\nlines")


@pytest.mark.parametrize(("status", "line"), [(499, "<6>INFO"), (500, "<4>WARNING"), (599, "<4>WARNING")])
def test_requests_that_the_server_failed_have_a_level_of_their_own(
    journal: FakeJournal, attach: Attach, status: int, line: str
) -> None:
    attach(JournalHandler("app", server_errors="WARNING"), Formatter("%(levelname)s"))
    answer(status=status)
    assert journal.wait_for(1) == [{"line": line}]


def test_a_traceback_is_one_record_between_the_lines_around_it(journal: FakeJournal, attach: Attach) -> None:
    attach(JournalHandler("app"), Formatter("%(message)s"))

    async def log_in_a_loop() -> None:
        for number in range(20):
            answer(f"/{number}")
            fail(f"number {number}")

    asyncio.run(log_in_a_loop())
    records = journal.wait_for(40)
    assert [record["line"].split()[3] for record in records[::2]] == [f"/{number}" for number in range(20)]
    for number, record in enumerate(records[1::2]):
        assert record["PRIORITY"] == "3"
        assert record["MESSAGE"].startswith("An error\nTraceback (most recent call last):\n")
        assert record["MESSAGE"].endswith(f"LookupError: number {number}")
        assert record["EXCEPTION"] == "LookupError"
        assert record["SYSLOG_IDENTIFIER"] == "app"


def test_no_text_starts_a_record_or_a_field(journal: FakeJournal, attach: Attach) -> None:
    attach(JournalHandler("app"), Formatter("%(message)s"))
    forged = "a\nPRIORITY=0\n\n<0>b\r<0>c\x00\u2028d"
    logging.getLogger("app").info(forged)
    logging.getLogger("app").info("<0>e")
    entry, line = journal.wait_for(2)
    assert entry["MESSAGE"] == "a\nPRIORITY=0\n\n<0>b\\u000d<0>c\\u0000\\u2028d"
    assert entry["PRIORITY"] == "6"
    assert line == {"line": "<6><0>e"}


def test_terminals_get_no_orders_and_what_is_no_text_is_escaped(journal: FakeJournal, attach: Attach) -> None:
    attach(JournalHandler("app"), Formatter("%(message)s"))
    logging.getLogger("app").info("\x1b[2J\ttäb\udcff")
    assert journal.wait_for(1) == [{"line": "<6>\\u001b[2J\ttäb\\udcff"}]


@pytest.mark.parametrize("size", [log.LINE, 65536, 2**20])
def test_a_long_message_is_one_whole_record(journal: FakeJournal, attach: Attach, size: int) -> None:
    attach(JournalHandler("app"), Formatter("%(message)s"))
    logging.getLogger("app").info("ä" * size)
    assert journal.wait_for(1)[0]["MESSAGE"] == "ä" * size


def test_elsewhere_than_in_the_journal_further_lines_are_indented(
    capfd: pytest.CaptureFixture[str], attach: Attach
) -> None:
    attach(JournalHandler("app", fields=True), Formatter("%(message)s"))
    logging.getLogger("app").error("one\ntwo")
    assert capfd.readouterr().out == "one\n\ttwo\n"


def test_what_cannot_be_formatted_does_not_reach_the_caller(
    journal: FakeJournal, attach: Attach, capfd: pytest.CaptureFixture[str]
) -> None:
    attach(JournalHandler("app"), Formatter("%(message)s"))
    logging.getLogger("app").info("%d", "no number")
    logging.getLogger("app").info("the next")
    assert journal.wait_for(1) == [{"line": "<6>the next"}]
    assert "no number" in capfd.readouterr().err


@pytest.mark.parametrize("entry", [b"MESSAGE=short\n", b"MESSAGE=%s\n" % bytes(2**20)])
def test_a_journal_whose_socket_was_made_anew_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: bytes
) -> None:
    address = tmp_path / "journal"
    monkeypatch.setattr(log, "ADDRESS", str(address))
    sender = log.Journal()
    for _ in range(3):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(str(address))
            sender.send(entry)
            received, descriptors, _, _ = socket.recv_fds(receiver, 2**18, 1)
        for descriptor in descriptors:
            received = os.pread(descriptor, 2**24, 0)
            os.close(descriptor)
        assert received == entry
        address.unlink()
    sender.close()


# --- Collecting -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("journal")
def test_access_lines_wait_for_others_and_not_for_ever(attach: Attach) -> None:
    handler = attach(JournalHandler("app"), Formatter("%(message)s"))
    written: list[bytes] = []

    async def log_in_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(log, "write", written.append)
        for number in range(3):
            answer(f"/{number}")
        assert written == []
        while not written:  # noqa: ASYNC110 (the handler sets no event)
            await asyncio.sleep(log.DELAY)
        answer("/4")
        handler.flush()

    with pytest.MonkeyPatch.context() as monkeypatch:
        asyncio.run(log_in_a_loop(monkeypatch))
    assert [data.count(b"\n") for data in written] == [3, 1]


@pytest.mark.usefixtures("journal")
def test_no_access_line_waits_longer_than_50_ms(attach: Attach, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process that is killed can lose, without a look at any clock."""
    attach(JournalHandler("app"), Formatter("%(message)s"))
    written: list[bytes] = []
    due: list[tuple[float, Callable[[], None]]] = []

    class Loop:
        def call_later(self, delay: float, callback: Callable[[], None]) -> None:
            due.append((delay, callback))

    monkeypatch.setattr(log, "write", written.append)
    monkeypatch.setattr(asyncio, "get_running_loop", Loop)
    for _ in range(3):
        for number in range(3):
            answer(f"/{number}")
        ((delay, tick),) = due
        assert (delay, written) == (0.05, [])
        due.clear()
        tick()
        assert [data.count(b"\n") for data in written] == [3]
        written.clear()


@pytest.mark.usefixtures("journal")
def test_a_batch_has_a_limit(attach: Attach, monkeypatch: pytest.MonkeyPatch) -> None:
    attach(JournalHandler("app"), Formatter("%(message)s"))
    written: list[bytes] = []

    async def log_in_a_loop() -> None:
        for _ in range(1000):
            answer("/" + 300 * "x")

    monkeypatch.setattr(log, "write", written.append)
    asyncio.run(log_in_a_loop())
    logging.getLogger("app").info("the last")
    assert all(len(data) <= log.BATCH for data in written)
    assert [len(data) > log.BATCH - 400 for data in written[:2]] == [True, True]
    assert b"".join(written).count(b"\n") == 1001


def test_any_other_record_goes_at_once_after_those_before_it(journal: FakeJournal, attach: Attach) -> None:
    attach(JournalHandler("app"), Formatter("%(message)s"))

    async def log_in_a_loop() -> None:
        answer("/first")
        logging.getLogger("app").debug("second")
        journal.wait_for(2)

    asyncio.run(log_in_a_loop())
    assert ["/first" in journal.records[0]["line"], journal.records[1]] == [True, {"line": "<7>second"}]


def test_a_child_does_not_write_what_its_parent_will(capfd: pytest.CaptureFixture[str], attach: Attach) -> None:
    handler = attach(JournalHandler("app"), Formatter("%(message)s"))

    async def log_in_a_loop() -> int:
        answer("/parent")
        child = os.fork()
        if child == 0:
            logging.getLogger("app").info("child")
            handler.close()
            os._exit(0)
        return child

    assert os.waitpid(asyncio.run(log_in_a_loop()), 0)[1] == 0
    handler.flush()
    assert capfd.readouterr().out == 'child\n127.0.0.1:12345 - "GET /parent HTTP/1.1" 200\n'


@pytest.mark.parametrize("end", ["SIGTERM", "max_requests"])
def test_a_worker_that_ends_by_itself_leaves_no_line_unwritten(
    start_server: StartServer, tmp_path: Path, end: str
) -> None:
    requests = 60
    (tmp_path / "logging.conf").write_text(LOGGING)
    (tmp_path / "main.py").write_text(APPLICATION)
    (tmp_path / "gunicorn.conf.py").write_text(
        "control_socket_disable = True\nworkers = 2\nkeepalive = 1\ngraceful_timeout = 10\n"
        "worker_class = 'gunicorn_fastapi.worker.DrainingUvicornWorker'\nlogconfig = 'logging.conf'\n"
        f"max_requests = {10 if end == 'max_requests' else 0}\n"
    )
    port = free_port()
    server = start_server(
        [str(BIN / "gunicorn"), "main:app", "--bind", f"127.0.0.1:{port}"],
        directory=tmp_path,
        environment={"PYTHONPATH": str(FILES)},
    )
    server.wait_for("Application startup complete", 2)
    for number in range(requests):
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", f"/{number}", headers={"X-Request-ID": f"id-{number}"})
        response = connection.getresponse()
        assert response.getheader("x-request-id") == f"id-{number}"
        assert response.read() == b"done"
        connection.close()
    if end == "max_requests":
        server.wait_for("Booting worker", 3)  # the worker looks at its count every 0.1 s, and drains
    server.stop()
    for number in range(requests):
        assert server.output.count(f'- "GET /{number} HTTP/1.1" 200') == 1
        assert f"app - id-{number} - in {number}" in server.output


LOGGING = """
[loggers]
keys=root, gunicorn.error, gunicorn.access
[handlers]
keys=journal
[formatters]
keys=line
[logger_root]
level=INFO
handlers=journal
[logger_gunicorn.error]
level=INFO
handlers=journal
propagate=0
qualname=gunicorn.error
[logger_gunicorn.access]
level=INFO
handlers=journal
propagate=0
qualname=gunicorn.access
[handler_journal]
class=gunicorn_fastapi.log.JournalHandler
formatter=line
args=("app",)
[formatter_line]
class=gunicorn_fastapi.log.Formatter
format=%(asctime)s - %(levelname)s - %(name)s - %(request_id)s - %(message)s
"""

APPLICATION = """
import logging

async def app(scope, receive, send):
    if scope["type"] == "http":
        logging.getLogger("app").info("in %s", scope["path"].strip("/"))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"done"})
    elif scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
"""


# --- What is not logged -----------------------------------------------------------------------------


def test_quiet_paths_are_logged_when_they_fail(journal: FakeJournal, attach: Attach) -> None:
    attach(JournalHandler("app", quiet=["/healthz", "/static/*"]), Formatter("%(message)s"))
    for status in (200, 204, 302, 404, 503):
        for path in ("/healthz", "/static/a/b.css?v=1", "/healthz/deep", "/"):
            answer(path, status, client="")
    logged = [tuple(record["line"].split('"')[1:]) for record in journal.wait_for(14)]
    shown = [(line.split()[1], int(status)) for line, status in logged]
    assert [s for p, s in shown if p == "/healthz"] == [404, 503]
    assert [s for p, s in shown if p.startswith("/static")] == [404, 503]
    assert [s for p, s in shown if p in ("/healthz/deep", "/")] == [200, 200, 204, 204, 302, 302, 404, 404, 503, 503]


# --- Fields -----------------------------------------------------------------------------------------


@pytest.fixture
def request_in_progress() -> Iterator[Request]:
    """A request that is being answered."""
    request = Request("the-id")
    token = log.current.set(request)
    yield request
    log.current.reset(token)


@pytest.mark.usefixtures("request_in_progress")
def test_json_has_one_object_per_record(journal: FakeJournal, attach: Attach) -> None:
    attach(JournalHandler("app"), JsonFormatter('{"release": "abc"}'))
    answer("/a?b=c", 404)
    fail("two\nlines \x1b\x7f\udcff")
    access, error = (json.loads(record["line"][3:]) for record in journal.wait_for(2))
    assert access.pop("duration_ms") >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", access.pop("time"))
    assert access == {
        "level": "INFO",
        "logger": "uvicorn.access",
        "message": '127.0.0.1:12345 - "GET /a?b=c HTTP/1.1" 404',
        "request_id": "the-id",
        "client": "127.0.0.1",
        "method": "GET",
        "path": "/a",
        "status": 404,
        "pid": os.getpid(),
        "release": "abc",
    }
    assert (error["message"], error["level"], error["request_id"]) == ("An error", "ERROR", "the-id")
    assert error["exception"].endswith("LookupError: two\nlines \x1b\x7f\udcff")


@pytest.mark.usefixtures("request_in_progress")
def test_fields_of_the_journal(journal: FakeJournal, attach: Attach) -> None:
    attach(JournalHandler("shop", fields=True), Formatter("%(message)s"))
    answer("/a%0Ab?b=c", 500, client="::1:99")
    logging.getLogger("app").warning("careful")
    access, warning = journal.wait_for(2)
    assert float(access.pop("DURATION_MS")) >= 0
    assert access == {
        "SYSLOG_IDENTIFIER": "shop",
        "PRIORITY": "6",
        "LOGGER": "uvicorn.access",
        "MESSAGE": '::1:99 - "GET /a%0Ab?b=c HTTP/1.1" 500',
        "REQUEST_ID": "the-id",
        "CLIENT": "::1",
        "HTTP_METHOD": "GET",
        "HTTP_PATH": "/a%0Ab",
        "HTTP_STATUS": "500",
    }
    assert (warning["REQUEST_ID"], warning["LOGGER"], warning["PRIORITY"]) == ("the-id", "app", "4")
    assert (warning["CODE_FILE"], warning["CODE_FUNC"]) == (__file__, "test_fields_of_the_journal")


FORMATTERS: dict[str, Callable[[], logging.Formatter]] = {
    "plain": lambda: Formatter(SPECIFIED),
    "with an id": lambda: Formatter("%(request_id)s %(message)s"),
    "with what only a record has": lambda: Formatter("%(levelno)d %(module)s %(message)s"),
    "with a date of its own": lambda: Formatter("%(asctime)s %(message)s", "%H"),
    "in another style": lambda: Formatter("{levelname} {message}", style="{"),
    "of the standard library": lambda: logging.Formatter("%(name)s %(message)s"),
    "json": lambda: JsonFormatter(),
    "json with members": lambda: JsonFormatter('{"release": "abc"}'),
    "json with members of the same name": lambda: JsonFormatter('{"pid": "none", "status": 1}'),
}


SCOPE: dict[str, Any] = {
    "type": "http",
    "headers": [],
    "client": ("127.0.0.1", 12345),
    "method": "GET",
    "path": "/",
    "query_string": b"",
    "http_version": "1.1",
}


class Cycle:
    """A request of uvicorn, as far as its access line goes."""

    def __init__(self, scope: dict[str, Any]) -> None:
        self.scope = scope
        self.access_log = True
        self.disconnected = False

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start" and self.access_log and not self.disconnected:
            words = '%s - "%s %s HTTP/%s" %d'
            target, version = get_path_with_query_string(cast(Any, self.scope)), self.scope["http_version"]
            client = get_client_addr(cast(Any, self.scope))
            logging.getLogger("uvicorn.access").info(
                words, client, self.scope["method"], target, version, message["status"]
            )


async def served(scope: dict[str, Any], status: int, *, early: bool) -> bool:
    """Answer a request; whether its line was taken before uvicorn had words for it. Never, unless ``early``."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status})

    cycle = Cycle(scope)

    async def in_between(message: Any) -> None:
        await cycle.send(message)

    await log.RequestContext(app)(scope, None, cycle.send if early else in_between)
    return not cycle.access_log


def take(path: str) -> None:
    """Answer a request for a path in the way in which the worker does."""
    asyncio.run(served({**SCOPE, "path": path}, 200, early=True))
    for handler in logging.getLogger("uvicorn.access").handlers:
        handler.flush()


CLIENTS: list[Any] = [("127.0.0.1", 12345), ("::1", 1), None]

TARGETS = [("/", b""), ("/a b", b"c=d&e"), ("/\n<0>x\x1b", b""), ("/x", b"\x1b"), ("/\xe4", b"")]
TARGETS += [("/" + "x" * log.PATH, b""), ("/", b"x" * log.PATH), ("/healthz", b""), ("/healthz", b"a")]


@pytest.mark.parametrize("fields", [False, True])
@pytest.mark.parametrize("form", FORMATTERS)
def test_a_line_that_is_taken_before_uvicorn_tells_it_is_the_same(
    journal: FakeJournal, attach: Attach, monkeypatch: pytest.MonkeyPatch, fields: bool, form: str
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1687343204.125)
    monkeypatch.setattr(time, "time_ns", lambda: 1687343204125000000)
    monkeypatch.setattr(Request, "milliseconds", lambda _, now: 1.5 if now else 0)
    handler = attach(
        JournalHandler("app", fields=fields, quiet=["/healthz"], server_errors="ERROR"), FORMATTERS[form]()
    )
    expected = 0
    for client in CLIENTS:
        for path, query in TARGETS:
            for status in (200, 404, 500):
                about = {"client": client, "method": "GET", "path": path, "query_string": query, "http_version": "1.1"}
                scope = {"type": "http", "headers": [(b"x-request-id", b"the-id")], **about}
                early = asyncio.run(served(scope, status, early=True))
                asyncio.run(served(scope, status, early=False))
                handler.flush()
                plain = path.isprintable() and query.isascii() and query.decode().isprintable()
                short = len(path) + len(query) <= log.PATH
                cuts = isinstance(handler.formatter, Formatter | JsonFormatter) and handler.formatter.short_cut
                assert early == (plain and short and status < 500 and cuts)
                if (path, query, status) != ("/healthz", b"", 200):
                    expected += 2
                    taken, ordinary = journal.wait_for(expected)[-2:]
                    assert taken == ordinary
    assert len(journal.records) == expected


def test_a_request_whose_client_has_gone_is_not_logged(journal: FakeJournal, attach: Attach) -> None:
    handler = attach(JournalHandler("app"), Formatter("%(message)s"))
    cycle = Cycle(SCOPE)
    cycle.disconnected = True

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    asyncio.run(log.RequestContext(app)(cycle.scope, None, cycle.send))
    handler.flush()
    fail()
    assert "LookupError" in journal.wait_for(1)[0]["MESSAGE"]


@pytest.mark.parametrize("type_", ["lifespan", "websocket"])
def test_what_is_no_request_is_left_to_uvicorn(attach: Attach, type_: str) -> None:
    attach(JournalHandler("app"), Formatter("%(message)s"))
    cycle = Cycle({"type": type_, "headers": []})

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": f"{type_}.accept"})

    asyncio.run(log.RequestContext(app)(cycle.scope, None, cycle.send))
    assert cycle.access_log


@pytest.mark.parametrize("fields", [False, True])
@pytest.mark.parametrize("form", ["plain", "json", "json with members"])
def test_the_short_cut_makes_no_record(
    journal: FakeJournal, attach: Attach, monkeypatch: pytest.MonkeyPatch, fields: bool, form: str
) -> None:
    attach(JournalHandler("app", fields=fields), FORMATTERS[form]())
    monkeypatch.delattr(logging.Logger, "makeRecord")
    take("/a")
    assert "/a" in str(journal.wait_for(1)[0])


def test_the_short_cut_heeds_filters_levels_and_other_handlers(journal: FakeJournal, attach: Attach) -> None:
    handler = attach(JournalHandler("app"), Formatter("%(message)s"))
    logger = logging.getLogger("uvicorn.access")
    for filterer in (handler, logger):
        filterer.addFilter(_is_odd)
        take("/2")
        take("/3")
        filterer.removeFilter(_is_odd)
    for leveled in (handler, logger):
        leveled.setLevel(logging.WARNING)
        take("/4")
        leveled.setLevel(logging.INFO)
    second = JournalHandler("second")
    second.setFormatter(Formatter("also %(message)s"))
    logger.addHandler(second)
    take("/5")
    logger.removeHandler(second)
    second.close()
    lines = [record["line"].split() for record in journal.wait_for(4)]
    assert [(line[0], line[-3]) for line in lines] == [
        ("<6>127.0.0.1:12345", "/3"),
        ("<6>127.0.0.1:12345", "/3"),
        ("<6>127.0.0.1:12345", "/5"),
        ("<6>also", "/5"),
    ]


def _is_odd(record: logging.LogRecord) -> bool:
    """Whether the path of an access record ends with an odd number."""
    access = log.answered(record)
    return access is not None and int(access[2][-1]) % 2 == 1


def test_dates_are_those_of_the_standard_library() -> None:
    ours, theirs = Formatter(SPECIFIED), logging.Formatter(SPECIFIED)
    for created in (0.0, 1.999, 1.9999999, 2.0, 1687343204.125, 1687343204.9996):
        record = logging.makeLogRecord({"created": created, "msecs": int((created % 1) * 1000) + 0.0, "name": "x"})
        assert ours.format(record) == theirs.format(record)


# --- Requests ---------------------------------------------------------------------------------------


def respond(app: Any, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of the response to a request with these headers."""
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(RequestContext(app)({"type": "http", "headers": headers}, None, send))
    return list(sent[0]["headers"])


async def seen_by_threads(_scope: Any, _receive: Any, send: Any) -> None:
    """Answer with the request id that a thread started by the application sees."""
    request = await asyncio.to_thread(log.current.get)
    assert request is not None
    await send({"type": "http.response.start", "status": 200, "headers": [(b"seen", request.id.encode())]})


@pytest.mark.parametrize("given", [b"abc-1", b"Root=1-67891233-abcdef012345678912345678", b"a" * 128])
def test_a_request_keeps_its_id(given: bytes) -> None:
    assert respond(seen_by_threads, [(b"host", b"x"), (b"x-request-id", given)]) == [
        (b"seen", given),
        (b"x-request-id", given),
    ]


@pytest.mark.parametrize("given", [b"", b"a b", b"a\nb", b"\xff", b'"', b"a" * 129])
def test_an_id_that_could_do_harm_in_a_log_is_replaced(given: bytes) -> None:
    (_, seen), (_, sent) = respond(seen_by_threads, [(b"x-request-id", given)])
    assert seen == sent
    assert re.fullmatch(rb"[0-9a-f]{16}", sent)


def test_requests_without_an_id_get_different_ones() -> None:
    assert len({respond(seen_by_threads, [])[1] for _ in range(10)}) == 10


def test_the_application_may_set_the_header_itself() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Request-ID", b"mine")]})

    assert respond(app, [(b"x-request-id", b"theirs")]) == [(b"X-Request-ID", b"mine")]


# --- What nobody catches ----------------------------------------------------------------------------


@pytest.fixture
def streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Where the journal takes new streams."""
    address = str(tmp_path / "streams")
    monkeypatch.setattr(log, "STREAMS", address)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        yield listener
    faulthandler.enable()


@pytest.mark.usefixtures("journal")
def test_a_crash_of_the_interpreter_is_told_as_an_error(
    streams: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    log.log_uncaught("app")
    worker = os.fork()
    if not worker:
        os.kill(os.getpid(), signal.SIGSEGV)
    stream, _ = streams.accept()
    with stream, stream.makefile() as lines:
        identifier, _, priority, *_, first = [next(lines).rstrip() for _ in range(8)]
    os.kill(worker, signal.SIGKILL)  # it may still have much to tell
    os.waitpid(worker, 0)
    assert logging.lastResort
    logging.lastResort.close()
    assert (identifier, priority, first) == ("app", "3", "Fatal Python error: Segmentation fault")


@pytest.mark.usefixtures("streams")
def test_an_uncaught_exception_is_one_critical_record_before_logging_is_set_up(
    journal: FakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    log.log_uncaught("app")
    assert logging.lastResort
    logging.lastResort.close()  # as logging.config does before it fails

    def crash() -> None:
        raise LookupError("nobody looks")

    thread = threading.Thread(target=crash)
    thread.start()
    thread.join()
    logging.lastResort.close()
    (record,) = journal.wait_for(1)
    assert (record["PRIORITY"], record["SYSLOG_IDENTIFIER"]) == ("2", "app")
    assert record["MESSAGE"].startswith("Uncaught exception\nTraceback")
    assert record["MESSAGE"].endswith("LookupError: nobody looks")
