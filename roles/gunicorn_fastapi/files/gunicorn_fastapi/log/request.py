"""What the records of one request share, and what an access line says about it."""

import contextvars
import logging
import re
import time
from typing import Any, cast
from urllib.parse import quote

from gunicorn_fastapi.log.words import host

JOURNAL_NAMES = {
    "client": "CLIENT",
    "method": "HTTP_METHOD",
    "path": "HTTP_PATH",
    "status": "HTTP_STATUS",
    "duration_ms": "DURATION_MS",
}
"""The journal's names for the fields of an access record."""


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


Answered = tuple[str, str, str, str, int]
"""The client's address and port, the method, the path with its query, the HTTP version, the status."""


WORDS = '%s - "%s %s HTTP/%s" %d'
"""uvicorn's words for a request."""


_UNRESERVED = re.compile(r"[A-Za-z0-9_.~/-]*")


AccessLine = tuple[float, float, Request, tuple[str, int] | None, str, str, bytes, str, int]
"""An access line that is put into words later: when (``time.time()`` and ``time.perf_counter()``), about which request;
of its scope the client, the method, the path, the query and the HTTP version; the status."""


def in_words(line: AccessLine) -> Answered:
    """What uvicorn would have said, with the client as it is logged."""
    _, _, _, client, method, path, query, version, status = line
    address = f"{host(client[0])}:{client[1]}" if client else ""
    target = path if _UNRESERVED.fullmatch(path) else quote(path)
    return address, method, f"{target}?{query.decode()}" if query else target, version, status


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
