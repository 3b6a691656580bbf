"""Workers that leave by plan go when their successors serve: nobody waits for one that boots or drains.

gunicorn tells surplus workers to stop as soon as it has started others (SIGHUP), and replaces one that leaves by
itself (``max_requests``) when it is gone. Here a worker asks for a successor and goes on to serve, one at a time,
and none is told to stop unless as many as there should be serve without it. A signal to stop that is not gunicorn's,
as from what watches over the worker's memory, has a worker ask too.

gunicorn ends when a worker fails to start. Once all have served, those that still do are not ended because of one that
cannot, as when a database is away: the next one is tried later and later.
"""

import random
import signal
import time
from typing import Any

from gunicorn_fastapi import upstream
from gunicorn_fastapi.shared import BOOTING, LEAVING, READY, SPENT, Shares

LATE = 60
"""Seconds after which it is told that a worker has not come up. Some applications take longer; nothing is done."""

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
        self._was_complete = False
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
        self._was_complete |= self._serving(staying) >= server.num_workers
        self._tell_of_late(staying)
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
        serving = self._serving([worker for worker in staying if worker is not leaver])
        return leaver if serving >= self._server.num_workers else None

    def _serving(self, workers: list[Any]) -> int:
        return sum(self._shares.state(worker.age) in (READY, SPENT) for worker in workers)

    def _tell_of_late(self, staying: list[Any]) -> None:
        """Say once of each worker that it has not come up: whom it replaces goes on, and nothing else would tell."""
        since = time.monotonic() - LATE
        for worker in staying:
            if self._shares.state(worker.age) == BOOTING and worker.begins < since and not hasattr(worker, "is_late"):
                worker.is_late = True
                text = "Worker (pid:%s) has not come up within %d s. %d of %d workers serve"
                self._server.log.error(text, worker.pid, LATE, self._serving(staying), self._server.num_workers)

    def kill_worker(self, pid: int, number: int) -> None:
        """As gunicorn does, but the worker knows that it is gunicorn who wants it to stop."""
        worker = self._server.WORKERS.get(pid)
        if worker is not None and number in STOPS:
            self._shares.dismiss(worker.age)
        self._kill_worker(pid, number)

    def reload(self) -> None:
        """As gunicorn does, but it goes on with its work instead of waiting for the old ones to be gone."""
        self._supersede()
        self._is_reloading = True
        try:
            self._reload()
        except _Reloaded:
            pass
        finally:
            self._is_reloading = False

    def _supersede(self) -> None:
        """Stop those that still boot, when others serve: each of several reloads in a row would add as many."""
        staying = self._staying()
        if self._serving(staying) < self._server.num_workers:
            return
        for worker in staying:
            if self._shares.state(worker.age) == BOOTING:
                worker.told_to_leave = True
                self._server.kill_worker(worker.pid, signal.SIGTERM)

    def reap_workers(self) -> None:
        """As gunicorn does, which stops when a worker could not start: unless others serve that came up before. No
        further one breaks the stop off."""
        if self._is_reloading:
            raise _Reloaded
        # Before the rows of the dead are free: the last one may have come up since the last look.
        self._was_complete |= self._serving(self._staying()) >= self._server.num_workers
        while True:
            before = list(self._server.WORKERS.values())
            try:
                self._reap_workers()
            except upstream.HALT:
                if self._is_halting or upstream.is_stopping(self._server):
                    continue
                living = self._server.WORKERS.values()
                failed = [w for w in before if w not in living and not upstream.is_reaped(w)]
                serving = self._serving(self._staying())
                if not failed or not self._was_complete or not serving:
                    self._is_halting = True
                    raise
                for worker in failed:
                    self._go_on_without(worker, serving)
            else:
                return

    def _go_on_without(self, worker: Any, serving: int) -> None:
        """Do what gunicorn does for a dead worker, and has not done for one whose start has failed."""
        server = self._server
        server.log.error("Worker (pid:%s) could not start. The %d that serve go on", worker.pid, serving)
        worker.begins = time.monotonic()  # however long it took, it has not lived
        worker.tmp.close()
        server.cfg.child_exit(server, worker)
