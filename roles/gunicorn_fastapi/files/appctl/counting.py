"""How many requests the instances of an application have answered lately, as they say themselves when asked."""

import contextlib
from collections.abc import Iterable
from typing import NamedTuple

from appctl import exchange, releases
from appctl.app import App
from appctl.process import CtlError

WAIT = 5.0
"""Seconds that the health path has for its answer."""


class Asked(NamedTuple):
    """The health path of the release that an instance runs, and what it has answered."""

    path: str
    host: str
    answer: exchange.Answer


class Requests(NamedTuple):
    """Requests that were answered, those of them with 5xx, in the last so many seconds."""

    answered: int
    failed: int
    seconds: float


def ask(app: App, instance: str) -> Asked:
    """Ask the health path of an instance. Raises OSError, or CtlError, when that is not possible."""
    manifest = releases.manifest(app, releases.running(app, app.instance_service(instance)))
    path, host = str(manifest.get("health_path", "/")), str(manifest.get("health_host", "localhost"))
    return Asked(path, host, exchange.ask(app.address(instance), path, host, WAIT))


def requests(answers: Iterable[exchange.Answer]) -> Requests | None:
    """Those of several instances together. None when none of them says, as with a worker class of the operator's."""
    said = [answer.requests for answer in answers if answer.requests]
    if not said:
        return None
    answered, failed, seconds = zip(*said, strict=True)
    return Requests(sum(answered), sum(failed), max(seconds))


def answers(app: App, *instances: str) -> list[exchange.Answer]:
    """What these instances answer, as far as they can be asked."""
    said = []
    for instance in instances:
        with contextlib.suppress(OSError, CtlError):
            said.append(ask(app, instance).answer)
    return said
