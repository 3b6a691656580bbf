"""Waiting until an instance works."""

import contextlib
import select
import signal
import time
from pathlib import Path

from appctl.exchange import HEALTHY, UNHEALTHY, Answer, Exchange, details, verdict
from appctl.process import CtlError
from appctl.systemd import Process, children, control_group, process

DEATHS = 3
"""Workers that may die before the first answer; one may have bad luck, three have a reason."""

REPLACED = 1.0
"""Seconds within which gunicorn has replaced a dead worker. Otherwise it has given up, and waits only for
the others to leave, for as long as their graceful timeout allows."""

AGAIN = 0.2
"""Seconds until an instance is asked again."""

SOON = 0.05
"""Seconds until one is asked again of which only some workers serve: they boot together, and a start waits for this."""


class UnhealthyError(CtlError):
    """An answer that is final; ``details`` are what was asked, what came back and what may be behind it."""

    def __init__(self, failure: str, about: str) -> None:
        super().__init__(failure)
        self.details = about


def own_main(pid: int) -> contextlib.AbstractContextManager[Process]:
    """The main process of our own unit. systemd runs us beside it, so another unit's number is not believed."""
    return process(pid, control_group("self").removesuffix("/.control"))


def recycle(pid: int, timeout: float) -> None:
    """Have gunicorn replace its workers, and wait until the old ones have exited, or gunicorn has.

    Raises CtlError when that takes longer than `timeout` seconds; then they still may leave later. And when none of
    the new ones could start: gunicorn then goes on with the former ones.
    """
    former, others = children(pid), set[int]()
    with contextlib.suppress(ProcessLookupError), own_main(pid) as main:
        main.signal(signal.SIGHUP)
        deadline = time.monotonic() + timeout
        while former & (now := children(pid)) and not main.has_ended():
            others |= now - former
            if others and now == former:
                raise CtlError("the new workers could not start, and the former ones serve on")
            if time.monotonic() >= deadline:
                left = len(former & children(pid))
                raise CtlError(f"{left} of the old workers did not exit within {timeout:g} s")
            time.sleep(0.1)


class Workers:
    """The workers of a main process as they come and go."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._seen: set[int] = set()
        self._most = 0
        self._complete_at = time.monotonic()
        self.alive: set[int] = set()
        self.dead = 0
        self.look()

    def look(self) -> None:
        """Count again."""
        self.alive = children(self._pid)
        self._seen |= self.alive
        self.dead = len(self._seen - self.alive)
        self._most = max(self._most, len(self.alive))
        if len(self.alive) == self._most:
            self._complete_at = time.monotonic()

    def failure(self, path: str) -> str:
        """What is wrong with them, in words; empty as long as they may come up."""
        if self.dead >= DEATHS:
            return f"{self.dead} workers crashed in a row before {path} was answered"
        if self.dead and time.monotonic() - self._complete_at > REPLACED:
            return f"a worker exited before {path} was answered, and gunicorn gave up"
        return ""


def probe(address: Path, path: str, timeout: float, pid: int, kill: bool = True, host: str = "localhost") -> str:
    """Wait until an instance answers its health path with 2xx and all its workers serve, and say how that went.

    503 is "not yet"; any other answer is final. Raises CtlError as soon as that is certain: on such an
    answer, when the main process `pid` is gone or has given up, when workers die one after the other, or
    after `timeout` seconds. An instance that answered nothing at all is killed, because it would not heed
    a request to stop either, unless `kill` is false. For `host` see Exchange.
    """
    try:
        with own_main(pid) as main:
            return Probe(main, address, path, host).wait(timeout, kill)
    except ProcessLookupError:
        raise CtlError(f"gunicorn exited before {path} was answered") from None


class Probe:
    """Asks an instance again and again; one question at a time."""

    def __init__(self, main: Process, address: Path, path: str, host: str) -> None:
        self._main = main
        self._address = address
        self._path = path
        self._host = host
        self._workers = Workers(main.pid)
        self._last = "no answer"
        self._exchange: Exchange | None = None
        self._ask_at = 0.0
        self._dead_before = 0

    def wait(self, timeout: float, kill: bool) -> str:
        """See probe()."""
        begin = time.monotonic()
        failure = ""
        try:
            while not failure and (left := begin + timeout - time.monotonic()) > 0:
                self._ask()
                asked = [self._exchange.fileno()] if self._exchange else []
                until_asked = 0.1 if asked else max(self._ask_at - time.monotonic(), 0)
                select.select([self._main.descriptor, *asked], [], [], min(left, 0.1, until_asked))
                if self._main.has_ended():
                    raise ProcessLookupError
                self._workers.look()
                answer = self._answer() if asked else None
                if answer and self._is_healthy(answer):
                    return f"{self._path} answered {answer.status} after {time.monotonic() - begin:.1f} s"
                failure = self._workers.failure(self._path)
        finally:
            if self._exchange:
                self._exchange.close()
        if kill:
            self._main.signal(signal.SIGKILL)
        raise CtlError(failure or f"{self._path} did not answer 2xx within {timeout:g} s ({self._last})")

    def _ask(self) -> None:
        """Ask, unless an answer is waited for or it is too early."""
        if self._exchange or time.monotonic() < self._ask_at:
            return
        self._ask_at = time.monotonic() + AGAIN
        self._dead_before = self._workers.dead
        try:
            self._exchange = Exchange(self._address, self._path, self._host)
        except BlockingIOError:
            self._last = "its queue is full"
        except OSError as error:
            self._last = f"{self._address}: {error.strerror}"

    def _answer(self) -> Answer | None:
        """The answer that has arrived; then it may be asked for again. Nothing ends here."""
        assert self._exchange
        self._exchange.read()
        answer = self._exchange.answer()
        if answer:
            self._exchange.close()
            self._exchange = None
            self._ask_at = time.monotonic() + AGAIN
        return answer

    def _is_healthy(self, answer: Answer) -> bool:
        """Whether an answer is the one that was waited for. Raises UnhealthyError when no other one will come."""
        status = answer.status
        judged = verdict(status)
        if judged == UNHEALTHY:
            # systemd may kill the instance at once, and what it logs of the answer comes after it.
            time.sleep(0.5)
            raise UnhealthyError(
                f"GET {self._path} answered {status}, and only 2xx counts as healthy",
                details(answer, self._path, self._host),
            )
        if judged != HEALTHY:
            self._last = f"last answer {status}" if status else "the connection was closed without a response"
            return False
        ready, wanted = answer.workers or (0, 0)
        if not answer.all_ready or len(self._workers.alive) < wanted:
            self._last = f"last answer {status}, with {min(ready, len(self._workers.alive))} of {wanted} workers ready"
            self._ask_at = time.monotonic() + SOON
            return False
        if answer.workers and self._workers.dead > self._dead_before:
            self._last = f"last answer {status}, but a worker has died meanwhile"
            return False
        return True
