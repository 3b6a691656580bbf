"""The table in which an instance counts, read as what it is: a file in which the application can write anything.

No number, length or index of it is trusted. What cannot be a count is none.
"""

from collections.abc import Sequence
from typing import NamedTuple

# The form, as gunicorn_fastapi/counts.py has it and explains it.
VERSION = 1
WORKERS, PERIOD, SUMS = 1024, 30.0, 11
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other")
CLASSES = 5
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
REQUESTS = 0
DURATIONS = REQUESTS + len(METHODS) * CLASSES
SECONDS = DURATIONS + len(BOUNDS) + 1
BYTES, HEALTH, REFUSED, CLOSED, WEBSOCKETS, LATE, LOOKS = range(SECONDS + 1, SECONDS + 8)
TOTALS = LOOKS + 1
TOLD, SERVING, CONNECTIONS, RUNNING = range(TOTALS, TOTALS + 4)
ROW = RUNNING + 1
TAKEN = TOTALS
SUM = TOTALS + 1
FORM, BEGUN, USED, WANTED, REPLACED, CRASHED = range(6)
HEAD = 8
ROWS = HEAD + SUM * SUMS
CELLS = ROWS + ROW * WORKERS

SIZE = 8 * CELLS
"""Bytes of a table."""

LARGEST = 2.0**53
"""What a double counts to."""

FRESH = 5.0
"""Seconds after which what a worker has told of itself is not so any more. It tells ten times a second."""

Totals = list[float]
"""The columns that only ever grow."""


class Table(NamedTuple):
    """What an instance says."""

    totals: Totals
    replaced: float
    lately: Totals
    """Of the last minutes."""
    seconds: float
    """How long they were."""
    wanted: int
    """Workers that there should be."""
    serving: int
    """Workers that accept."""
    connections: int
    running: int
    """Requests that are being answered."""
    crashed: float = 0.0
    """Workers of the replaced ones that have crashed."""

    @property
    def is_live(self) -> bool:
        """Whether one of its workers has told of itself just now."""
        return bool(self.serving or self.connections or self.running)


def count(cell: float) -> float:
    """A cell as a count. Anything else is 0."""
    return cell if 0.0 <= cell <= LARGEST else 0.0


def added(numbers: Sequence[Sequence[float]]) -> Totals:
    """Columns added up, as far as they can be counted."""
    return [min(sum(column), LARGEST) for column in zip(*numbers, strict=True)]


def parse(content: bytes, now: float) -> Table | None:
    """Read a table at a time of the monotonic clock. None for what is none, or is of another form."""
    if len(content) < 8 * ROWS:
        return None
    cells = memoryview(content)[: len(content) // 8 * 8].cast("d")
    if cells[FORM] != VERSION:
        return None
    used = int(min(count(cells[USED]), WORKERS, (len(cells) - ROWS) // ROW))
    rows = cells[ROWS : ROWS + used * ROW]
    totals = [min(sum(map(count, rows[column::ROW])), LARGEST) for column in range(TOTALS)]
    sums = [cells[at : at + SUM] for at in range(HEAD, ROWS, SUM)]
    taken = sorted((cells[HEAD + number * SUM + TAKEN], number) for number in range(SUMS))
    known = [(at, number) for at, number in taken if 0.0 < at <= now]
    since, before = now, [0.0] * TOTALS
    if known:
        since, number = next((pair for pair in known if pair[0] > now - SUMS * PERIOD), known[-1])
        before = [count(cell) for cell in sums[number][:TOTALS]]
    workers = [rows[at : at + ROW] for at in range(0, used * ROW, ROW)]
    alive = [row for row in workers if now - FRESH < row[TOLD] <= now]
    return Table(
        totals,
        count(cells[REPLACED]),
        [max(after - earlier, 0.0) for after, earlier in zip(totals, before, strict=True)],
        now - since,
        int(min(count(cells[WANTED]), WORKERS)),
        sum(row[SERVING] == 1 for row in alive),
        int(min(sum(count(row[CONNECTIONS]) for row in alive), LARGEST)),
        int(min(sum(count(row[RUNNING]) for row in alive), LARGEST)),
        count(cells[CRASHED]),
    )


def requests(totals: Sequence[float]) -> float:
    """How many requests were answered."""
    return sum(totals[REQUESTS:DURATIONS])


def failed(totals: Sequence[float]) -> float:
    """How many of them with 5xx."""
    return sum(totals[REQUESTS + CLASSES - 1 : DURATIONS : CLASSES])


def percentile(totals: Sequence[float], share: float) -> float | None:
    """Seconds that so many of the answers have taken at most, by the bounds of the intervals. None without any.

    Within an interval they are taken as spread evenly; beyond the last bound nothing is known but that.
    """
    numbers = totals[DURATIONS:SECONDS]
    left = share * sum(numbers)
    if not sum(numbers):
        return None
    lower = 0.0
    for bound, number in zip(BOUNDS, numbers, strict=False):
        if number and left <= number:
            return lower + (bound - lower) * left / number
        left -= number
        lower = bound
    return lower
