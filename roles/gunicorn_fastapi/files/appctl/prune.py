"""Old releases, and what no release refers to, go from the disk."""

import argparse

from appctl import build, complete, lock, processes, pythons, releases, runs, scheduling, talk, timers, tree
from appctl.app import INSTANCES, App
from appctl.asking import add_lock_wait
from appctl.releases import short

LEAST = 2
"""The current release and the one to roll back to."""

KEEP = 5
"""Releases that are kept where nobody says how many, as by the role."""


def command_prune(app: App, arguments: argparse.Namespace) -> dict[str, object]:
    """Remove old releases, never the active one nor the previous one."""
    with lock.lock(app, "the removal of old releases", arguments.lock_wait), lock.runs(app):
        runs.sweep(app)
        scheduling.clear(app)
        removed = superfluous(app, arguments.keep)
        for release in removed:
            tree.remove(app.release(release))
            talk.out(f"removed release {short(release)}")
        build.clear(app)
        pythons.prune(app)
    return {"changed": bool(removed), "removed": removed}


def superfluous(app: App, keep: int) -> list[str]:
    """The releases that go when `keep` stay: first what is of no use, then what never served, then the oldest."""
    needed = {releases.current(app), releases.previous(app), *running(app)}
    served = releases.served(app)
    there = [name for name in releases.names(app) if name not in needed]
    useless = [name for name in there if complete.why_not(app, name)]
    useful = sorted((name for name in there if name not in useless), key=lambda name: name not in served)
    room = max(keep, LEAST) - sum(name in needed for name in releases.names(app))
    return [*useless, *useful[max(0, room) :]]


def running(app: App) -> set[str]:
    """The releases that run just now, whatever the units say, also as a process or where an operator runs something."""
    served = {releases.running(app, app.instance_service(kind)) for kind in INSTANCES}
    return served | {run.release for run in runs.there(app)} | processes.used(app) | timers.used(app)


def add_prune(command: argparse.ArgumentParser) -> None:
    command.add_argument("--keep", type=int, default=KEEP, metavar="N", help=f"releases to keep, at least {LEAST}")
    add_lock_wait(command)
