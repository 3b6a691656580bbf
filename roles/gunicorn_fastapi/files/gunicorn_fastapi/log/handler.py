"""The handler that ``logging.conf`` names: collects access lines, and sends each record by the cheapest way."""

import asyncio
import fnmatch
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from gunicorn_fastapi.log import journal
from gunicorn_fastapi.log.formats import Formatter, JsonFormatter
from gunicorn_fastapi.log.journal import Journal, field, priority
from gunicorn_fastapi.log.request import (
    JOURNAL_NAMES,
    AccessLine,
    Answered,
    Request,
    access_fields,
    answered,
    current,
    in_words,
)
from gunicorn_fastapi.log.words import TARGET, USUAL, Targets, client, printable

DELAY = 0.05
"""Seconds that an access line may wait for others. A killed process loses that much of them, and more only
while the application keeps the event loop from its turn."""

LINES = 256
"""Access lines that may wait."""

LINE = 8 * 1024
"""Bytes of a line; a longer record goes by the journal's own protocol, which has no limit."""

SERVERS = ("uvicorn.error", "gunicorn.error", "gunicorn.access")
"""Loggers whose arguments may be words of a client."""


class JournalHandler(logging.Handler):
    """Sends records to the journal, or prints them when standard output is something else.

    ``identifier``: what journalctl shows before the process id. ``fields``: send every record with
    fields to search by. ``quiet``: shell patterns of paths with their query; of requests to them only
    those that fail (status 400 and above) are logged. ``server_errors``: level of the access lines of
    requests that were answered with 5xx.

    What a client chooses has a length and a form (:mod:`~gunicorn_fastapi.log.words`); what the application says is
    whole. Access lines wait up to ``DELAY`` for others. Any other record goes at once, after those before it.
    """

    def __init__(
        self, identifier: str, *, fields: bool = False, quiet: Sequence[str] = (), server_errors: str = "INFO"
    ) -> None:
        super().__init__()
        self._server_errors = (logging.getLevelNamesMapping()[server_errors], server_errors)
        self._identifier = field("SYSLOG_IDENTIFIER", identifier)
        self._quiet = re.compile("|".join(map(fnmatch.translate, quiet)) or r"(?!)").match
        self._journal = Journal() if journal.writes_to_journal() else None
        self._output = journal.copy_for(self, journal.STDOUT)
        self._fields = fields and self._journal is not None
        self._format_access: Callable[[AccessLine, Answered], str] | None = None
        self._targets = Targets()
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
            self._take(record, self.format)
        except Exception:  # noqa: BLE001 (the contract of emit: to log never raises)
            self.handleError(record)

    def carry(self, other: logging.Handler) -> None:
        """Send what another handler is given from now on, in the form that it has there."""

        def emit(record: logging.LogRecord) -> None:
            try:
                with cast(threading.RLock, self.lock):
                    self._take(record, other.format)
            except Exception:  # noqa: BLE001 (as above)
                other.handleError(record)

        other.emit = emit  # type: ignore[method-assign]

    def _take(self, record: logging.LogRecord, form: Callable[[logging.LogRecord], str]) -> None:
        access = answered(record)
        if access and access[4] < 400 and self._quiet(access[2]):
            return
        if access:
            address, method, target, version, status = access
            record.args = access = client(address), method, self._targets.cut(target, record.created), version, status
        elif record.name in SERVERS and isinstance(record.args, tuple):
            cut = self._targets.cut
            record.args = tuple(cut(word, record.created) if isinstance(word, str) else word for word in record.args)
        if access and access[4] >= 500:
            record.levelno, record.levelname = self._server_errors
        text = printable(form(record))
        line = b"" if self._fields else self._line(record, text)
        if self._fields:
            self._append(self._entry(record, text, access))
        elif self._journal and ("\n" in text or len(line) > LINE):
            self._send_between_lines(self._journal, self._entry(record, text, access))
        else:
            self._append(line)
        if access is None or record.levelno >= logging.WARNING:
            self.flush()
        elif not self._tick_is_due:
            self._flush_later()

    def take(self, scope: Any, request: Request, status: int) -> bool:
        """Take a request as it is answered, before uvicorn tells of it; False when that needs a record."""
        if self._format_access is None or self.filters or self.level > logging.INFO or status >= 500:
            return False
        path, query = scope["path"], scope["query_string"]
        if len(path) + len(query) > TARGET or not path.isprintable():
            return False
        if query and not (query.isascii() and query.decode().isprintable()):
            return False
        method, version = scope["method"], scope["http_version"]
        line = (time.time(), time.perf_counter(), request, scope["client"], method, path, query, version, status)
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
            for lines in journal.batches(entries):
                journal.write(self._output, lines)
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
        return self._identifier + b"".join([field(name, printable(str(value))) for name, value in fields.items()])

    def _access_entry(self, line: AccessLine) -> bytes:
        """The same as _line() or _entry(), of an access line that took the short cut; empty when it is not logged."""
        assert self._format_access  # it took no line without
        access = in_words(line)
        if access[4] < 400 and self._quiet(access[2]):
            return b""
        address, method, target, version, status = access
        if len(target) > USUAL:
            target = self._targets.cut(target, line[0])
            access = address, method, target, version, status
        text = self._format_access(line, access)
        if not self._fields:
            return f"<6>{text}\n".encode() if self._journal else f"{text}\n".encode()
        _, now, request, *_ = line
        entry = (
            f"PRIORITY=6\nLOGGER=uvicorn.access\nMESSAGE={text}\nREQUEST_ID={request.id}\nCLIENT={address.rpartition(':')[0]}\n"
            f"HTTP_METHOD={method}\nHTTP_PATH={target.partition('?')[0]}\nHTTP_STATUS={status}\n"
            f"DURATION_MS={request.milliseconds(now)}\n"
        )
        return self._identifier + entry.encode()

    def _send_between_lines(self, sender: Journal, entry: bytes) -> None:
        """Send a record by the journal's protocol, in its place among those that go by standard output."""
        self.flush()
        journal.wait_until_read(self._output)
        sender.send(entry)
        sender.wait()
