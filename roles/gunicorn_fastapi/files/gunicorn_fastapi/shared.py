"""What gunicorn and its workers know of each other: one table in memory that all of them share.

A row for each worker has when it last told its number of connections, that number, and how far it is. Whoever
writes a row is the only one to do so at that time: the worker while it lives, gunicorn before and after.
"""

import mmap
import time

from gunicorn_fastapi.counts import WORKERS, Counts
from gunicorn_fastapi.steering import Steering

STALE = 1.0
"""Seconds after which a worker that has not told its number is dead, or too busy to be waited for."""

TOLD, CONNECTIONS, STATE, DISMISSED, TURN = range(5)
"""The columns. DISMISSED is always gunicorn's: whether it has told the worker to stop. TURN is which word of root's
about maintenance the worker heeds."""

WIDTH = 5

BOOTING, READY, SPENT, LEAVING = range(4)
"""How far a worker is: it accepts nothing yet; it serves; it serves, but has asked for a successor; it accepts
nothing any more."""

WANTED = WIDTH * WORKERS
"""Where the number of workers is that there should be."""

IN_TURN = WANTED + 1
"""Where gunicorn notes that it starts a successor for who asks for one."""


class Shares:
    """The table. Made by gunicorn before it has workers; in a worker, the view of that worker."""

    def __init__(self) -> None:
        self._table = memoryview(mmap.mmap(-1, 8 * (IN_TURN + 1))).cast("d")
        self.counts = Counts()
        self.steering = Steering()
        self._own = 0
        self._others: list[int] = []

    # --- The worker's -------------------------------------------------------------------------------

    def join(self, number: int) -> None:
        """Take part as this worker: gunicorn's ``age``, which two workers that live at a time do not share."""
        self._own = _row(number)
        self.counts.join(number)
        self.steering.join(number)

    def tell(self, connections: int) -> None:
        """Tell the others how many connections this worker has."""
        self._table[self._own + CONNECTIONS] = connections
        self._table[self._own + TOLD] = time.monotonic()

    def is_now(self, state: int) -> None:
        """Tell gunicorn how far this worker is."""
        self._table[self._own + STATE] = state

    def heed(self, turn: int) -> None:
        """Tell which word of root's about maintenance this worker heeds."""
        self._table[self._own + TURN] = turn

    def leave(self) -> None:
        """Take no more part."""
        self._table[self._own + TOLD] = 0
        self.steering.tell(serves=False)
        self.is_now(LEAVING)

    def can_ask(self) -> bool:
        """Whether this worker gets a successor when it asks for one, instead of having to stop at once."""
        return bool(self._table[IN_TURN]) and not self.is_dismissed()

    def is_dismissed(self) -> bool:
        """Whether gunicorn has told this worker to stop."""
        return bool(self._table[self._own + DISMISSED])

    def look(self) -> None:
        """Find out who else takes part."""
        since = max(time.monotonic() - STALE, 0)
        rows = range(0, WANTED, WIDTH)
        self._others = [row + CONNECTIONS for row in rows if self._table[row] > since and row != self._own]

    def are_ahead(self, connections: int) -> bool:
        """Whether so many are more than one of the others would have with one more."""
        return any(self._table[other] + 1 < connections for other in self._others)

    # --- gunicorn's ---------------------------------------------------------------------------------

    def want(self, workers: int) -> None:
        """Tell the workers how many there should be."""
        self._table[WANTED] = workers
        self.counts.want(workers)

    def take_turns(self) -> None:
        """Tell the workers that who asks for a successor gets one."""
        self._table[IN_TURN] = 1

    def dismiss(self, number: int) -> None:
        """Tell a worker that the next signal to stop is from gunicorn."""
        self._table[_row(number) + DISMISSED] = 1

    def state(self, number: int) -> int:
        """How far a worker is."""
        return int(self._table[_row(number) + STATE])

    def forget(self, number: int) -> None:
        """Free the row of a worker that is dead, or not yet born."""
        self.counts.forget(number)
        row = _row(number)
        self._table[row : row + WIDTH] = memoryview(bytes(8 * WIDTH)).cast("d")

    # --- Anybody's ----------------------------------------------------------------------------------

    def readiness(self) -> tuple[int, int]:
        """How many of the workers that there should be serve, and how many there should be."""
        wanted = int(self._table[WANTED])
        serving = sum(self._table[row + STATE] in (READY, SPENT) for row in range(0, WANTED, WIDTH))
        return min(serving, wanted), wanted

    def turn(self) -> int:
        """Which word of root's about maintenance all workers heed that serve. 0 while they differ, and for none."""
        rows = [row for row in range(0, WANTED, WIDTH) if self._table[row + STATE] in (READY, SPENT)]
        turns = {int(self._table[row + TURN]) for row in rows}
        return turns.pop() if len(turns) == 1 else 0


def _row(number: int) -> int:
    return WIDTH * (number % WORKERS)
