"""How a record becomes text: plain lines, or JSON."""

import json
import logging
import os
import time
from collections.abc import Callable
from typing import Any

from gunicorn_fastapi.log.request import (
    JOURNAL_NAMES,
    WORDS,
    AccessLine,
    Answered,
    Request,
    access_fields,
    answered,
    current,
    in_words,
)

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
        # What is the same in all access lines is filled in once.
        self._access = fmt or "%(message)s"
        if "%%" not in self._access:
            self._access = self._access.replace("%(levelname)s", "INFO").replace("%(name)s", "uvicorn.access")
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
        return self._access % {
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
        """What format() makes of the record of this request, where there is a ``short_cut``.

        Client and path are percent-encoded: nothing in them needs an escape.
        """
        created, now, request, *_ = line
        client, method, path, _, status = access
        return (
            f'{{"time":"{self._seconds.text(created)}.{int(created % 1 * 1000):03d}Z",'
            f'"level":"INFO","logger":"uvicorn.access","message":{_quote(WORDS % access)},"request_id":"{request.id}",'
            f'"client":"{client.rpartition(":")[0]}","method":"{method}",'
            f'"path":"{path.partition("?")[0]}","status":{status},"duration_ms":{request.milliseconds(now)},'
            f'"pid":{os.getpid()}{self._end}'
        )
