"""One generation of processes takes the place of another. Whatever fails, the old one is put back.

Those that overlap are started and proved beside the old ones, before the server switches. Those that must never run
twice are replaced when it has. The old ones are told to stop when all of that has succeeded, and finish what they do in
their own units, for as long as these allow.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence

from appctl import bounded, disk, processes, releases, scheduling, systemd, talk
from appctl.app import App
from appctl.instance import unit_text, why
from appctl.ours import Ours
from appctl.process import CtlError, run
from appctl.processes import REPLACE, Unit, count, names, there, want, wanted
from appctl.releases import short

LOOK = 0.2
"""Seconds between two looks."""

PROMPT = 2.0
"""Seconds for which a deploy waits for those of before that have nothing to finish."""


class Generation:
    """The units that a release's processes have from this deploy on."""

    def __init__(self, app: App, release: str) -> None:
        self.app = app
        self.release = release
        self.before = wanted(app)
        running = there(app)
        number = 1 + max((unit.generation for unit in (*self.before, *running)), default=0)
        self.processes = processes.of(app, release)
        self.units = [
            Unit(process, short(release), number, instance + 1)
            for process in self.processes
            for instance in range(count(app, release, process))
        ]
        former = processes.of(app, releases_of(app, self.before)) if self.before else {}
        both = {**former, **self.processes}
        self.replaced = [name for name in both if REPLACE in (self.mode(name), former.get(name, {}).get("deploy"))]
        self.schedule = scheduling.Schedule(app, release)
        self.stopped: list[Unit] = []
        """Those of before that were stopped for ones that must not run beside them."""

    def mode(self, process: str) -> str:
        """How a process is deployed."""
        return str(self.processes.get(process, {}).get("deploy", ""))

    def place(self) -> None:
        """Have systemd know the units, with what the operator has added to the application's."""
        app = self.app
        processes.clear(app)
        for process in self.processes:
            path = app.system / processes.template(app, process, self.release)
            link = path.with_name(f"{path.name}.d")
            Ours(app.name, app.base).add(*(f"/{made.relative_to(app.base)}" for made in (path, link)))
            disk.durable(path, unit_text(app, self.release, f"{app.name}-{process}@.service"))
            link.unlink(missing_ok=True)
            if app.extensions.is_dir():
                link.symlink_to(app.extensions)
        if self.processes:
            run("systemctl", "daemon-reload")
        self.schedule.place()

    def prove(self) -> None:
        """Start those that may run beside those of before, and see that they stay up. Raises CtlError."""
        overlapping = [unit for unit in self.units if unit.process not in self.replaced]
        start(self.app, self.release, overlapping)

    def switch(self) -> None:
        """Replace those that must not run twice, and have the new ones be the current ones. Raises CtlError."""
        for process in self.replaced:
            old = [unit for unit in there(self.app) if unit.process == process and unit not in self.units]
            if old:
                talk.say(self.app, f"{process}: stops, for {short(self.release)} must not run beside it", self.release)
                self.stopped += [unit for unit in old if unit in self.before]
                bounded.change("stop", *names(old, self.app))
            start(self.app, self.release, [unit for unit in self.units if unit.process == process])
        want(self.app, self.units)
        self.schedule.switch()

    def undo(self) -> None:
        """Stop the new ones, and start again what was stopped for them. Raises CtlError when that fails."""
        if wanted(self.app) != self.before:
            want(self.app, self.before)
        mine = [unit for unit in there(self.app) if unit in self.units]
        alone = [unit for unit in mine if unit.process in self.replaced]
        if alone:
            bounded.change("stop", *names(alone, self.app), check=False)
        tell(self.app, [unit for unit in mine if unit not in alone])
        if self.stopped:
            run("systemctl", "reset-failed", *names(self.stopped, self.app), check=False)
            bounded.change("start", *names(self.stopped, self.app))
        settled(self.app)

    def retire(self) -> None:
        """Tell those of before to stop. What has something to do finishes it, and is not waited for."""
        app = self.app
        if not processes.scaled(app, self.release):
            app.scale.unlink(missing_ok=True)  # it was for the one of before
        old = [unit for unit in there(app) if unit not in self.units]
        tell(app, old)
        finishing = settled(app) if old else []
        for process in dict.fromkeys(unit.process for unit in self.units):
            number = len([unit for unit in self.units if unit.process == process])
            talk.say(app, f"{process}: {number} of {short(self.release)} run", self.release)
        for unit in finishing:
            unit_name = unit.name(app)
            talk.say(app, f"{unit.process}: {unit_name} finishes what it does and goes then", self.release)
        self.schedule.retire()


def releases_of(app: App, units: Sequence[Unit]) -> str:
    """The release of the current units, by its whole name."""
    found = [name for name in releases.names(app) if short(name) == units[0].release]
    if not found:
        raise CtlError(f"{app.name}: the release of {units[0].name(app)} is not on this host. Deploy again")
    return found[0]


@contextlib.contextmanager
def generation(app: App, release: str) -> Iterator[Generation]:
    """A new generation, proved as far as it may run beside the old one, which comes back when the block fails."""
    made = Generation(app, release)
    try:
        made.place()
        made.prove()
        yield made
    except BaseException as failure:
        told = [str(failure)]
        for what, undo in (("processes", made.undo), ("timers", made.schedule.undo)):
            try:
                undo()
            except (CtlError, OSError) as other:
                told.append(f"Its {what} of before could not be started again: {other}")
        if told[1:]:
            raise CtlError("\n".join(told)) from failure
        raise
    made.retire()


def start(app: App, release: str, units: Sequence[Unit]) -> None:
    """Start units and see that they are ready. Raises CtlError with the reason of the first that is not."""
    if not units:
        return
    since = time.time()
    try:
        bounded.change("start", *names(units, app))
    except CtlError as failure:
        failed = next((unit for unit in units if not systemd.serves(unit.name(app))), units[0])
        raise CtlError(told(app, failed, since, str(failure))) from None
    # What says by itself when it is ready has said so.
    lasting = {unit: uptime(app, release, unit.process) for unit in units}
    begin = time.monotonic()
    while waiting := [unit for unit in units if time.monotonic() - begin < lasting[unit]]:
        for unit in waiting:
            state = systemd.show(unit.name(app), "ActiveState", "NRestarts")
            if state["ActiveState"] != "active" or systemd.number(state["NRestarts"]):
                raise CtlError(told(app, unit, since, "it ended by itself"))
        time.sleep(LOOK)


def told(app: App, unit: Unit, since: float, otherwise: str) -> str:
    """Why an instance is not ready."""
    name = unit.name(app)
    return (
        f"release {unit.release}: {unit.process} is not ready (journalctl -u {name}): {why(name, since) or otherwise}"
    )


def uptime(app: App, release: str, process: str) -> float:
    """Seconds for which an instance has to stay up to be ready; none for one that tells."""
    ready = processes.of(app, release)[process].get("ready")
    return float(ready) if isinstance(ready, (int, float)) else 0.0


def tell(app: App, units: Sequence[Unit]) -> None:
    """Tell units to stop, and do not wait for it."""
    if units:
        run("systemctl", "stop", "--no-block", *names(units, app), check=False)


def settled(app: App) -> list[Unit]:
    """Wait a moment for those that were told to stop; returns those that have something to finish."""
    deadline = time.monotonic() + PROMPT
    while left := [unit for unit in there(app) if unit not in wanted(app)]:
        if time.monotonic() >= deadline:
            break
        time.sleep(LOOK)
    processes.clear(app)
    return left


def settle(app: App) -> None:
    """Bring the processes to the release that serves, after an interruption. Raises CtlError when one does not run."""
    scheduling.settle(app)
    if processes.is_settled(app):
        return
    release, now, running = releases.current(app), wanted(app), there(app)
    if not processes.fit(app, release):
        with generation(app, release) as made:
            made.switch()
        return
    tell(app, [unit for unit, state in running.items() if unit not in now and state != "deactivating"])
    down = [unit for unit in now if running.get(unit) not in systemd.UP]
    if down:
        run("systemctl", "reset-failed", *names(down, app), check=False)
    start(app, release, down)
    if down:
        talk.say(app, f"started again: {', '.join(names(down, app))}", release)
