"""What an instance has answered, and what it is doing: a table that its workers write while they serve.

A row for each worker, and sums of all rows that are taken from time to time. What a worker has counted is never
emptied, so that nothing is lost with it; its successors go on counting there. The table is memory that gunicorn and its
workers share. In a service it is a file of root's, too, in which the control command reads it, also when all are dead.
"""

import mmap
import os
import time
from bisect import bisect_left
from pathlib import Path

VERSION = 1
"""Of the form of the table, which another program reads: what is below, down to ROW."""

WORKERS = 1024
"""How many workers there is room for at a time."""

PERIOD = 30.0
"""Seconds from one sum to the next."""

SUMS = 11
"""Sums that are kept: those of the last five minutes, and the one before."""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other")
CLASSES = 5
"""Statuses are counted by their first digit, from 1 to 5."""

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds of a request, each bound within the interval before it. Beyond the last one there is one more interval."""

# The columns that only ever grow: requests by method and class; durations by interval, and their sum; bytes of bodies;
# health checks of the control command; refused requests; connections that a bound has closed; WebSockets that have
# begun; seconds by which the event loop was late, and how often that was looked at.
REQUESTS = 0
DURATIONS = REQUESTS + len(METHODS) * CLASSES
SECONDS = DURATIONS + len(BOUNDS) + 1
BYTES, HEALTH, REFUSED, CLOSED, WEBSOCKETS, LATE, LOOKS = range(SECONDS + 1, SECONDS + 8)
TOTALS = LOOKS + 1
# What is so now: when the worker told it, by the monotonic clock; whether it accepts; connections; requests.
TOLD, SERVING, CONNECTIONS, RUNNING = range(TOTALS, TOTALS + 4)
ROW = RUNNING + 1

TAKEN = TOTALS
"""The last column of a sum: when it was taken, by the monotonic clock. 0 when it was not."""
SUM = TOTALS + 1

# Before the sums and the rows: the version; when the table was begun; how many rows were ever used; how many workers
# there should be; how many were replaced; how many of those have crashed, 0 of an older release.
FORM, BEGUN, USED, WANTED, REPLACED, CRASHED = range(6)
HEAD = 8
ROWS = HEAD + SUM * SUMS
CELLS = ROWS + ROW * WORKERS

_METHODS = {method: REQUESTS + CLASSES * number for number, method in enumerate(METHODS)}
_OTHER = _METHODS["other"]
_FAILED = tuple(start + CLASSES - 1 for start in _METHODS.values())


def path_of(name: str) -> Path | None:
    """Where root has put the table of the unit that runs this process. None outside of one."""
    about = [os.environ.get(f"GUNICORN_FASTAPI_{word}", "") for word in ("INSTANCE", "RELEASE")]
    invocation = os.environ.get("INVOCATION_ID", "")
    if not (all(about) and invocation):
        return None
    return Path("/run", name, "traffic", "-".join((about[0], invocation, about[1])))


class Counts:
    """The table. Made by gunicorn before it has workers; in a worker, the view of that worker."""

    def __init__(self) -> None:
        self._own = ROWS
        self._begin(mmap.mmap(-1, 8 * CELLS))

    def _begin(self, memory: mmap.mmap) -> None:
        self._table = memoryview(memory).cast("d")
        if not self._table[FORM]:
            self._table[FORM], self._table[USED] = VERSION, 1
            self._table[BEGUN] = self._table[HEAD + TAKEN] = time.monotonic()
        self._begun = self._table[BEGUN]

    def keep_in(self, path: Path) -> None:
        """Have the table in a file that is there, and has its size. Raises OSError when that is not so."""
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_size != 8 * CELLS:
                raise OSError(22, "has another size", str(path))
            self._begin(mmap.mmap(descriptor, 8 * CELLS))
        finally:
            os.close(descriptor)

    # --- The worker's -------------------------------------------------------------------------------

    def join(self, number: int) -> None:
        """Count as this worker: gunicorn's ``age``, which two workers that live at a time do not share."""
        row = number % WORKERS
        self._own = ROWS + ROW * row
        self._table[USED] = max(self._table[USED], row + 1)

    def count(self, method: str, status: int) -> None:
        """Count a request whose answer begins, or that has ended without one."""
        number = status // 100 - 1
        if not 0 <= number < CLASSES:
            number = CLASSES - 1
        self._table[self._own + _METHODS.get(method, _OTHER) + number] += 1

    def sent(self, size: int) -> None:
        """Count bytes of an answer's body."""
        self._table[self._own + BYTES] += size

    def end(self, seconds: float) -> None:
        """Count the end of a whole answer, so long after its request."""
        table, own = self._table, self._own
        table[own + DURATIONS + bisect_left(BOUNDS, seconds)] += 1
        table[own + SECONDS] += seconds

    def upgraded(self) -> None:
        """Count a WebSocket, which is no request."""
        self.add(WEBSOCKETS)

    def add(self, column: int, number: float = 1) -> None:
        """Count something else that only ever grows."""
        self._table[self._own + column] += number

    def tell(self, serving: bool, connections: int, running: int) -> None:
        """What is so now."""
        table, own = self._table, self._own
        table[own + SERVING], table[own + CONNECTIONS], table[own + RUNNING] = serving, connections, running
        table[own + TOLD] = time.monotonic()

    def sum_up(self) -> None:
        """Take the sum that is due, if nobody else has. Called by each worker, often."""
        now = time.monotonic()
        period = (now - self._begun) // PERIOD
        at = HEAD + SUM * int(period % SUMS)
        if self._table[at + TAKEN] < self._begun + period * PERIOD:
            for column in range(TOTALS):
                self._table[at + column] = self._sum(column)
            self._table[at + TAKEN] = now

    # --- gunicorn's ---------------------------------------------------------------------------------

    def forget(self, number: int) -> None:
        """A worker is dead, or not yet born: nothing of it is so now. What it has counted stays."""
        self._table[ROWS + ROW * (number % WORKERS) + TOLD] = 0

    def want(self, workers: int) -> None:
        """How many workers there should be."""
        self._table[WANTED] = workers

    def replaced(self) -> None:
        """One more worker was replaced."""
        self._table[REPLACED] += 1

    def crashed(self) -> None:
        """It had not left by itself, nor was it told to."""
        self._table[CRASHED] += 1

    # --- Anybody's ----------------------------------------------------------------------------------

    def lately(self) -> tuple[int, int, float]:
        """How many were answered, how many of them with 5xx, in the last so many seconds: five minutes, if it lives."""
        now = time.monotonic()
        oldest = now - SUMS * PERIOD
        taken = sorted((self._table[at + TAKEN], at) for at in range(HEAD, ROWS, SUM))
        since, at = next((when for when in taken if when[0] > oldest), taken[-1])
        answered = sum(self._sum(column) - self._table[at + column] for column in range(REQUESTS, DURATIONS))
        failed = sum(self._sum(column) - self._table[at + column] for column in _FAILED)
        return int(answered), int(failed), now - since

    def _sum(self, column: int) -> float:
        return sum(self._table[ROWS + column : ROWS + ROW * int(self._table[USED]) : ROW])


class Apart:
    """Counts requests that are nobody's but the control command's: as checks of the health, and nothing else."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def count(self, _method: str, _status: int) -> None:
        """One more."""
        self._counts.add(HEALTH)

    def upgraded(self) -> None:
        """No client's."""

    def sent(self, _size: int) -> None:
        """No client's bytes."""
