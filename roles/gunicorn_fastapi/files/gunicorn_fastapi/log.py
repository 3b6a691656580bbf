"""Log records as the journal should have them: whole, in order, with their true priority, and cheap.

``logging.conf`` names what is here; nothing else configures it::

    [handler_journal]
    class=gunicorn_fastapi.log.JournalHandler
    formatter=line
    args=("fastapi",)
    kwargs={"quiet": ["/healthz"]}

    [formatter_line]
    class=gunicorn_fastapi.log.Formatter
    format=%(asctime)s - %(levelname)s - %(name)s - %(message)s

The journal takes records in two ways. What is written to standard output is cheapest, many lines in one
system call, but it ends a record at each newline. Its own protocol takes any record with any fields, one
per system call. So lines go the first way, and tracebacks the second; with fields all do.

There are as many access lines as requests. So they take a short cut wherever the result is the same: they are
taken before uvicorn puts them into words, no LogRecord is made, and they are formatted when they are written, many
at once. That costs a fraction of what each would cost between two pieces of work that have nothing to do with it.
"""

import asyncio
import contextlib
import contextvars
import errno
import faulthandler
import fcntl
import fnmatch
import json
import logging
import os
import random
import re
import socket
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, cast
from urllib.parse import quote

from gunicorn.errors import HaltServer  # type: ignore[import-untyped]

ADDRESS = "/run/systemd/journal/socket"

STREAMS = "/run/systemd/journal/stdout"

STDOUT = 1

DELAY = 0.05
"""Seconds that an access line may wait for others. A killed process loses that much of them, and more only
while the application keeps the event loop from its turn."""

LINES = 256
"""Access lines that may wait."""

BATCH = 32 * 1024
"""Bytes written in one go. The kernel keeps as much in one piece, whatever other processes write to the
same socket, and the journal takes longer lines for several records."""

PATH = 1024
"""Characters up to which a path takes the short cut: in whatever format, its line is far from too long."""

LINE = BATCH // 4
"""Characters from which on a record goes alone: encoded it may be four times as long."""

PATIENCE = 1.0
"""Seconds to wait until the journal has read something."""

REQUEST_ID = b"x-request-id"
_VALID_ID = re.compile(rb"[A-Za-z0-9._:+/=@-]{1,128}")

# All but the newline and the tab: terminals obey them, and journalctl shows no message that has them.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


JOURNAL_NAMES = {
    "client": "CLIENT",
    "method": "HTTP_METHOD",
    "path": "HTTP_PATH",
    "status": "HTTP_STATUS",
    "duration_ms": "DURATION_MS",
}
"""The journal's names for the fields of an access record."""


# --- Requests ---------------------------------------------------------------------------------------


class Request:
    """What the records of one request share: its id, and when it began (``time.perf_counter()``)."""

    __slots__ = ("id", "start")

    def __init__(self, identifier: str) -> None:
        self.id = identifier
        self.start = time.perf_counter()

    def milliseconds(self, now: float) -> float:
        """How long it has been going on at a time by the same clock."""
        return round((now - self.start) * 1000, 3)


current: contextvars.ContextVar[Request | None] = contextvars.ContextVar("request", default=None)
"""The request that is being answered. Threads and tasks that the application starts for it inherit it."""


class RequestContext:
    """An ASGI application around another one: gives each request an id, and the response the same.

    A valid ``X-Request-ID`` of the client, or of the proxy in front, is kept. A response in which the
    application has set one stays as it is.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        identifier = _incoming_id(scope["headers"]) or f"{random.getrandbits(64):016x}"
        request = Request(identifier)
        # Never reset: the server's own records about this request come after the application has returned.
        current.set(request)
        header = (REQUEST_ID, identifier.encode())
        # Where uvicorn keeps whether it logs this request.
        cycle: Any = getattr(send, "__self__", None)

        async def send_with_id(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                for name, _ in headers:
                    if name.lower() == REQUEST_ID:
                        break
                else:
                    headers.append(header)
                    message = {**message, "headers": headers}
                # Of a client that has gone it logs nothing.
                if getattr(cycle, "access_log", False) and not cycle.disconnected:
                    cycle.access_log = not _take(scope, request, message["status"])
            await send(message)

        await self.app(scope, receive, send_with_id)


def _incoming_id(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """The id that the request brings with it, empty when it has none or one that could not be trusted in a log."""
    for name, value in headers:
        if name == REQUEST_ID:
            return value.decode() if _VALID_ID.fullmatch(value) else ""
    return ""


Answered = tuple[str, str, str, str, int]
"""The client's address and port, the method, the path with its query, the HTTP version, the status."""


WORDS = '%s - "%s %s HTTP/%s" %d'
"""uvicorn's words for a request."""


AccessLine = tuple[float, float, Request, tuple[str, int] | None, str, str, bytes, str, int]
"""An access line that is put into words later: when (``time.time()`` and ``time.perf_counter()``), about which request;
of its scope the client, the method, the path, the query and the HTTP version; the status."""


def in_words(line: AccessLine) -> Answered:
    """What uvicorn would have said."""
    _, _, _, client, method, path, query, version, status = line
    address = f"{client[0]}:{client[1]}" if client else ""
    target = f"{quote(path)}?{query.decode()}" if query else quote(path)
    return address, method, target, version, status


def _take(scope: Any, request: Request, status: int) -> bool:
    """Log a request before uvicorn tells of it, if one :class:`JournalHandler` is all that hears of it."""
    logger = _access_logger
    if len(logger.handlers) != 1 or logger.propagate or logger.filters or not logger.isEnabledFor(logging.INFO):
        return False
    handler = logger.handlers[0]
    return type(handler) is JournalHandler and handler.take(scope, request, status)


_access_logger = logging.getLogger("uvicorn.access")


def answered(record: logging.LogRecord) -> Answered | None:
    """What uvicorn tells with an access record; None for all other records."""
    if record.name == "uvicorn.access" and isinstance(record.args, tuple) and len(record.args) == 5:
        return cast(Answered, record.args)
    return None


def access_fields(access: Answered) -> dict[str, Any]:
    """The same, by the names that the JSON format has, for the request that is being answered.

    ``duration_ms``: milliseconds from the request's headers to the response's. The path comes as
    uvicorn prints it, percent-encoded, without the query.
    """
    client, method, path, _, status = access
    fields: dict[str, Any] = {
        "client": client.rpartition(":")[0],
        "method": method,
        "path": path.partition("?")[0],
        "status": status,
    }
    request = current.get()
    if request is not None:
        fields["duration_ms"] = request.milliseconds(time.perf_counter())
    return fields


# --- Formats ----------------------------------------------------------------------------------------


_quote = json.encoder.encode_basestring


class Seconds:
    """Dates reckoned once per second instead of for each record."""

    def __init__(self, form: str, zone: Callable[[float], time.struct_time]) -> None:
        self._form = form
        self._zone = zone
        self._last = (-1, "")

    def text(self, created: float) -> str:
        second = int(created)
        if self._last[0] != second:
            self._last = (second, time.strftime(self._form, self._zone(second)))
        return self._last[1]


class Formatter(logging.Formatter):
    """The standard library's formatter, faster, and with ``%(request_id)s``, ``-`` outside of requests."""

    def __init__(self, fmt: str | None = None, datefmt: str | None = None, style: Any = "%") -> None:
        super().__init__(fmt, datefmt, style)
        self._seconds = Seconds("%Y-%m-%d %H:%M:%S", time.localtime)
        self.short_cut = type(self) is Formatter and datefmt is None and style == "%" and self._needs_no_record()

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 (logging's name)
        if datefmt is not None:
            return super().formatTime(record, datefmt)
        return f"{self._seconds.text(record.created)},{int(record.msecs):03d}"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        request = current.get()
        record.request_id = request.id if request else "-"
        return super().formatMessage(record)

    def format_access(self, line: AccessLine, access: Answered) -> str:
        """What format() makes of the record of this request, where there is a ``short_cut``."""
        created, request = line[0], line[2]
        return cast(str, self._fmt) % {
            "asctime": f"{self._seconds.text(created)},{int(created % 1 * 1000):03d}",
            "levelname": "INFO",
            "name": "uvicorn.access",
            "message": WORDS % access,
            "request_id": request.id,
        }

    def _needs_no_record(self) -> bool:
        try:
            line: AccessLine = (0, 0, Request(""), None, "", "", b"", "", 0)
            return self.format_access(line, in_words(line)).isprintable()
        except (KeyError, TypeError):
            return False


class JsonFormatter(logging.Formatter):
    """One JSON object per record. ``format`` is a JSON object too: its members are part of every record."""

    _RECORD = frozenset(("time", "level", "logger", "message", "request_id", "pid", *JOURNAL_NAMES))

    def __init__(self, fmt: str | None = None, datefmt: str | None = None, style: Any = "%") -> None:
        super().__init__(None, datefmt, style)
        self._static: dict[str, Any] = json.loads(fmt or "{}")
        self._seconds = Seconds("%Y-%m-%dT%H:%M:%S", time.gmtime)
        self._encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
        self._end = ("," if self._static else "") + self._encode(self._static)[1:]
        plain = self._end.isprintable() and not self._static.keys() & self._RECORD
        self.short_cut = type(self) is JsonFormatter and plain

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": f"{self._seconds.text(record.created)}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage().rstrip("\n"),
        }
        request = current.get()
        if request is not None:
            line["request_id"] = request.id
        access = answered(record)
        if access is not None:
            line |= access_fields(access)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return self._encode(line | {"pid": record.process} | self._static)

    def format_access(self, line: AccessLine, access: Answered) -> str:
        """What format() makes of the record of this request, where there is a ``short_cut``."""
        created, now, request, *_ = line
        client, method, path, _, status = access
        return (
            f'{{"time":"{self._seconds.text(created)}.{int(created % 1 * 1000):03d}Z",'
            f'"level":"INFO","logger":"uvicorn.access","message":{_quote(WORDS % access)},"request_id":"{request.id}",'
            f'"client":{_quote(client.rpartition(":")[0])},"method":{_quote(method)},'
            f'"path":{_quote(path.partition("?")[0])},"status":{status},"duration_ms":{request.milliseconds(now)},'
            f'"pid":{os.getpid()}{self._end}'
        )


# --- The journal ------------------------------------------------------------------------------------


def priority(level: int) -> int:
    """The journal's priority for a level of ``logging``."""
    for least, number in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if level >= least:
            return number
    return 7


def printable(text: str) -> str:
    """The text with its control characters, but newline and tab, written as ``\\u001b``, which JSON knows too."""
    if text.isprintable():
        return text
    return _CONTROL.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def field(name: str, value: object) -> bytes:
    """One field as the journal's protocol has it: with its length when the value has a newline."""
    data = str(value).encode("utf-8", "backslashreplace")
    if b"\n" in data:
        return b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(data)), data)
    return b"%s=%s\n" % (name.encode(), data)


def writes_to_journal() -> bool:
    """Whether standard output is the stream to the journal that systemd made."""
    with contextlib.suppress(OSError):
        stream = os.fstat(STDOUT)
        return os.environ.get("JOURNAL_STREAM") == f"{stream.st_dev}:{stream.st_ino}"
    return False


def write(data: bytes) -> None:
    """Write all of it to standard output."""
    while data:
        data = data[os.write(STDOUT, data) :]


def batches(lines: list[bytes]) -> Iterator[bytes]:
    """The lines in as few pieces as there can be."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if size + len(line) > BATCH:
            yield b"".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    yield b"".join(piece)


def wait_until_read(descriptor: int) -> None:
    """Wait until the journal has read what was sent through a socket, at most for ``PATIENCE``."""
    deadline = time.monotonic() + PATIENCE
    while any(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4))) and time.monotonic() < deadline:
        time.sleep(0.0002)


class Journal:
    """The journal's own protocol."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def _connect(self) -> None:
        """Look the address up once instead of for each record."""
        self._socket.close()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.connect(ADDRESS)

    def send(self, entry: bytes) -> None:
        """Send one record, of any size. Waits while the journal's queue is full.

        Also after close(): logging.config closes every handler there is before it makes its own, and when
        that fails, the handler of last resort has to tell. And after the journal's socket was made anew.
        """
        try:
            self._send(entry)
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.ENOTCONN, errno.ECONNREFUSED, errno.ECONNRESET):
                raise
            self._connect()
            self._send(entry)

    def _send(self, entry: bytes) -> None:
        try:
            self._socket.send(entry)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            self._send_file(entry)

    def _send_file(self, entry: bytes) -> None:
        """Send what is too long for a datagram, in memory that nobody can change any more."""
        descriptor = os.memfd_create("journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            file.write(entry)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))
            self._socket.sendmsg([], [rights])

    def wait(self) -> None:
        """Return when the journal has read what was sent."""
        wait_until_read(self._socket.fileno())

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()


class JournalHandler(logging.Handler):
    """Sends records to the journal, or prints them when standard output is something else.

    ``identifier``: what journalctl shows before the process id. ``fields``: send every record with
    fields to search by. ``quiet``: shell patterns of paths with their query; of requests to them only
    those that fail (status 400 and above) are logged. ``server_errors``: level of the access lines of
    requests that were answered with 5xx.

    Access lines wait up to ``DELAY`` for others. Any other record goes at once, after those before it.
    """

    def __init__(
        self, identifier: str, *, fields: bool = False, quiet: Sequence[str] = (), server_errors: str = "INFO"
    ) -> None:
        super().__init__()
        self._server_errors = (logging.getLevelNamesMapping()[server_errors], server_errors)
        self._identifier = field("SYSLOG_IDENTIFIER", identifier)
        self._quiet = re.compile("|".join(map(fnmatch.translate, quiet)) or r"(?!)").match
        self._journal = Journal() if writes_to_journal() else None
        self._fields = fields and self._journal is not None
        self._format_access: Callable[[AccessLine, Answered], str] | None = None
        self._begin()
        os.register_at_fork(after_in_child=self._begin)  # what waits is the parent's to write

    def _begin(self) -> None:
        self._waiting: list[bytes | AccessLine] = []
        self._tick_is_due = False
        self._known_until = 0.0

    def setFormatter(self, fmt: logging.Formatter | None) -> None:  # noqa: N802 (logging's name)
        """Format records so, and access lines by the short cut if there is one."""
        self.flush()
        super().setFormatter(fmt)
        self._format_access = None
        if isinstance(fmt, Formatter | JsonFormatter) and fmt.short_cut:
            self._format_access = fmt.format_access

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record. One that cannot be formatted or sent is reported on standard error, as ``logging`` does."""
        try:
            self._take(record)
        except Exception:  # noqa: BLE001 (the contract of emit: to log never raises)
            self.handleError(record)

    def _take(self, record: logging.LogRecord) -> None:
        access = answered(record)
        if access and access[4] < 400 and self._quiet(access[2]):
            return
        if access and access[4] >= 500:
            record.levelno, record.levelname = self._server_errors
        text = printable(self.format(record))
        if self._fields:
            self._append(self._entry(record, text, access))
        elif self._journal and ("\n" in text or len(text) >= LINE):
            self._send_between_lines(self._journal, self._entry(record, text, access))
        else:
            self._append(self._line(record, text))
        if access is None or record.levelno >= logging.WARNING:
            self.flush()
        elif not self._tick_is_due:
            self._flush_later()

    def take(self, scope: Any, request: Request, status: int) -> bool:
        """Take a request as it is answered, before uvicorn tells of it; False when that needs a record."""
        if self._format_access is None or self.filters or self.level > logging.INFO or status >= 500:
            return False
        path, query = scope["path"], scope["query_string"]
        if len(path) + len(query) > PATH or not path.isprintable():
            return False
        if query and not (query.isascii() and query.decode().isprintable()):
            return False
        client, method, version = scope["client"], scope["method"], scope["http_version"]
        line = (time.time(), time.perf_counter(), request, client, method, path, query, version, status)
        with cast(threading.RLock, self.lock):
            self._append(line)
            if not self._tick_is_due:
                self._flush_later()
        return True

    def flush(self) -> None:
        """Send what waits."""
        self.acquire()
        try:
            if self._waiting:
                waiting, self._waiting = self._waiting, []
                entries = [entry if isinstance(entry, bytes) else self._access_entry(entry) for entry in waiting]
                self._send([entry for entry in entries if entry])
        finally:
            self.release()

    def close(self) -> None:
        """Send what waits, and nothing more."""
        self.flush()
        if self._journal:
            self._journal.close()
        super().close()

    def _send(self, entries: list[bytes]) -> None:
        if not (self._journal and self._fields):
            for lines in batches(entries):
                write(lines)
            return
        for entry in entries:
            self._journal.send(entry)
        # The journal asks the kernel which unit a process belongs to when it hears of it for the first
        # time, and again after five minutes of silence. A process that is gone by then has none.
        now = time.monotonic()
        if now > self._known_until:
            self._journal.wait()
        self._known_until = now + 240

    def _append(self, entry: bytes | AccessLine) -> None:
        self._waiting.append(entry)
        if len(self._waiting) == LINES:
            self.flush()

    def _flush_later(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
        else:
            loop.call_later(DELAY, self._tick)
            self._tick_is_due = True

    def _tick(self) -> None:
        self._tick_is_due = False
        self.flush()

    def _line(self, record: logging.LogRecord, text: str) -> bytes:
        """A line of standard output. Further lines of the same record begin with a tab, so none can be forged."""
        if self._journal:
            text = f"<{priority(record.levelno)}>{text}"
        return text.replace("\n", "\n\t").encode("utf-8", "backslashreplace") + b"\n"

    def _entry(self, record: logging.LogRecord, text: str, access: Answered | None) -> bytes:
        """A record in the journal's protocol."""
        fields = {"PRIORITY": priority(record.levelno), "LOGGER": record.name, "MESSAGE": text}
        request = current.get()
        if request is not None:
            fields["REQUEST_ID"] = request.id
        if access is not None:
            about = access_fields(access)
            fields |= {JOURNAL_NAMES[name]: value for name, value in about.items()}
        else:
            fields |= {"CODE_FILE": record.pathname, "CODE_LINE": record.lineno, "CODE_FUNC": record.funcName}
        if record.exc_info and record.exc_info[0]:
            fields["EXCEPTION"] = record.exc_info[0].__qualname__
        return self._identifier + b"".join([field(name, value) for name, value in fields.items()])

    def _access_entry(self, line: AccessLine) -> bytes:
        """The same as _line() or _entry(), of an access line that took the short cut; empty when it is not logged."""
        assert self._format_access  # it took no line without
        access = in_words(line)
        client, method, path, _, status = access
        if status < 400 and self._quiet(path):
            return b""
        text = self._format_access(line, access)
        if not self._fields:
            return f"<6>{text}\n".encode() if self._journal else f"{text}\n".encode()
        _, now, request, *_ = line
        entry = (
            f"PRIORITY=6\nLOGGER=uvicorn.access\nMESSAGE={text}\nREQUEST_ID={request.id}\nCLIENT={client.rpartition(':')[0]}\n"
            f"HTTP_METHOD={method}\nHTTP_PATH={path.partition('?')[0]}\nHTTP_STATUS={status}\n"
            f"DURATION_MS={request.milliseconds(now)}\n"
        )
        return self._identifier + entry.encode()

    def _send_between_lines(self, journal: Journal, entry: bytes) -> None:
        """Send a record by the journal's protocol, in its place among those that go by standard output."""
        self.flush()
        wait_until_read(STDOUT)
        journal.send(entry)
        journal.wait()


# --- What nobody catches ----------------------------------------------------------------------------


def error_stream(identifier: str) -> socket.socket:
    """A stream to the journal whose lines are records of priority err, as systemd makes them for standard error."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.connect(STREAMS)
    # Identifier, unit (the journal knows it), priority, whether lines begin with one, and three ways to forward them.
    stream.sendall(f"{identifier}\n\n3\n0\n0\n0\n0\n".encode())
    return stream


def log_uncaught(identifier: str) -> None:
    """Have what ends the process or a thread in the journal as an error, also before logging is set up.

    An exception is one record. A crash of the interpreter is told line by line, by what is left of it.
    """
    if writes_to_journal():
        # Never closed: the descriptor belongs to the handler of a signal.
        faulthandler.enable(error_stream(identifier).detach())
    logging.lastResort = JournalHandler(identifier)
    logging.lastResort.setLevel(logging.WARNING)

    def report(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        # HaltServer ends gunicorn, which has logged why.
        if error is not None and not isinstance(error, (HaltServer, KeyboardInterrupt)):
            logging.getLogger().critical("Uncaught exception", exc_info=(kind, error, trace))

    sys.excepthook = report
    threading.excepthook = lambda args: report(args.exc_type, args.exc_value, args.exc_traceback)
