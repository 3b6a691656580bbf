"""A service that fails again and again is tried again later and later, and the operator is told why."""

import argparse
import contextlib
import json
import time
from typing import Any

from appctl import disk, releases, systemd, talk
from appctl.app import App
from appctl.reason import why_it_ended

LASTING = 60
"""Seconds that the service has to have been up, or else its next failure is one more in a row."""

LONGEST = 60
"""Most seconds between two tries of a service that fails in a row. systemd itself waits the first of them."""


def command_backoff(app: App, _: argparse.Namespace) -> None:
    """Wait before a service that has failed is tried again, longer each time, and tell the operator.

    systemd asks this before each start. A start that somebody asked for is not kept waiting.
    """
    unit = systemd.show(app.service, "ActiveEnterTimestampMonotonic", "ActiveExitTimestampMonotonic", "NRestarts")
    entered = systemd.number(unit["ActiveEnterTimestampMonotonic"]) / 1e6
    exited = systemd.number(unit["ActiveExitTimestampMonotonic"]) / 1e6
    restarts, former = systemd.number(unit["NRestarts"]), failed_before(app)
    failures, wait, why = 0, 0, ""
    # Not whether it is above 0: systemd 252 keeps the number when the service is stopped between two tries.
    if restarts > former.get("restarts", 0):
        came_up = entered != former.get("entered", 0)
        failures = 1 if came_up and exited - entered >= LASTING else former.get("failures", 0) + 1
        wait = pause(failures)
        # What it said in its last seconds, or else since it was tried.
        since = time.time() - (time.monotonic() - exited) - 5 if came_up else former.get("tried", 0)
        why = why_it_ended(app.service, since, came_up)
    state = {"failures": failures, "restarts": restarts, "tried": time.time() + wait, "entered": entered}
    with contextlib.suppress(OSError):  # a full /run costs the count, not the start
        disk.durable(app.failures, json.dumps(state))
    if failures:
        often = "once" if failures == 1 else f"{failures} times in a row"
        when = f"in {wait} s" if wait else "now"
        current = releases.current(app)
        talk.tell(app, f"{app.service} has failed {often}. Restarting {when}. {why}", current, error=True)
        time.sleep(wait)


def pause(failures: int) -> int:
    """Seconds to wait after so many failures in a row; systemd adds one (RestartSec=). Workers wait as long."""
    return min(1 << min(failures - 1, 10), LONGEST) - 1


def failed_before(app: App) -> dict[str, Any]:
    """What `command_backoff` has noted last. Empty when there was no start since boot."""
    try:
        state = json.loads(disk.read_bounded(app.failures, 4096))
    except (OSError, ValueError):
        return {}
    numbers = state.items() if isinstance(state, dict) else ()
    return {name: value for name, value in numbers if isinstance(value, int | float)}
