"""Workers that leave by plan go when their successors serve: nobody waits for one that boots or drains.

gunicorn tells surplus workers to stop as soon as it has started others (SIGHUP), and replaces one that leaves by
itself (``max_requests``) when it is gone. Here a worker asks for a successor and goes on to serve, one at a time,
and none is told to stop unless as many as there should be serve without it. A signal to stop that is not gunicorn's,
as from what watches over the worker's memory, has a worker ask too.
"""

import random
import signal
import time
from typing import Any

from gunicorn_fastapi import upstream
from gunicorn_fastapi.shared import LEAVING, READY, SPENT, Shares

STOPS = (signal.SIGTERM, signal.SIGQUIT)
"""What gunicorn has its workers stop by. SIGKILL and SIGABRT ask nobody."""


class _Reloaded(Exception):  # noqa: N818 (no error)
    """Everything is done that a reload has to do by itself."""


class Departures:
    """In place of what gunicorn itself does to have as many workers as it should."""

    def __init__(self, server: Any, shares: Shares) -> None:
        self._server = server
        self._shares = shares
        self._reload = server.reload
        self._reap_workers = server.reap_workers
        self._kill_worker = server.kill_worker
        self._is_reloading = False
        self._is_halting = False
        upstream.replace(
            server,
            manage_workers=self.manage_workers,
            reload=self.reload,
            reap_workers=self.reap_workers,
            kill_worker=self.kill_worker,
        )
        shares.take_turns()

    def manage_workers(self) -> None:
        """Start whom there is a lack of, and tell to stop who can be spared. Called once a second and at signals."""
        server = self._server
        staying = self._staying()
        spent = [worker for worker in staying if self._shares.state(worker.age) == SPENT]
        # One at a time: while another one drains, there is none to be started for the next.
        is_leaving = len(staying) < len(server.WORKERS)
        wanted = server.num_workers + (1 if spent and not is_leaving else 0)
        for _ in range(wanted - len(staying)):
            server.spawn_worker()
            time.sleep(0.1 * random.random())
        while (leaver := self._leaver()) is not None:
            leaver.told_to_leave = True
            server.kill_worker(leaver.pid, signal.SIGTERM)

    def _staying(self) -> list[Any]:
        """All workers but those that have been told to stop, or stop because of somebody else's signal."""
        workers = upstream.workers(self._server)
        return [w for w in workers if not hasattr(w, "told_to_leave") and self._shares.state(w.age) != LEAVING]

    def _leaver(self) -> Any:
        """The worker that goes next, if the others are enough: one that has asked to, or else the oldest."""
        staying = self._staying()
        if len(staying) <= self._server.num_workers:
            return None
        leaver = min(staying, key=lambda worker: (self._shares.state(worker.age) != SPENT, worker.age))
        serving = sum(self._shares.state(w.age) in (READY, SPENT) for w in staying if w is not leaver)
        return leaver if serving >= self._server.num_workers else None

    def kill_worker(self, pid: int, number: int) -> None:
        """As gunicorn does, but the worker knows that it is gunicorn who wants it to stop."""
        worker = self._server.WORKERS.get(pid)
        if worker is not None and number in STOPS:
            self._shares.dismiss(worker.age)
        self._kill_worker(pid, number)

    def reload(self) -> None:
        """As gunicorn does, but it goes on with its work instead of waiting for the old ones to be gone."""
        self._is_reloading = True
        try:
            self._reload()
        except _Reloaded:
            pass
        finally:
            self._is_reloading = False

    def reap_workers(self) -> None:
        """As gunicorn does, which stops when a worker could not start: no further one breaks the stop off."""
        if self._is_reloading:
            raise _Reloaded
        while True:
            try:
                self._reap_workers()
            except upstream.HALT:
                if not self._is_halting and not upstream.is_stopping(self._server):
                    self._is_halting = True
                    raise
            else:
                return
