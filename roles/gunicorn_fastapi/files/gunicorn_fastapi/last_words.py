"""What a worker that is killed leaves behind: where it was, and the requests that it held.

One that keeps the interpreter to itself has no turn any more to say so. So it says it before: each request is noted,
for as long as it lasts, in memory that gunicorn has too, and shortly before gunicorn gives a worker up, a watchdog of
the interpreter, which needs no turn, writes down the stack of each thread. gunicorn tells when the worker is dead.
"""

import faulthandler
import marshal
import mmap
import os
import tempfile
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from gunicorn_fastapi.doing import memory
from gunicorn_fastapi.log import leaving
from gunicorn_fastapi.log.request import Request, current
from gunicorn_fastapi.log.words import USUAL, cut

SLOTS = 1024
"""How many requests are noted at a time. Of more nothing is known."""

SIZE = 1024
"""Bytes that there are for each."""

TABLE = "gunicorn_fastapi-requests"
"""The beginning of the table's name."""

FREE, RUNNING, BEGUN = range(3)
"""The first byte of a slot: whether there is a request, and whether its response has begun."""

FORM = 2
"""A form of marshal's that is written three times as fast as its newest."""

MOST = 20
"""Requests that the record names. Each has an access line."""

STACKS = 256 * 1024
"""Bytes of stacks that the record has at most."""

LOST = 502
"""The status in the access line of a request that nobody answered: what a proxy tells its client then."""


@dataclass(frozen=True)
class Held:
    """A request that a worker had when it died. ``start`` is a time of ``time.perf_counter()``."""

    start: float
    id: str
    client: tuple[str, int] | None
    method: str
    path: str
    query: bytes
    version: str
    has_begun: bool = False

    def in_words(self, now: float) -> str:
        """Method, path, id and age: ``GET /export (a4c280b389aac9ee, 28.1 s)``."""
        path = cut(quote(self.path), USUAL)
        return f"{self.method} {path} ({self.id}, {now - self.start:.1f} s{', response begun' * self.has_begun})"


class LastWords:
    """Made by gunicorn before the worker, for both. ``timeout``: seconds after which gunicorn gives a worker up; 0 is
    never. ``directory``: where a file is made that has no name. ``number``: of the worker; a later one has a higher
    number, by which "NAMEctl tasks" tells its table from those of others that it has, too."""

    def __init__(self, timeout: float, directory: str | None = None, number: int = 0) -> None:
        self.timeout = timeout
        self._stacks = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 (close() does)
        descriptor = memory(f"{TABLE}-{number}")
        os.ftruncate(descriptor, SLOTS * SIZE)
        self._table = mmap.mmap(descriptor, SLOTS * SIZE)
        os.close(descriptor)
        self._free = list(range((SLOTS - 1) * SIZE, -1, -SIZE))

    def close(self) -> None:
        """Give up what it takes."""
        self._stacks.close()
        self._table.close()

    # --- The worker's -------------------------------------------------------------------------------

    def renew(self) -> None:
        """All is well: write nothing down, unless this is not called again before gunicorn's time is nearly over."""
        if self.timeout:
            self._stacks.truncate(0)
            self._stacks.seek(0)
            faulthandler.dump_traceback_later(max(self.timeout - 1, self.timeout / 2), file=self._stacks)

    def begin(self, scope: Any, request: Request) -> int:
        """Note a request, or a WebSocket. What is returned is for the other methods."""
        if not self._free:
            return -1
        slot = self._free.pop()
        method, path, query = scope.get("method", "WebSocket"), scope["path"], scope["query_string"]
        version = scope["http_version"]
        about = marshal.dumps((request.start, request.id, scope["client"], method, path, query, version), FORM)
        if len(about) >= SIZE:
            about = marshal.dumps((request.start, request.id, None, method, path[:100], b"", version), FORM)
        self._table[slot + 1 : slot + 1 + len(about)] = about
        self._table[slot] = RUNNING
        return slot

    def has_begun(self, slot: int) -> None:
        """Note that there is an access line of a request already."""
        if slot >= 0:
            self._table[slot] = BEGUN

    def end(self, slot: int) -> None:
        """Forget a request."""
        if slot >= 0:
            self._table[slot] = FREE
            self._free.append(slot)

    # --- gunicorn's ---------------------------------------------------------------------------------

    def tell(self, pid: int, was_given_up: bool, log: Any) -> list[str]:
        """Log what a dead worker has left behind: one record, and an access line for each unanswered request.

        Returns the methods of those.
        """
        held, now = self._held(), time.perf_counter()
        words = ", ".join(request.in_words(now) for request in held[:MOST]) or "-"
        if len(held) > MOST:
            words += f", and {len(held) - MOST} more"
        if was_given_up:
            stacks = os.pread(self._stacks.fileno(), STACKS, 0).decode("utf-8", "replace").strip() or "?"
            # In one piece: what is passed beside a record's text is cut as words of a client are.
            text = (
                f"Worker (pid:{pid}) did nothing for {self.timeout} s (timeout) and was killed. "
                f"It held {len(held)} request(s): {words}. It was in:\n{stacks}"
            )
            log.error(text)
        elif held:
            text = f"Worker (pid:{pid}) has died while it held {len(held)} request(s): {words}"
            log.error(text)
        lost = [request for request in held if not request.has_begun and request.method != "WebSocket"]
        for request in lost:
            _log_access(request)
        return [request.method for request in lost]

    def _held(self) -> list[Held]:
        """The requests, from the oldest on."""
        held = []
        for slot in range(0, SLOTS * SIZE, SIZE):
            if self._table[slot] != FREE:
                about: list[Any] = [*marshal.loads(self._table[slot + 1 : slot + SIZE]), self._table[slot] == BEGUN]
                held.append(Held(*about))
        return sorted(held, key=lambda request: request.start)


def _log_access(held: Held) -> None:
    request = Request(held.id)
    request.start = held.start
    token = current.set(request)
    scope = {
        "client": held.client, "method": held.method, "path": held.path, "query_string": held.query,
        "http_version": held.version,
    }  # fmt: skip
    leaving.log_access(scope, LOST)
    current.reset(token)
