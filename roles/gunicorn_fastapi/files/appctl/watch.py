"""What a release says in its first seconds: its failed requests and its errors, though its health is fine."""

import json
import time
from collections.abc import Sequence
from typing import NamedTuple

from appctl import journal, reason
from appctl.app import CANDIDATE, App
from appctl.counting import Requests
from appctl.disk import read_bounded
from appctl.hints import sandbox_hint
from appctl.journal import Record

RECORDS = 2000
"""Records that are looked at, the latest ones."""

ERRORS = [f"PRIORITY={number}" for number in range(4)]


class Trouble(NamedTuple):
    """Requests that were answered with 5xx, records of priority err and worse, and the first of them."""

    failed: int
    errors: int
    first: str

    def words(self) -> str:
        """What it was, empty when there was none."""
        counted = []
        if self.failed:
            counted.append(f"{self.failed} request{'s' if self.failed > 1 else ''} failed (5xx)")
        if self.errors:
            counted.append(f"{self.errors} error{'s' if self.errors > 1 else ''} logged")
        first = f", the first: {self.first}" if self.first else ""
        return " and ".join(counted) + first if counted else ""


def trouble(app: App, requests: Requests | None, since: float = 0) -> Trouble:
    """What went wrong in the service and the candidate as they were started last, since a time of the epoch.

    `requests` are those that they have counted.
    """
    failed = requests.failed if requests else 0
    runs = [f"_SYSTEMD_INVOCATION_ID={run}" for unit in units(app) if (run := invocation(app, unit))]
    if not runs:
        return Trouble(failed, 0, "")
    since = since or time.time() - 300
    errors = [
        entry for entry in journal.entries(*runs, *ERRORS, lines=RECORDS, since=since) if not reason.is_ours(entry)
    ]
    errors = [entry for entry in errors if not reason.access_status(reason.readable(entry))]
    first, lines = telling(errors)
    return Trouble(failed, len(errors), f"{first}{sandbox_hint(first, lines, app.name)}")


def telling(errors: Sequence[Record]) -> tuple[str, list[str]]:
    """The first reason that records tell, and the lines of its record; where all tell consequences, the first one."""
    for entry in errors:
        lines = reason.lines_of([entry])
        if first := reason.reason_in(lines):
            return first, lines
    lines = reason.lines_of(errors[:1])
    return "".join(lines[:1]), lines


def units(app: App) -> tuple[str, str]:
    """The units that answer clients."""
    return app.service, app.instance_service(CANDIDATE)


def invocation(app: App, unit: str) -> str:
    """The last run of a unit, as root has noted it. Empty when it did not start since boot."""
    try:
        return str(json.loads(read_bounded(app.started(unit), 4096))["invocation"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
