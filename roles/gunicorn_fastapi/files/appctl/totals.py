"""The counts of a host: what its instances count now, and what those had that have ended.

Each start of an instance gets a table of its own, a file that root makes. It stays when the instance has ended, however
that was, and is counted on. Only the next start of the same instance, whose processes are gone then, adds it to the
record of root's own, and removes it. So nothing is lost when anything is killed, and nothing is counted twice: the
record has the names of the tables that it contains. All of it is gone at a reboot, at once.
"""

import argparse
import contextlib
import fcntl
import grp
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from appctl import lock, processes, releases, shares, systemd, table
from appctl.app import CANDIDATE, MAIN, App
from appctl.disk import durable, read_bounded
from appctl.process import CtlError, run

NAME = re.compile(rf"({MAIN}|{CANDIDATE})-([0-9a-f]{{32}})-([0-9a-f]{{1,64}})")
"""A table: which instance, which start of it, which release. The application cannot make one."""

KEPT = 10
"""Releases whose counts are kept beside those that run."""

ROOM = "4m"
"""What all tables of an application may take: two, and what it may make of them."""

RECORD_MAX = 1024 * 1024
TRIES = 50


class Record(NamedTuple):
    """What was counted by those who have ended, by release. Root's own."""

    contained: list[str]
    """Names of tables that are in it."""
    starts: dict[str, int]
    """How often each instance was started."""
    replaced: dict[str, float]
    """Workers that were replaced, by release."""
    totals: dict[str, table.Totals]
    restarts: dict[str, int]
    """How often systemd has started a process again, by its name."""


class Running(NamedTuple):
    """A table that is not in the record."""

    instance: str
    release: str
    counted: table.Table


class Counted(NamedTuple):
    """All of it, at one moment."""

    record: Record
    running: list[Running]

    def by_release(self) -> dict[str, table.Totals]:
        """What was counted since boot."""
        found = dict(self.record.totals)
        for one in self.running:
            found[one.release] = table.added([found.get(one.release, [0.0] * table.TOTALS), one.counted.totals])
        return found

    def replaced(self) -> dict[str, float]:
        """Workers that were replaced since boot, by release."""
        found = dict(self.record.replaced)
        for one in self.running:
            found[one.release] = found.get(one.release, 0.0) + one.counted.replaced
        return found


def command_begin(app: App, arguments: argparse.Namespace) -> None:
    """Make the table of an instance that starts. systemd asks this before each start."""
    release = os.environ.get("GUNICORN_FASTAPI_RELEASE", "")
    name = "-".join((arguments.instance, os.environ.get("INVOCATION_ID", ""), release))
    if NAME.fullmatch(name) and releases.ID.fullmatch(release):
        with alone(app):
            mount(app)
            group = grp.getgrnam(app.name).gr_gid
            begin(app, name, group)
            shares.make(app.shares, group)


def command_begun(app: App, arguments: argparse.Namespace) -> None:
    """Count it when systemd starts a process again by itself. Its unit asks this before each start."""
    unit = processes.parse(app, arguments.unit)
    if unit and systemd.number(systemd.show(arguments.unit, "NRestarts")["NRestarts"]):
        with alone(app):
            record = record_of(app)
            restarts = record.restarts | {unit.process: record.restarts.get(unit.process, 0) + 1}
            durable(app.totals, json.dumps(record._replace(restarts=restarts)._asdict()))


@contextlib.contextmanager
def alone(app: App) -> Iterator[None]:
    """Let no other instance of the application begin meanwhile. Raises CtlError when that takes too long."""
    lock.private(app)
    descriptor = os.open(app.private / "totals", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        for _ in range(TRIES):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.1)
        else:
            raise CtlError(f"{app.name}: another start holds {app.totals}, so this one counts for itself")
        yield
    finally:
        os.close(descriptor)


def mount(app: App) -> None:
    """Have a place for tables that cannot grow beyond it: /run is all programs' of the host."""
    app.tables.mkdir(mode=0o755, exist_ok=True)
    if not app.tables.is_mount():
        # By systemd: what a service mounts by itself, even as root, is seen by nobody else.
        options = f"size={ROOM},nr_inodes=32,mode=0755,nosuid,nodev,noexec"
        run("systemd-mount", "--quiet", "--type=tmpfs", f"--options={options}", "tmpfs", str(app.tables))


def unmount(app: App) -> None:
    """Give the place up; whoever still has a table of it keeps that."""
    if app.tables.is_mount():
        run("umount", "--lazy", str(app.tables))


def begin(app: App, name: str, group: int) -> None:
    """Add what the last starts of an instance have counted to the record, and make the table of this start."""
    instance, there = name.partition("-")[0], tables(app)
    ended = [path for path in there if path.name.partition("-")[0] == instance and path.name != name]
    former = record_of(app)
    record = with_added(former, ended)
    contained = [path.name for path in there if path in ended or path.name in former.contained]
    starts = former.starts | {instance: former.starts.get(instance, 0) + 1}
    durable(app.totals, json.dumps(record._replace(contained=contained, starts=starts)._asdict()))
    for path in ended:
        path.unlink()
    descriptor = os.open(app.tables / name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, table.SIZE)
        # Root's file: the application cannot hide it, nor give it away.
        os.fchown(descriptor, -1, group)
        os.fchmod(descriptor, 0o664)
    finally:
        os.close(descriptor)


def with_added(record: Record, ended: list[Path]) -> Record:
    """The record with the tables of who has ended, unless it contains them."""
    totals, replaced = dict(record.totals), dict(record.replaced)
    for path in ended:
        counted = None if path.name in record.contained else read(path)
        if counted:
            release = path.name.rpartition("-")[2]
            former = totals.pop(release, [0.0] * table.TOTALS)
            totals[release] = table.added([former, counted.totals])
            replaced[release] = min(replaced.get(release, 0.0) + counted.replaced, table.LARGEST)
    totals = dict(list(totals.items())[-KEPT:])
    replaced = {release: number for release, number in replaced.items() if release in totals}
    return record._replace(replaced=replaced, totals=totals)


def record_of(app: App) -> Record:
    """The record. Empty after a reboot, and of another form of the tables."""
    try:
        found: dict[str, Any] = json.loads(read_bounded(app.totals, RECORD_MAX))
        record = Record(**{"restarts": {}, **found})  # older ones have none
    except (OSError, ValueError, TypeError):
        return Record([], {}, {}, {}, {})
    same = {release: totals for release, totals in record.totals.items() if len(totals) == table.TOTALS}
    return record._replace(totals=same)


def tables(app: App) -> list[Path]:
    """The tables that are there."""
    found = []
    with contextlib.suppress(OSError):
        found = [path for path in app.tables.iterdir() if NAME.fullmatch(path.name)]
    return sorted(found)


def read(path: Path) -> table.Table | None:
    """A table. None when it is gone, or none."""
    try:
        return table.parse(read_bounded(path, table.SIZE), time.monotonic())
    except OSError:
        return None


def look(app: App) -> Counted:
    """What is counted at this moment. One that is being added to the record meanwhile is not missed."""
    for _ in range(TRIES):
        record = record_of(app)
        running = []
        for path in tables(app):
            counted = None if path.name in record.contained else read(path)
            if counted:
                instance, _, release = path.name.split("-")
                running.append(Running(instance, release, counted))
        if record_of(app) == record:
            break
    return Counted(record, running)


def add_begun(command: argparse.ArgumentParser) -> None:
    command.add_argument("unit")


def add_begin(command: argparse.ArgumentParser) -> None:
    command.add_argument("instance", choices=(MAIN, CANDIDATE))
