"""The restore of a backup: what the application has written is replaced, while nothing of it runs."""

import argparse
import ctypes
import datetime
import os
import pwd
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from appctl import backup, behind, bounded, disk, instance, lock, opening, releases, talk, tree
from appctl.app import App
from appctl.asking import add_lock_wait
from appctl.backup import Backup
from appctl.process import CtlError, run
from appctl.releases import short

EXCHANGE = 2
"""RENAME_EXCHANGE of renameat2(2): two names get each other's directory, and there is no moment without one."""


def command_restore(app: App, arguments: argparse.Namespace) -> dict[str, Any]:
    """Replace what the application has written by what a backup has; not while it runs."""
    path = Path(arguments.file).absolute()
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise CtlError(f"{path}: {error.strerror}. Name a file that {app.name}ctl backup has written") from None
    with file, lock.lock(app, "the restore", arguments.lock_wait):
        found = backup.read(app, file, path)
        refuse(app, found, path)
        refuse_running(app, stop=arguments.stop)
        disk.spare(app.state.parent, f"the restore of {app.name}", found.meta["bytes"])
        fresh = app.state.with_name(f".{app.name}.restoring")
        tree.remove(fresh)
        try:
            make(app, fresh)
            file.seek(found.offset)
            told = backup.ask(app, "unpack", fresh, source=file, disks=(app.state.parent,))
            aside = replace(app, fresh, found, stop=arguments.stop)
        finally:
            tree.remove(fresh)
    report(app, found, path, aside)
    return {"changed": True, "aside": str(aside), **told}


def refuse(app: App, backup: Backup, path: Path) -> None:
    """Raise CtlError when a backup cannot be this application's state here."""
    if backup.meta.get("name") != app.name:
        raise CtlError(f"{path} is a backup of {backup.meta.get('name')}, not of {app.name}. Nothing has changed")
    if app.state.is_symlink() or app.state.is_mount():
        raise CtlError(
            f"{app.state} is a link or a file system of its own, and cannot be replaced. Nothing has changed. Restore "
            "on a host where it is a directory, and copy what is in it"
        )
    try:
        pwd.getpwnam(app.name)
    except KeyError:
        raise CtlError(f"{app.name} is not on this host. Deploy it first, and then restore") from None


def make(app: App, directory: Path) -> None:
    """Make an empty directory that is the application's."""
    user = pwd.getpwnam(app.name)
    directory.mkdir(mode=0o700)
    os.chown(directory, user.pw_uid, user.pw_gid)


def running(app: App) -> list[str]:
    """The units by which the application runs, or would be started."""
    told = run("systemctl", "list-units", "--plain", "--no-legend", "--state=active,activating,reloading,deactivating",
               f"{app.name}.*", f"{app.name}-*")  # fmt: skip
    units = [line.split()[0] for line in told.splitlines() if line.strip()]
    own = rf"{re.escape(app.name)}(-(?!metrics\b).+)?\.(service|socket|timer|target)"
    # In maintenance those that come are another's, who writes nothing.
    others = {app.responder, app.socket, *opening.units(app)} if behind.is_alone(app) else set()
    return sorted(unit for unit in units if re.fullmatch(own, unit) and unit not in others)


def refuse_running(app: App, *, stop: bool) -> list[str]:
    """The units that have to be stopped. Raises CtlError where there are some and they may not be."""
    units = running(app)
    if units and not stop:
        raise CtlError(
            f"{app.name} runs ({', '.join(units)}) and would write into what is restored. Nothing has changed. Say "
            "--stop, which stops it meanwhile: clients are refused then, or get the page of "
            f"{app.name}ctl maintenance on"
        )
    return units


def replace(app: App, fresh: Path, backup: Backup, *, stop: bool) -> Path:
    """Put the new directory in place while nothing of the application runs, and start again what did.

    Where it does not start with it, what was there before is back. Raises CtlError then, and where something runs that
    may not be stopped.
    """
    units = refuse_running(app, stop=stop)
    if units:
        talk.say(app, f"stopped for a restore: {', '.join(units)}", releases.current(app))
    try:
        halt(units)
        aside = put(app, fresh)
    except BaseException:
        begin(app, units)
        raise
    try:
        begin(app, units)
    except CtlError as failure:
        halt(running(app))
        if aside.exists():
            exchange(aside, app.state)
            tree.remove(aside)
        begin(app, units)
        raise CtlError(
            f"with what was restored {app.name} did not start, so what was before is back: {failure}"
        ) from None
    note(app, backup)
    return aside


def halt(units: Sequence[str]) -> None:
    """Stop units: first what starts others, for a client would start the service again."""
    services = [unit for unit in units if unit.endswith(".service")]
    for group in ([unit for unit in units if unit not in services], services):
        if group:
            bounded.change("stop", *group)


def begin(app: App, units: Sequence[str]) -> None:
    """Start what ran: the addresses, the service, and what starts processes and timers. Jobs are not begun again.

    Raises CtlError when the service does not start.
    """
    kinds = (".socket", ".service", ".target", ".timer")
    for unit in sorted(units, key=lambda unit: [unit.endswith(kind) for kind in kinds], reverse=True):
        if unit == app.service:
            took = instance.start(app.service)
            talk.say(app, f"{app.service} started in {took}", releases.current(app))
        elif not unit.endswith(".service") or unit == app.responder:
            run("systemctl", "start", "--", unit, check=False, timeout=bounded.LONGEST)


def put(app: App, fresh: Path) -> Path:
    """Have the new directory in the place of the old one, which stays beside it."""
    aside = app.state.with_name(f"{app.name}.before-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}")
    if app.state.is_dir():
        exchange(fresh, app.state)
        fresh.rename(aside)
    else:
        fresh.rename(app.state)
    disk.sync_directory(app.state.parent)
    return aside


def note(app: App, backup: Backup) -> None:
    """Have the backup's record of release commands: which migrations the state has had. That of before stays beside."""
    record = backup.records.get("record/released.jsonl", b"").decode(errors="replace")
    if app.released.exists():
        former = app.released.with_name("released.jsonl.before")
        former.unlink(missing_ok=True)
        os.link(app.released, former)
    if record or app.released.exists():
        disk.durable(app.released, record, mode=0o600)


def exchange(one: Path, other: Path) -> None:
    """Have two names exchange their directories at once."""
    at = ctypes.c_int(-100)  # AT_FDCWD: both paths are whole
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(at, os.fsencode(one), at, os.fsencode(other), ctypes.c_uint(EXCHANGE)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))


def report(app: App, backup: Backup, path: Path, aside: Path) -> None:
    """Say what has become of it, and what there is to do."""
    meta, release = backup.meta, releases.current(app)
    talk.say(app, f"{app.state} is that of {path}, written at {meta['time']} on {meta['host']}", release)
    if aside.exists():
        talk.out(f"what was there before is in {aside}: remove it when all is well")
    if meta["release"] != release:
        talk.out(
            f"the backup is of release {short(meta['release']) or 'none'}, and {short(release) or 'none'} is active: "
            "if its release command has changed the state since, deploy that release, or run it again",
            error=True,
        )


def add_restore(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", help="what backup has written")
    command.add_argument("--stop", action="store_true", help="stop the application meanwhile, if it runs")
    add_lock_wait(command)
