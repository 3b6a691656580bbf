"""Another number of instances of a process, until the next deploy."""

import argparse
import json
import re

from appctl import disk, lock, processes, releases, talk
from appctl.app import App
from appctl.asking import add_lock_wait
from appctl.generations import start, tell
from appctl.process import CtlError
from appctl.processes import Unit, count, there, want, wanted
from appctl.releases import short

MOST = 1000
"""Instances of a process that an operator may ask for."""


def command_scale(app: App, arguments: argparse.Namespace) -> dict[str, object]:
    """Run another number of instances of a process, until the next deploy."""
    match = re.fullmatch(r"([a-z][a-z0-9_]*)=(0|[1-9][0-9]{0,3})", arguments.words)
    if not match or int(match[2]) > MOST:
        raise CtlError(f"scale {arguments.words}: give a process and a number up to {MOST}, as in worker=3")
    process, number = match[1], int(match[2])
    with lock.lock(app, f"the change to {arguments.words}", arguments.lock_wait):
        release = releases.resolve(app, "current")
        known = processes.of(app, release)
        if process not in known:
            there_are = ", ".join(known) or "none"
            raise CtlError(f"scale {process}: release {short(release)} has no such process. It has: {there_are}")
        before = wanted(app)
        own = sorted(unit for unit in before if unit.process == process)
        if len(own) == number:
            talk.out(f"{process}: {number} run already")
            return {"changed": False}
        scaled = {name: count(app, release, name) for name in known} | {process: number}
        last = max((unit.generation for unit in (*before, *there(app))), default=1)
        numbers = {unit.number for unit in own}
        free = (each for each in range(1, 2 * MOST) if each not in numbers)
        more = [Unit(process, short(release), last, next(free)) for _ in range(number - len(own))]
        gone = own[number:]
        if more and not (app.system / more[0].template(app)).exists():
            raise CtlError(f"{process}: its unit is missing. Deploy again")
        try:
            start(app, release, more)
        except CtlError:
            tell(app, more)
            raise
        disk.durable(app.scale, json.dumps({"release": release, "processes": scaled}))
        want(app, [unit for unit in [*before, *more] if unit not in gone])
        tell(app, gone)
        talk.say(app, f"{process}: {number} of {short(release)} run, until the next deploy", release)
    return {"changed": True}


def add_scale(command: argparse.ArgumentParser) -> None:
    command.add_argument("words", metavar="PROCESS=NUMBER")
    add_lock_wait(command)
