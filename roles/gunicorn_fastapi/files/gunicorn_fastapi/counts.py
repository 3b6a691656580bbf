"""How many requests an instance has answered in the last minutes, counted where the answers begin.

One table in memory that gunicorn and its workers share: a row for each worker, and sums of all rows that are taken
from time to time. No row is ever emptied, so that nothing is lost with a worker; its successors go on counting there.
"""

import mmap
import time

WORKERS = 1024
"""How many workers there is room for at a time."""

PERIOD = 30.0
"""Seconds from one sum to the next."""

SUMS = 11
"""Sums that are kept: those of the last five minutes, and the one before."""

ANSWERED, FAILED = range(2)
"""The columns of a row."""

TAKEN = 2
"""The third column of a sum: when it was taken, by the monotonic clock. 0 when it was not."""

ROW, SUM = 2, 3

ROWS_END = ROW * WORKERS
SUMS_END = ROWS_END + SUM * SUMS


class Counts:
    """The table. Made by gunicorn before it has workers; in a worker, the view of that worker."""

    def __init__(self) -> None:
        self._table = memoryview(mmap.mmap(-1, 8 * SUMS_END)).cast("d")
        self._own = 0
        self._table[ROWS_END + TAKEN] = self._begun = time.monotonic()

    def join(self, number: int) -> None:
        """Count as this worker: gunicorn's ``age``, which two workers that live at a time do not share."""
        self._own = ROW * (number % WORKERS)

    def count(self, failed: bool) -> None:
        """Count a request that is answered; ``failed``: with 5xx."""
        self._table[self._own + ANSWERED] += 1
        if failed:
            self._table[self._own + FAILED] += 1

    def sum_up(self) -> None:
        """Take the sum that is due, if nobody else has. Called by each worker, often."""
        now = time.monotonic()
        period = (now - self._begun) // PERIOD
        at = ROWS_END + SUM * int(period % SUMS)
        if self._table[at + TAKEN] < self._begun + period * PERIOD:
            self._table[at + ANSWERED], self._table[at + FAILED] = self._sums()
            self._table[at + TAKEN] = now

    def lately(self) -> tuple[int, int, float]:
        """How many were answered, how many of them with 5xx, in the last so many seconds: five minutes, if it lives."""
        now = time.monotonic()
        oldest = now - SUMS * PERIOD
        taken = sorted((self._table[at + TAKEN], at) for at in range(ROWS_END, SUMS_END, SUM))
        since, at = next((when for when in taken if when[0] > oldest), taken[-1])
        answered, failed = self._sums()
        return int(answered - self._table[at + ANSWERED]), int(failed - self._table[at + FAILED]), now - since

    def _sums(self) -> tuple[float, float]:
        return sum(self._table[ANSWERED:ROWS_END:ROW]), sum(self._table[FAILED:ROWS_END:ROW])
