"""The processes of a release beside its server: which there are, and which units they have.

Each instance is a unit, and each deploy makes new ones beside those of before, which may be busy for hours:
NAME-PROCESS-RELEASE@GENERATION-NUMBER.service. The current ones are those that NAME-processes.target wants; boot starts
it, and nothing else is started by itself.
"""

import json
import os
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from appctl import disk, releases, systemd
from appctl.app import App
from appctl.ours import Ours
from appctl.process import CtlError, run
from appctl.releases import short

REPLACE = "replace"
"""How a process is deployed that must never run twice."""


class Unit(NamedTuple):
    """One instance of a process."""

    process: str
    release: str
    """The beginning of its name, as it is shown."""
    generation: int
    number: int

    def template(self, app: App) -> str:
        """The file that its unit is made from."""
        return template(app, self.process, self.release)

    def name(self, app: App) -> str:
        """Its unit."""
        return self.template(app).replace("@.", f"@{self.generation}-{self.number}.")


def template(app: App, process: str, release: str) -> str:
    """The file on the host from which the units of a release's process are made."""
    return f"{app.name}-{process}-{short(release)}@.service"


def parse(app: App, name: str) -> Unit | None:
    """The instance that a unit is. None for another one, such as one of an application whose name begins alike."""
    match = re.fullmatch(
        rf"{app.name}-([a-z][a-z0-9_]{{0,30}})-([0-9a-f]{{1,12}})@([1-9]\d{{0,8}})-([1-9]\d{{0,8}})\.service", name
    )
    return Unit(match[1], match[2], int(match[3]), int(match[4])) if match else None


def of(app: App, release: str) -> dict[str, dict[str, Any]]:
    """The processes of a release by their names, as its manifest has them. Raises CtlError when it cannot be read."""
    found = releases.manifest(app, release).get("processes")
    return found if isinstance(found, dict) else {}


def names(units: Iterable[Unit], app: App) -> list[str]:
    """The names of units."""
    return [unit.name(app) for unit in units]


def wanted(app: App) -> list[Unit]:
    """The current ones: what boot starts."""
    try:
        text = (app.system / app.processes).read_text()
    except FileNotFoundError:
        return []
    found = re.findall(r"^Wants=(\S+)$", text, re.MULTILINE)
    return [unit for name in found if (unit := parse(app, name))]


def want(app: App, units: list[Unit]) -> None:
    """Have these be the current ones. Starts and stops nothing."""
    path = app.system / app.processes
    link = app.system / "multi-user.target.wants" / app.processes
    if units:
        if not path.exists():
            Ours(app.name, app.base).add(f"/{path.relative_to(app.base)}")
        lines = [
            "# Written by gunicorn_fastapi: the processes of the release that serves.",
            "[Unit]",
            f"Description={app.name}: processes beside the server",
            *(f"Wants={unit.name(app)}" for unit in units),
        ]
        disk.durable(path, "\n".join(lines) + "\n")
        link.parent.mkdir(exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(path)
    elif path.exists() or link.is_symlink():
        link.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    else:
        return
    run("systemctl", "daemon-reload")


def templates(app: App) -> list[str]:
    """The files of process units that there are."""
    pattern = re.compile(rf"{app.name}-[a-z][a-z0-9_]{{0,30}}-[0-9a-f]{{1,12}}@\.service")
    return sorted(path.name for path in app.system.glob(f"{app.name}-*@.service") if pattern.fullmatch(path.name))


def there(app: App) -> dict[Unit, str]:
    """The instances that are up, on their way up or down, and their states."""
    if not templates(app):
        return {}
    found = {}
    listed = run("systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", f"{app.name}-*@*.service")
    for line in listed.split("\n"):
        words = line.split()
        unit = parse(app, words[0]) if len(words) > 3 else None
        if unit and words[2] not in ("inactive", "failed"):
            found[unit] = words[2]
    return found


def scaled(app: App, release: str) -> dict[str, int]:
    """What an operator has asked for while a release serves. Empty when it was for another one."""
    try:
        found = json.loads(disk.read_bounded(app.scale, 65536))
        if found["release"] == release:
            return {str(process): int(number) for process, number in found["processes"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return {}


def count(app: App, release: str, process: str) -> int:
    """How many instances of a process there are to be: as the release says, until an operator has scaled it."""
    number = scaled(app, release).get(process)
    return said(of(app, release)[process]) if number is None else number


def said(process: dict[str, Any]) -> int:
    """How many instances there are to be as the release says."""
    return len(os.sched_getaffinity(0)) if process["instances"] == "auto" else int(process["instances"])


def changed(app: App) -> set[str]:
    """The processes of which an operator has asked for another number than the release says."""
    release = releases.current(app)
    asked = scaled(app, release)
    try:
        return {name for name, one in of(app, release).items() if asked.get(name, said(one)) != said(one)}
    except CtlError:  # what the release says is unknown
        return set()


def fit(app: App, release: str) -> bool:
    """Whether the current ones are those of a release."""
    now = wanted(app)
    numbers = {
        process: len([u for u in now if (u.process, u.release) == (process, short(release))])
        for process in of(app, release)
    }
    return sum(numbers.values()) == len(now) and all(
        number == count(app, release, process) for process, number in numbers.items()
    )


def is_settled(app: App) -> bool:
    """Whether those of the release that serves are up, and all others are gone or on their way."""
    release = releases.current(app)
    if not release:
        return True
    try:
        fits = fit(app, release)
    except CtlError:
        return True  # what it consists of is unknown, and nothing is done to it
    running, now = there(app), wanted(app)
    return (
        fits
        and all(running.get(unit) in systemd.UP for unit in now)
        and all(state == "deactivating" for unit, state in running.items() if unit not in now)
    )


def used(app: App) -> set[str]:
    """The releases that anything of this runs from, or would at a boot."""
    begin = {unit.release for unit in (*there(app), *wanted(app))}
    return {release for release in releases.names(app) if short(release) in begin}


def clear(app: App) -> None:
    """Remove the files of units of which nothing is current and nothing runs."""
    needed = {unit.template(app) for unit in (*there(app), *wanted(app))}
    gone = [name for name in templates(app) if name not in needed]
    if not gone:
        return
    for name in gone:
        for path in (app.system / f"{name}.d", app.system / name):
            path.unlink(missing_ok=True)
    run("systemctl", "daemon-reload")
    run("systemctl", "reset-failed", *(name.replace("@.", "@*.") for name in gone), check=False)
    ours = Ours(app.name, app.base)
    paths = {f"/{(app.system / name).relative_to(app.base)}{end}" for name in gone for end in ("", ".d")}
    ours.write([thing for thing in ours.made() or [] if thing not in paths])


def described(app: App) -> list[dict[str, Any]]:
    """What each instance runs from and since when, the current ones first."""
    running, now, other = there(app), wanted(app), changed(app)
    found = []
    for unit in [*now, *sorted(set(running) - set(now))]:
        state = systemd.show(unit.name(app), "ActiveState", "SubState", "ActiveEnterTimestamp", "NRestarts")
        found.append(
            {
                "process": unit.process,
                "unit": unit.name(app),
                "release": unit.release,
                "current": unit in now,
                "scaled": unit in now and unit.process in other,
                "state": f"{state['ActiveState']} ({state['SubState']})",
                "up": state["ActiveState"] in systemd.SERVING,
                "since": state["ActiveEnterTimestamp"],
                "restarts": systemd.number(state["NRestarts"]),
            }
        )
    return found


def words(instances: list[dict[str, Any]]) -> list[str]:
    """The same as lines: one for each process, and one for each that is neither current nor gone."""
    lines = []
    for process in dict.fromkeys(one["process"] for one in instances):
        own = [one for one in instances if one["process"] == process]
        now = [one for one in own if one["current"]]
        if now:
            up = [one for one in now if one["up"]]
            restarts = sum(one["restarts"] for one in now)
            since = f" since {up[0]['since']}" if up else ""
            again = f", {restarts} restarts" if restarts else ""
            scale = ", scaled until the next deploy" if now[0]["scaled"] else ""
            told = f"{len(up)} of {len(now)} up{since} in {now[0]['release']}{again}{scale}"
            lines.append(f"  process   {process}: {told}")
        lines += [
            f"            {process}: {one['unit']} finishes in {one['release']}, {one['state']} since {one['since']}"
            for one in own
            if not one["current"]
        ]
    return lines
