"""Workers that die soon after their start are replaced later and later, and the operator is told.

gunicorn replaces a dead worker at once and for ever. One that dies a second after each start would keep a
CPU busy and say so in a thousand lines, none of which says that it goes on. In ``gunicorn.conf.py``::

    from gunicorn_fastapi.crashes import Crashes

    crashes = Crashes()
    pre_fork, post_fork = crashes.pre_fork, crashes.post_fork
    worker_exit, child_exit = crashes.worker_exit, crashes.child_exit

The new worker waits, not gunicorn, which goes on to heed signals and to watch over the others.
"""

import mmap
import os
import signal
import sys
import time
from typing import Any

LASTING = 10
"""Seconds that a worker has to live, or else its death is one more in a row."""

LONGEST = 60
"""Most seconds that a new worker waits."""


class Crashes:
    """gunicorn's hooks around the life of a worker.

    ``rounds``: how often in a row a worker has died early whose predecessor had, too. Workers that die
    together, because of one cause, are one round.
    """

    def __init__(self) -> None:
        self.rounds = 0

    def wait(self) -> float:
        """Seconds that a worker which is started now has to wait: none the first time."""
        return min(2.0 ** min(self.rounds - 1, 10), LONGEST) - 1 if self.rounds else 0

    def pre_fork(self, _server: Any, worker: Any) -> None:
        """Note in gunicorn when the worker begins to work, and after how many early deaths."""
        worker.rounds = self.rounds
        worker.begins = time.monotonic() + self.wait()
        worker.has_left = mmap.mmap(-1, 1)  # what the worker writes, gunicorn reads

    def post_fork(self, _server: Any, worker: Any) -> None:
        """Wait in the worker, until its time has come or gunicorn is gone. A signal to stop ends it."""
        if worker.begins <= time.monotonic():
            return
        # Until the worker has its own handlers it has gunicorn's, which only take note.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        while os.getppid() == worker.ppid and (left := worker.begins - time.monotonic()) > 0:
            worker.tmp.notify()
            time.sleep(min(left, 1))

    def worker_exit(self, _server: Any, worker: Any) -> None:
        """Note in a worker that leaves by itself, as for ``max_requests``, that it does not crash."""
        exception = sys.exc_info()[1]
        worker.has_left[0] = isinstance(exception, SystemExit) and exception.code == 0

    def child_exit(self, server: Any, worker: Any) -> bool:
        """Count in gunicorn, and tell when the next worker has to wait. Whether this one has crashed."""
        lived = time.monotonic() - worker.begins
        # Below 0: it was told to stop while it waited. While it loads the application, a signal ends it at once.
        if worker.has_left[0] or lived < 0 or hasattr(worker, "told_to_leave"):
            return False
        if lived >= LASTING:
            self.rounds = 0
        elif worker.rounds >= self.rounds:
            self.rounds = worker.rounds + 1
            if self.wait() > 0:
                server.log.error("Workers have crashed%s. Restarting in %d s", self.row(), self.wait())
        return True

    def row(self) -> str:
        """How often workers have died early, in words. Empty when it is not worth mentioning."""
        return f" within {LASTING} s of their start, {self.rounds} times in a row" if self.rounds > 1 else ""
