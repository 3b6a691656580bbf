"""Runs of timers that waited for another one when the release changed, and are owed since then.

Most wait in a unit of their own. One that would be of the very unit that is under way cannot: systemd takes a start of
what starts for the same one. So it is noted, and the unit begins again when it has ended.
"""

import contextlib
from pathlib import Path

from appctl import systemd, timers
from appctl.app import App
from appctl.process import run
from appctl.timers import Job


def path(app: App, timer: str) -> Path:
    """Root's own note: the unit that begins again at its end. Empty while it is not decided which one that is."""
    return app.runtime / "owed" / timer


def note(app: App, timer: str) -> None:
    """Note that a run is owed, of a unit that is still to be decided."""
    path(app, timer).parent.mkdir(mode=0o700, exist_ok=True)
    path(app, timer).write_text("")


def noted(app: App) -> list[str]:
    """The timers of which a run is owed."""
    try:
        return sorted(found.name for found in path(app, "x").parent.iterdir())
    except FileNotFoundError:
        return []


def decide(app: App, job: Job | None, timer: str) -> None:
    """Have what is owed run: now, or when its own unit has ended. Of a timer that is no more nothing is owed."""
    owed = path(app, timer)
    if job is None:
        owed.unlink(missing_ok=True)
        return
    unit = job.name(app)
    owed.write_text(unit)
    # Its end is yet to come, and finds the note. Otherwise one of both has taken it.
    if systemd.show(unit, "ActiveState")["ActiveState"] != "activating" and take(app, job):
        run("systemctl", "start", "--no-block", unit)


def take(app: App, job: Job) -> bool:
    """Whether a unit has to begin again, for who asks first."""
    with contextlib.suppress(OSError):
        owed = path(app, job.timer)
        if owed.read_text() == job.name(app):
            owed.unlink()
            return True
    return False


def begin_again(app: App, job: Job) -> None:
    """Have a unit that ends begin again, if that is owed: systemd waits for its end, and at a shutdown refuses."""
    if take(app, job):
        run("systemctl", "start", "--no-block", job.name(app), check=False)


def cancel(app: App, jobs: dict[str, Job]) -> None:
    """Have no job of another release than these wait for one that is under way any more. It is owed instead."""
    late = timers.waiting(app, [job for job in timers.services(app) if jobs.get(job.timer) != job])
    for timer in {*noted(app), *(job.timer for job in late)}:
        note(app, timer)
    if late:
        run("systemctl", "stop", *(job.name(app) for job in late))
