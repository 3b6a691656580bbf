"""What operators run in releases: which runs there are, what came of them, and the units that they leave.

A run has a unit that a reboot forgets, NAME-run-ID.service, and a directory of root's own. As long as the unit's file
is there, its release is in use. Whoever began a run collects it at its end; when that one is gone, whoever comes next.
"""

import argparse
import datetime
import fcntl
import json
import os
import re
import time
from pathlib import Path
from typing import Any, NamedTuple

from appctl import ending, history, lock, releases, systemd, talk, tree
from appctl.app import RUN, App
from appctl.disk import read_bounded
from appctl.ending import Ending
from appctl.instance import forget
from appctl.releases import short

SHOWN = 20
"""Runs of before that are shown."""

RAN = 20.0
"""Seconds for which the end of a unit waits for its turn."""


class Run(NamedTuple):
    """One run."""

    id: str
    unit: str
    release: str
    program: str
    by: str
    since: str
    begun: float

    def words(self) -> str:
        """It in words."""
        return f"{self.program} by {self.by} since {self.since} in {short(self.release)} ({self.unit})"


def directory(app: App, run: str) -> Path:
    """Where root keeps what belongs to a run."""
    return app.private / f"{RUN}-{run}"


def unit_of(app: App, run: str) -> str:
    """The unit of a run."""
    return f"{app.name}-{RUN}-{run}.service"


def there(app: App) -> list[Run]:
    """The runs whose units are there."""
    pattern = re.compile(rf"{app.name}-{RUN}-([0-9a-f]{{8}})\.service")
    paths = sorted(app.transient.glob(f"{app.name}-{RUN}-*.service"))
    return [described(app, match[1], path) for path in paths if (match := pattern.fullmatch(path.name))]


def described(app: App, run: str, path: Path) -> Run:
    """A run, by its unit and by what root has noted when it began."""
    release = releases.in_unit(app, read_bounded(path, 1 << 20).decode(errors="replace"))
    try:
        noted = json.loads(read_bounded(directory(app, run) / "run.json", 4096))
        return Run(run, path.name, release, noted["program"], noted["by"], noted["since"], noted["begun"])
    except (OSError, ValueError, KeyError, TypeError):  # who asks is not root
        return Run(run, path.name, release, "a command", "somebody", "its start", 0)


def note(app: App, run: str, program: str) -> None:
    """Note who begins a run. The arguments are not noted, which may be secrets."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    noted = {"program": program, "by": lock.by()[:100], "since": now, "begun": time.time()}
    (directory(app, run) / "run.json").write_text(json.dumps(noted))


def claim(app: App, run: str) -> int:
    """The descriptor that says, as long as it is open, that whoever began this run waits for its end."""
    descriptor = os.open(directory(app, run) / "owner", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def is_owned(app: App, run: str) -> bool:
    """Whether whoever began a run waits for its end."""
    try:
        os.close(claim(app, run))
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def collect(app: App, run: Run, ended: Ending) -> None:
    """Note what came of a run, and take away what it leaves. The lock of the runs is held."""
    record(app, run, ended)
    forget(app, run.unit)
    tree.remove(directory(app, run.id))


def record(app: App, run: Run, ended: Ending) -> None:
    """Note what came of a run. That it cannot be written is told, and changes nothing else."""
    seconds = round(time.time() - run.begun, 1) if run.begun else None
    line = {
        "time": run.since,
        "from": "",
        "to": run.release,
        "outcome": ended.words,
        "reason": "",
        "program": run.program,
        "by": run.by,
        "status": ended.status,
        "seconds": seconds,
    }
    try:
        history.append(app.runs, line)
    except OSError as error:
        talk.say(app, f"{app.runs} could not be written: {error}. A run is missing in it", run.release, error=True)
    talk.tell(app, f"{run.program} by {run.by}, run in {short(run.release)}: {ended.words}", run.release)


def sweep(app: App) -> None:
    """Collect what has ended without anybody waiting for it, and end what has lost its terminal. The lock is held."""
    for run in there(app):
        detached = (directory(app, run.id) / "detached").exists()
        if is_owned(app, run.id) or (detached and systemd.active(run.unit)):
            continue
        if systemd.show(run.unit, "SubState")["SubState"] in ("running", "start"):
            collect(app, run, Ending(129, "ended, as whoever began it was gone"))
        else:
            collect(app, run, ending.of(run.unit))


def command_ran(app: App, arguments: argparse.Namespace) -> None:
    """Note the end of a run that nobody waits for. Its unit asks this, while it stops."""
    with lock.runs(app, RAN):
        for run in there(app):
            if run.id == arguments.run:
                record(app, run, ending.of(run.unit))
                for path in (app.transient / run.unit, app.transient / f"{run.unit}.d"):
                    path.unlink(missing_ok=True)
                tree.remove(directory(app, run.id))


def command_runs(app: App, _: argparse.Namespace) -> dict[str, Any]:
    """What runs in releases just now, and what ran last."""
    with lock.runs(app):
        sweep(app)
        running = there(app)
    before, _damaged = history.read(app.runs)
    for run in running:
        talk.out(f"running: {run.words()}")
    for line in before[-SHOWN:]:
        talk.out(f"{line['time']}  {short(line['to'])}  {line.get('program')} by {line.get('by')}: {line['outcome']}")
    return {"running": [run._asdict() for run in running], "before": before[-SHOWN:]}


def add_ran(command: argparse.ArgumentParser) -> None:
    command.add_argument("run")
