"""A journal for the tests: reads what arrives by either way, and what is logged there."""

import asyncio
import logging
import os
import re
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from gunicorn_fastapi.log import Formatter, JournalHandler, JsonFormatter, RequestContext
from servers import BIN, ServerProcess, eventually, free_port
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string

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
    monkeypatch.setattr("gunicorn_fastapi.log.journal.ADDRESS", address)
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(address)
        stream = os.fstat(theirs.fileno())
        monkeypatch.setattr("gunicorn_fastapi.log.journal.STDOUT", theirs.fileno())
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

    await RequestContext(app)(scope, None, cycle.send if early else in_between)
    return not cycle.access_log


def take(path: str, **scope: Any) -> None:
    """Answer a request for a path in the way in which the worker does."""
    asyncio.run(served({**SCOPE, "path": path, **scope}, 200, early=True))
    for handler in logging.getLogger("uvicorn.access").handlers:
        handler.flush()


FILES = Path(__file__).parent.parent / "roles/gunicorn_fastapi/files"

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


def serve(
    start_server: Callable[..., ServerProcess], directory: Path, application: str, settings: str = ""
) -> tuple[ServerProcess, int]:
    """A server of an application, whose records are in its output by way of the role's handler; and its port."""
    (directory / "logging.conf").write_text(LOGGING)
    (directory / "main.py").write_text(application)
    (directory / "gunicorn.conf.py").write_text(
        "from gunicorn_fastapi.hooks import Hooks\nglobals().update(Hooks('app', 'release').settings({}))\n"
        "control_socket_disable = True\nkeepalive = 1\ngraceful_timeout = 10\n"
        "worker_class = 'gunicorn_fastapi.worker.DrainingUvicornWorker'\nlogconfig = 'logging.conf'\n" + settings
    )
    port = free_port()
    server = start_server(
        [str(BIN / "gunicorn"), "main:app", "--bind", f"127.0.0.1:{port}"],
        directory=directory,
        environment={"PYTHONPATH": str(FILES), "LISTEN_FDS": "0"},
    )
    server.wait_for("Application startup complete")
    return server, port
