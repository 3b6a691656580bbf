"""The commands for timers, and what the unit of a job asks when it begins and ends."""

import argparse
import contextlib
import datetime
import grp
import json
import os
import time
from pathlib import Path
from typing import Any

from appctl import bounded, disk, ending, journal, lock, owed, reason, releases, scheduling, systemd, talk, timers
from appctl.app import App
from appctl.asking import add_lock_wait
from appctl.instance import WORDS
from appctl.process import CtlError
from appctl.releases import short
from appctl.timers import Job

LINES = 100
"""Lines of a job that failed which `on_failure` gets, the last ones."""


def command_timers(app: App, arguments: argparse.Namespace) -> dict[str, Any]:
    """Show the timers, run one's job now, suspend one, or have it run again."""
    if arguments.action == "list":
        found = timers.described(app)
        for line in [line[12:] for line in timers.words(found)] or [f"{app.name} has no timers"]:
            talk.out(line)
        return {"changed": False, "timers": found}
    if not arguments.timer:
        raise CtlError(f"timers {arguments.action}: name a timer, as in: {app.name}ctl timers {arguments.action} night")
    if arguments.action == "run":
        return run_now(app, arguments.timer)
    with lock.lock(app, f"timers {arguments.action} {arguments.timer}", arguments.lock_wait):
        return (suspend if arguments.action == "suspend" else resume)(app, arguments.timer)


def known(app: App, timer: str) -> Job:
    """The job of a timer. Raises CtlError without one."""
    now = timers.planned(app)
    if timer not in now:
        raise CtlError(f"{timer}: no such timer. Available: {', '.join(now) or 'none'}")
    return now[timer]


def suspend(app: App, timer: str) -> dict[str, Any]:
    """Have a timer run nothing until it is resumed."""
    known(app, timer)
    held = timers.suspended(app)
    if changed := timer not in held:
        since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        held[timer] = {"since": since, "by": lock.by()}
        disk.durable(app.suspended, json.dumps(held))
    scheduling.stop(app, [timer])
    told = f"{timer}: {scheduling.told(app, held[timer], timer)}"
    if running := [job.name(app) for job in timers.there(app) if job.timer == timer]:
        told += f". {running[0]} goes on; to end it: systemctl stop {running[0]}"
    if changed:
        talk.say(app, told, releases.current(app))
    else:
        talk.out(told)
    return {"changed": changed}


def resume(app: App, timer: str) -> dict[str, Any]:
    """Have a timer run again. One that was suspended and is no more can be, too, for the release that has it."""
    held = timers.suspended(app)
    if timer not in held:
        known(app, timer)
        talk.out(f"{timer} is not suspended")
        return {"changed": False}
    del held[timer]
    disk.durable(app.suspended, json.dumps(held))
    if timer in timers.planned(app):
        scheduling.start(app, [timer])
    talk.say(app, f"{timer}: runs again from now on", releases.current(app))
    return {"changed": True}


def run_now(app: App, timer: str) -> dict[str, Any]:
    """Run a timer's job now, and wait for its end."""
    job = known(app, timer)
    if running := [other.name(app) for other in timers.there(app) if other.timer == timer]:
        raise CtlError(f"{timer}: {running[0]} is under way, and there are never two. Wait for its end")
    since, unit = time.time(), job.name(app)
    talk.tell(app, f"{timer}: run by {lock.by()}", job.release)
    failure = ""
    try:
        bounded.change("start", unit)
    except CtlError as failed:
        failure = str(failed)
    last = timers.last(app, job)
    if last.get("status") is None:
        raise CtlError(failure or f"{timer}: {last.get('outcome')}. Look at it: systemctl status {unit}")
    for line in reason.last_words(f"_SYSTEMD_UNIT={unit}", since)[-WORDS:]:
        talk.out(f"    {line}")
    talk.out(f"{timer}: {timers.outcome(last)} (journalctl -u {unit})", error=bool(last["status"]))
    return {"changed": True, "timer": timer, "exit_status": last["status"], "seconds": last["seconds"]}


def command_timed(app: App, arguments: argparse.Namespace) -> None:
    """Note that a job begins or has ended. Its unit asks this."""
    job = Job(arguments.timer, short(arguments.release))
    if timers.parse(app, job.name(app)) != job:
        raise CtlError(f"{arguments.timer}: not the name of a timer")
    if arguments.turn == "begin":
        begin(app, job, arguments.release)
        return
    try:
        end(app, job, arguments.release)
    finally:
        owed.begin_again(app, job)


def begin(app: App, job: Job, release: str) -> None:
    """Note it, with what is known of those before."""
    before = timers.record(app, job.timer)
    cut = bool(before) and not before.get("ended")
    lines(app, job.timer).unlink(missing_ok=True)
    note(
        app,
        job.timer,
        {
            "begun": now(),
            "invocation": systemd.show(job.name(app), "InvocationID")["InvocationID"],
            "release": release,
            "succeeded": before.get("succeeded"),
            "failures": int(before.get("failures", 0)) + cut,
            "was": timers.ended(before),
        },
    )


def end(app: App, job: Job, release: str) -> None:
    """Note what came of it, and leave its last lines for what is to run when it fails."""
    unit = job.name(app)
    ended = ending.of(unit)
    clock = systemd.show(
        unit, "ExecMainStartTimestampMonotonic", "ExecMainExitTimestampMonotonic", "InvocationID", "Result"
    )
    if ended == ending.UNKNOWN:  # what has to be done before it has failed
        ended = ending.Ending(1, f"did not begin ({clock['Result']})")
    # Not by the clock of the host, which may be set meanwhile.
    took = (
        systemd.number(clock["ExecMainExitTimestampMonotonic"])
        - systemd.number(clock["ExecMainStartTimestampMonotonic"])
    ) / 1e6
    before = timers.record(app, job.timer)
    at, succeeded = now(), ended.status == 0
    made = {
        "begun": before.get("begun", at),
        "ended": at,
        "invocation": clock["InvocationID"],
        "release": release,
        "outcome": ended.words,
        "status": ended.status,
        "seconds": round(max(took, 0.0), 1),
        "succeeded": at if succeeded else before.get("succeeded"),
        "failures": 0 if succeeded else int(before.get("failures", 0)) + 1,
    }
    note(app, job.timer, made)
    if not succeeded:
        text = f"{job.timer}: {ended.words} after {made['seconds']} s in {job.release} (journalctl -u {unit})"
        talk.tell(app, text, release, error=True)
        leave(app, job.timer, clock["InvocationID"])


def leave(app: App, timer: str, invocation: str) -> None:
    """Have the application's user, and no other, read the last lines of the job."""
    path = lines(app, timer)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    journal.synchronize()
    said = reason.last_words(f"_SYSTEMD_INVOCATION_ID={invocation}")[-LINES:]
    disk.durable(path, "".join(f"{line}\n" for line in said), mode=0o600)
    os.chown(path, -1, grp.getgrnam(app.name).gr_gid)
    path.chmod(0o640)


def lines(app: App, timer: str) -> Path:
    """Where the last lines of a job that failed are."""
    return app.runtime / "timers" / timer


def note(app: App, timer: str, made: dict[str, Any]) -> None:
    """Replace the record of a timer, which all may read. That it cannot be written is told, and ends nothing."""
    path = app.timers / f"{timer}.json"
    try:
        with contextlib.suppress(FileExistsError):
            app.timers.mkdir(mode=0o755)
            app.timers.chmod(0o755)
        disk.durable(path, json.dumps(made))
    except OSError as error:
        talk.tell(app, f"{timer}: {path} could not be written: {error}", str(made["release"]), error=True)


def now() -> str:
    """The time, as records have it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def add_timers(command: argparse.ArgumentParser) -> None:
    command.add_argument("action", nargs="?", default="list", choices=("list", "run", "suspend", "resume"))
    command.add_argument("timer", nargs="?", default="", help="its name")
    add_lock_wait(command)


def add_timed(command: argparse.ArgumentParser) -> None:
    command.add_argument("turn", choices=("begin", "end"))
    command.add_argument("timer")
    command.add_argument("release")
