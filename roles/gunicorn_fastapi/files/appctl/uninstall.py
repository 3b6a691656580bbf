"""An application goes from its host: first all is looked at, then removed in an order that a second run can finish."""

import argparse
import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from appctl import (
    addresses,
    answering,
    bounded,
    edge,
    lock,
    opening,
    processes,
    pythons,
    runs,
    systemd,
    talk,
    timers,
    totals,
    tree,
    watching,
)
from appctl.app import App
from appctl.asking import add_lock_wait
from appctl.disk import read_bounded
from appctl.ours import Ours
from appctl.process import CtlError, run

MADE = (
    "releases",
    "virtualenvs",
    "credentials",
    "locks",
    "prepared",
    "incoming",
    "maintenance",
    "wheelhouse",
    "history.jsonl",
    "released.jsonl",
    "released.json",
    "runs.jsonl",
    "scale.json",
    "timers",
    "suspended.json",
    "current",
    "public",
)
"""What is in /opt/NAME. Where that is a link, other things may be in its target."""


class Found(NamedTuple):
    """What there is of an application."""

    made: list[str]
    units: list[Path]
    """Files of its units."""
    additions: list[Path]
    """Directories of what operators have added to them."""
    public: list[addresses.Address]


def command_uninstall(app: App, arguments: argparse.Namespace) -> dict[str, object]:
    """Remove the application from this host. Its data is kept, unless --remove-state is given."""
    ours = Ours(app.name, app.base)
    with lock.lock(app, "the uninstall", arguments.lock_wait), lock.runs(app):
        unused(app)
        watching.end(app, "it is uninstalled")
        found = look(app, ours)
        ours.add(*found.made)  # a version without records made it, maybe; the second run of this may need it
        answering_before = answering.listeners(found.public)
        edge.leave(edge.Edge(app))
        stop(app, found)
        still = answering.holders(answering_before)
        remove(app, ours, found, arguments.remove_state)
    pythons.prune(app)
    for line in still:
        talk.out(f"warning: {line}, which got it from the application. Stop that process", error=True)
    for line in what_stays(app, ours):
        talk.out(line)
    return {"changed": True}


def unused(app: App) -> None:
    """Raise CtlError while an operator runs something in a release."""
    runs.sweep(app)
    if running := runs.there(app):
        units = " ".join(run.unit for run in running)
        raise CtlError(
            f"{app.name}: nothing was removed. There runs {', '.join(run.words() for run in running)}. Wait for its "
            f"end, or end it: systemctl stop {units}"
        )


def look(app: App, ours: Ours) -> Found:
    """What there is, before anything changes. Raises CtlError for what has to be cleared up by hand."""
    there = list(ours.there())
    made = ours.made() or (ours.standard() if ours.former() else [])
    foreign = ours.foreign()
    if foreign:
        raise CtlError(
            f"{app.name}: nothing was removed. This role does not manage {', '.join(foreign)}. "
            "Remove it by hand, or give the name of the application"
        )
    places = [app.base / thing.lstrip("/") for thing in there if "/systemd/" in thing]
    additions = [path for path in places if path.suffix == ".d" and app.system in path.parents]
    additions = [path for path in additions if not is_our_link(app, path)]
    units = [path for path in places if path not in additions]
    others = strangers(app, [*(path.name for path in units), *processes.names(processes.there(app), app)])
    if others:
        raise CtlError(
            f"{app.name}: nothing was removed. {', '.join(others)} still runs as the application's user, or within its "
            "limits. Stop it first"
        )
    for link in (app.root, ours.state):
        if link.is_symlink() and link.lstat().st_uid != ours.owner:
            raise CtlError(
                f"{app.name}: nothing was removed. {link} is a link that root did not create. Remove it first"
            )
    closed = read_only(app, ours)
    if closed:
        raise CtlError(
            f"{app.name}: nothing was removed. {', '.join(closed)}: Read-only file system. Have it mounted writable "
            "(findmnt --target shows by what), and uninstall again"
        )
    public = [a for held in addresses.layout(app, opening.units(app)).values() for a in held]
    return Found(made, units, additions, public)


def is_our_link(app: App, path: Path) -> bool:
    """Whether it has a unit beside the service get what operators have added to that."""
    return path.is_symlink() and path.readlink() == app.extensions


def read_only(app: App, ours: Ours) -> list[str]:
    """Where something is to be removed or written, and cannot be."""
    places = (
        app.root,
        app.root.parent,
        app.system,
        app.base / "usr/local/sbin",
        app.cache,
        ours.state,
        ours.record.parent,
    )
    return [str(place) for place in places if place.exists() and os.statvfs(place).f_flag & os.ST_RDONLY]


def strangers(app: App, units: list[str]) -> list[str]:
    """Processes of the application's user, or in its slice, that none of its own units has."""
    user = Ours(app.name).user()
    found = []
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        group = systemd.control_group(process.name)
        if any(systemd.belongs(group, f"/{app.slice}/{unit}") for unit in units):
            continue
        if systemd.belongs(group, f"/{app.slice}") or (user and user.pw_uid in users_of(process)):
            found.append(answering.named(int(process.name)))
    return found


def users_of(process: Path) -> set[int]:
    """The users whose rights a process has or can take."""
    with contextlib.suppress(OSError):
        for line in read_bounded(process / "status", 65536).decode("ascii", "replace").split("\n"):
            if line.startswith("Uid:"):
                return {int(word) for word in line.split()[1:]}
    return set()


def stop(app: App, found: Found) -> None:
    """Stop everything in one step, so that no client starts the service again, and see that it has stopped."""
    names = sorted({path.name for path in found.units if path.suffix != ".d" and "@" not in path.name})
    names += processes.names(processes.there(app), app)
    if names:
        bounded.change("stop", *names)
    left = [named for named in names if systemd.active(named)]
    if left:
        raise CtlError(
            f"{app.name}: {', '.join(left)} did not stop, and nothing was removed (systemctl status {left[0]})"
        )


def remove(app: App, ours: Ours, found: Found, state: bool) -> None:
    """Take everything away. Raises CtlError at what cannot be; the next run goes on from there."""
    steps: list[tuple[Path, Callable[[], None]]] = [
        *((path, lambda path=path: tree.remove(path)) for path in [*links_of_targets(app), *stamps(app)]),
        *((path, lambda path=path: tree.remove(path)) for path in found.units),
        *((Path(a.text), lambda a=a: forget_socket(Path(a.text))) for a in found.public if not a.host),
        (app.root, lambda: empty(app.root)),
        (app.cache, lambda: whole(app.cache)),
        (app.base / "var/cache" / app.name, lambda: whole(app.base / "var/cache" / app.name)),
        (ours.state, lambda: whole(ours.state) if state else close(ours.state, ours.owner)),
    ]
    for path, step in steps:
        try:
            step()
        except OSError as error:
            raise CtlError(f"{app.name}: {path} could not be removed: {error}. Fix that, and uninstall again") from None
    names = sorted({path.name for path in found.units if path.suffix != ".d"})
    run("systemctl", "daemon-reload")
    if names:
        run("systemctl", "reset-failed", *(name.replace("@.", "@*.") for name in names), check=False)
    remove_user(app, ours, found.made)
    kept = [str(path) for path in (ours.state, *found.additions) if os.path.lexists(path)]
    kept = [f"/{Path(path).relative_to(app.base)}" for path in kept]
    totals.unmount(app)
    whole(app.runtime)  # with the lock; whoever waits for it looks whether it is still there
    ours.write([*kept, f"/{app.command.relative_to(app.base)}"])
    tree.remove(app.command)
    if kept:
        ours.write(kept)
    else:
        tree.remove(ours.record)


def links_of_targets(app: App) -> list[Path]:
    """What had the application started at boot, or at times."""
    return [
        app.system / f"{target}.target.wants" / unit
        for target, unit in (
            ("multi-user", app.service),
            ("multi-user", app.processes),
            ("sockets", app.socket),
            ("sockets", app.metrics),
            *(("timers", timers.unit(app, timer)) for timer in timers.planned(app)),
        )
    ]


def stamps(app: App) -> list[Path]:
    """Where systemd notes when timers ran last."""
    return [app.base / "var/lib/systemd/timers" / f"stamp-{timers.unit(app, timer)}" for timer in timers.planned(app)]


def forget_socket(path: Path) -> None:
    """Remove the name of a unix socket that nobody listens on any more."""
    if os.path.lexists(path) and stat.S_ISSOCK(path.lstat().st_mode):
        path.unlink()


def whole(path: Path) -> None:
    """Remove a directory with all that is in it, by descriptors, so that no link in it is followed.

    Where root has put a link in its place, the content of its target goes, and the link.
    """
    if not os.path.lexists(path):
        return
    clear(path, None)
    if path.is_symlink():
        path.unlink()
        return
    try:
        path.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        talk.out(f"{path} is a mount point, so it is kept, empty")


def empty(root: Path) -> None:
    """Remove /opt/NAME. Where it is a link, what this role made in its target goes, and the target when it is empty."""
    if not root.is_symlink():
        whole(root)
        return
    target = root.resolve()
    if target.is_dir():
        clear(target, MADE)
        with contextlib.suppress(OSError):  # it is a mount point, or has something else in it
            target.rmdir()
        if target.exists() and os.listdir(target):  # noqa: PTH208 (names alone)
            talk.out(f"{target}, to which {root} was a link, is kept: it has other files")
    root.unlink()


def clear(directory: Path, names: tuple[str, ...] | None) -> None:
    """Remove what is in a directory; only what is named in `names`, if that is given."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in os.listdir(descriptor):  # noqa: PTH208 (by descriptor)
            if names is not None and name not in names and not name.endswith(".building"):
                continue
            tree.remove_at(descriptor, name)
    finally:
        os.close(descriptor)


def close(state: Path, owner: int) -> None:
    """Give the directory of what the application has written to root, and let nobody else in.

    The next system user may get the number of the one that goes, and must not get its files. What is in it stays as it
    is; systemd gives all of it to the application's user again when the application is installed again.
    """
    if not os.path.lexists(state):
        return
    descriptor = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o700)
        os.fchown(descriptor, owner, owner)
    finally:
        os.close(descriptor)


def remove_user(app: App, ours: Ours, made: list[str]) -> None:
    """Remove the user and its group."""
    if ours.user() and f"user {app.name}" in made:
        run("userdel", app.name)
    if ours.group() and f"group {app.name}" in made:
        run("groupdel", app.name)


def what_stays(app: App, ours: Ours) -> list[str]:
    """What is left on the host, in words."""
    lines = [f"{app.name} removed"]
    for thing in ours.made() or []:
        why = "created by an operator"
        if thing == f"/{app.state.relative_to(app.base)}":
            why = "data of the application (--remove-state, or -e remove_state=true, removes it)"
        if os.listdir(app.base / thing.lstrip("/")):  # noqa: PTH208 (names alone)
            lines.append(f"kept: {thing}, {why}")
    others = sorted(path.stem for path in ours.record.parent.glob("*.json") if path != ours.record)
    users = f"{', '.join(others)} may use them" if others else "no application on record uses them"
    there = [str(path) for path in (app.tools, app.caches, app.pythons) if path.exists()]
    if there:
        what = "the control command, uv and its cache" + (" and builds of Python" if app.pythons.exists() else "")
        lines.append(f"kept: {' and '.join(there)}, {what} for all applications; {users}")
    return lines


def add_uninstall(command: argparse.ArgumentParser) -> None:
    command.add_argument("--remove-state", action="store_true", help="remove the application's data, too")
    add_lock_wait(command)
