"""What an instance has to answer beside its health path, and whether that path is one at all."""

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

from appctl import disk, exchange, probe
from appctl.exchange import NOT_YET, Answer, verdict
from appctl.process import CtlError
from appctl.text import visible

FILE_MAX = 1024 * 1024
"""Bytes of a release's list of checks."""

BODY_MAX = 1024 * 1024
"""Bytes of an answer that are looked through."""

AGAIN = 0.2
"""Seconds until a check is asked again that has no answer yet."""

LONGEST = 5.0
"""Seconds that a path may take that cannot exist."""

NOWHERE = "/gunicorn-fastapi/no-such-path"
"""A path that no application has."""


class Check(NamedTuple):
    """A question, and what its answer has to be."""

    path: str
    status: int
    """0 is any of 2xx."""
    host: str
    contains: str
    headers: dict[str, str]

    def failure(self, answer: Answer) -> str:
        """What is wrong with an answer, in words; empty when nothing is."""
        wanted = f"{self.status} was" if self.status else "2xx was"
        fits = range(self.status, self.status + 1) if self.status else range(200, 300)
        if answer.status not in fits:
            return f"answered {answer.status or 'nothing'}, and {wanted} expected"
        if self.contains and self.contains.encode() not in answer.whole:
            return f"answered {answer.status} without {visible(json.dumps(self.contains, ensure_ascii=False), 200)}"
        return ""


def read(file: Path, host: str) -> list[Check]:
    """The checks of a release; those that name no host are asked by `host`."""
    try:
        listed: list[dict[str, Any]] = json.loads(disk.read_bounded(file, FILE_MAX))
        return [
            Check(c["path"], int(c["status"]), c["host"] or host, c["contains"], dict(c["headers"])) for c in listed
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CtlError(f"the checks of the release cannot be read from {file}: {error}. Deploy it again") from None


def verify(address: Path, checks: list[Check], timeout: float, pid: int) -> None:
    """Ask an instance, which is healthy, whatever it has to answer beside.

    No answer and a 503 that is not wanted mean "not yet", as for the health path. Raises UnhealthyError for the first
    that fails, and CtlError when the main process `pid` has ended, or after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    for number, check in enumerate(checks, 1):
        asked = f"check {number} of gunicorn_fastapi_checks, GET {check.path}:"
        while failure := _failure(address, check, deadline, pid, asked):
            answer, said = failure
            if verdict(answer.status) != NOT_YET:
                raise probe.UnhealthyError(f"{asked} {said}", exchange.received(answer, check.host))
            if time.monotonic() >= deadline:
                raise CtlError(f"{asked} {said}, within {timeout:g} s")
            time.sleep(AGAIN)


def _failure(address: Path, check: Check, deadline: float, pid: int, asked: str) -> tuple[Answer, str] | None:
    """What a check was answered, and what is wrong with that; nothing when it holds."""
    left = max(deadline - time.monotonic(), AGAIN)
    try:
        with probe.own_main(pid) as main:
            answer = exchange.ask(address, check.path, check.host, left, check.headers, BODY_MAX)
            if main.has_ended():
                raise ProcessLookupError
    except ProcessLookupError:
        raise CtlError(f"{asked} gunicorn exited before it was answered") from None
    except OSError:  # its queue is full, or nobody listens yet
        answer = Answer(b"", b"")
    said = check.failure(answer)
    return (answer, said) if said else None


def refuse_fallback(address: Path, path: str, host: str, timeout: float) -> None:
    """Raise UnhealthyError when what answers the health path answers a path that cannot exist in the same way.

    A front end that is served for any path says nothing of the application.
    """
    left = min(timeout, LONGEST)
    try:
        health = exchange.ask(address, path, host, left, most=BODY_MAX)
        nowhere = exchange.ask(address, NOWHERE, host, left, {"X-Paths": "wanted"}, BODY_MAX)
    except OSError:
        return
    if verdict(health.status) != exchange.HEALTHY or verdict(nowhere.status) != exchange.HEALTHY:
        return
    pages = [answer.headers.get("content-type", "").startswith("text/html") for answer in (health, nowhere)]
    if health.whole == nowhere.whole or all(pages):
        others = ", ".join(other for other in nowhere.paths if other != path)
        raise probe.UnhealthyError(
            f"GET {path} answered {health.status}, and so did {NOWHERE}, which cannot exist: what answers any path, as "
            "for a front end, says nothing of the application's health",
            f"Set gunicorn_fastapi_health_path to a path of its own{f': {others}' if others else ''}, add one in three "
            f"lines: {exchange.ADDED}, or say what {path} has to contain by gunicorn_fastapi_checks",
        )
