"""Which generation takes the next connection while a new release is tried on a share of the traffic (canary).

Both generations of an application accept from one socket. A file of root's, which both have mapped since their start,
says which share the candidate gets, and counts what each of their workers takes. The candidate leaves connections to
the others while it has its share, and the others give it a moment while it has less. A row is written by one worker
alone; each begins again at zero when root begins another canary.
"""

import mmap
import os
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

VERSION = 1
"""Of the form of the file, which the control command writes: what is below, down to CELLS."""

WORKERS = 256
"""Rows of each generation."""

GENERATIONS = ("main", "candidate")

# Before the rows: the version; which canary it is, 0 for none; the candidate's share, from 0 to 1; after how many
# seconds a kept connection is asked to come anew; how many rows each generation has ever used.
FORM, EPOCH, SHARE, KEPT = range(4)
USED = 4
HEAD = 8

# Of a row: for which canary it counts; when the worker told of itself, by the monotonic clock; connections taken.
COUNTS, TOLD, TAKEN = range(3)
ROW = 3
CELLS = HEAD + ROW * WORKERS * len(GENERATIONS)

STALE = 1.0
"""Seconds after which a worker that has not told of itself is dead, or too busy to be left anything."""

RELENT = 0.004
"""Seconds for which nobody waits again for a candidate that took nothing meanwhile."""

TAKE, WAIT, LEAVE = range(3)
"""What to do about a connection: take it; give the candidate a moment, and take it then; leave it to the others."""


class Steering:
    """The file, as one worker sees it. Without one nothing is steered."""

    def __init__(self) -> None:
        self._table = memoryview(bytearray(8 * CELLS)).cast("d")
        self._generation = 0
        self._own = HEAD
        self._waited_for = -1.0
        self._again = 0.0
        self._is_counted = True
        self._until: dict[Any, float] = {}

    def keep_in(self, path: Path, instance: str) -> None:
        """Use a file that is there, and has its size. Raises OSError when that is not so."""
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_size != 8 * CELLS:
                raise OSError(22, "has another size", str(path))
            table = memoryview(mmap.mmap(descriptor, 8 * CELLS)).cast("d")
        finally:
            os.close(descriptor)
        if table[FORM] == VERSION:
            self._table, self._generation = table, GENERATIONS.index(instance)

    def join(self, number: int) -> None:
        """Take part as this worker: gunicorn's ``age``."""
        row = number % WORKERS
        self._own = _rows(self._generation) + ROW * row
        used = USED + self._generation
        self._table[used] = max(self._table[used], row + 1)

    def is_on(self) -> bool:
        """Whether there is a canary."""
        return self._table[SHARE] > 0

    def tell(self, serves: bool) -> None:
        """Tell the other generation that this worker takes connections, or that it does not."""
        table, own = self._table, self._own
        if table[own + COUNTS] != table[EPOCH]:
            table[own + TAKEN], table[own + COUNTS] = 0, table[EPOCH]
        table[own + TOLD] = time.monotonic() if serves else 0

    def took(self) -> None:
        """Count a connection that this worker has taken, unless there was no candidate that could have taken it."""
        if self._is_counted:
            self._table[self._own + TAKEN] += 1

    def choose(self) -> int:
        """What this worker does about the next connection: TAKE, WAIT or LEAVE."""
        share = self._table[SHARE]
        now = time.monotonic()
        since = max(now - STALE, 0)
        (others, others_live), (candidates, candidates_live) = self._taken(0, since), self._taken(1, since)
        # Otherwise it would take all of them when it comes, until it has its share.
        self._is_counted = bool(self._generation or candidates_live)
        is_behind = candidates + 1 <= share * (others + candidates + 1)
        if self._generation:
            # Those who would take it instead have to be alive.
            return TAKE if is_behind or not others_live else LEAVE
        # Of one that had no time the last time, only now and then.
        if is_behind and candidates_live and (candidates != self._waited_for or now >= self._again):
            self._waited_for, self._again = candidates, now + RELENT
            return WAIT
        return TAKE

    def overdue(self, connections: Iterable[Any], now: float) -> list[Any]:
        """Of the connections that are kept, those that are to come anew, so that they are shared again in the end."""
        if not self.is_on():
            self._until.clear()
            return []
        kept = self._table[KEPT]
        # Not all at a time.
        self._until = {each: self._until.get(each) or now + kept * (0.5 + random.random()) for each in connections}
        return [each for each, until in self._until.items() if until <= now]

    def _taken(self, generation: int, since: float) -> tuple[float, bool]:
        """How many a generation has taken, and whether one of its workers can take more."""
        table, epoch = self._table, self._table[EPOCH]
        first = _rows(generation)
        last = first + ROW * int(min(max(table[USED + generation], 0), WORKERS))
        rows = [row for row in range(first, last, ROW) if table[row + COUNTS] == epoch]
        return sum(table[row + TAKEN] for row in rows), any(table[row + TOLD] > since for row in rows)


def path_of(name: str) -> Path:
    """Where root has put the file of an application: App.shares of the control command."""
    return Path("/run", name, "traffic", "shares")


def _rows(generation: int) -> int:
    return HEAD + ROW * WORKERS * generation
