"""What the watch does: judge the active release, and hand it back once when it answers worse than the one before."""

import argparse
import json
import time

from appctl import background, followed, history, judge, lock, released, releases, systemd, talk, watching
from appctl.app import MAIN, App
from appctl.disk import durable
from appctl.process import CtlError
from appctl.releases import short

RESTARTS = 3
"""Restarts by systemd since the switch that nobody wants any more of."""


def command_watch(app: App, arguments: argparse.Namespace) -> None:
    """Judge the active release, and hand it back when it answers worse. A deploy starts this as a unit of its own."""
    release = arguments.release
    noted = watching.noted(app)
    judging, baseline = watching.wanted(noted)
    before = str(noted.get("before", ""))
    new = followed.Followed(app, MAIN, release)
    found = followed.follow(new, lambda: baseline, judging.bounds, judging.watch, lambda: restarted(app))
    if releases.current(app) != release:
        return
    seen = new.seen()
    table = "\n".join(followed.sides(seen, baseline, (release, before)))
    if not found:
        result = (
            f"is no worse than {short(before)} was"
            if judge.is_judged(seen, baseline, judging.bounds)
            else f"was not judged: {judging.bounds.requests} requests of each are needed"
        )
        talk.say(app, f"release {short(release)}: watched for {judging.watch:g} s, and {result}\n{table}", release)
        return
    failed = "\n".join(followed.failures(app, app.service, new.since))
    shown = f"{table}\n  the first failing requests:\n{failed}" if failed else table
    why = "; ".join(found)
    if (ran := released.told(app, before)) and not judging.despite:
        told = f"release {short(release)}: answers worse than {short(before)} did, and is not handed back"
        talk.say(app, f"{told}: {ran}. It is worse: {why}\n{shown}", release, error=True)
        return
    talk.say(app, f"release {short(release)}: is handed back to {short(before)}: {why}\n{shown}", release, error=True)
    hand_back(app, release, before, why)


def restarted(app: App) -> str:
    """Whether the service ends by itself again and again, in words. What its main process loses nobody counts."""
    times = systemd.number(systemd.show(app.service, "NRestarts")["NRestarts"])
    return f"{app.service} has ended {times} times by itself" if times >= RESTARTS else ""


def hand_back(app: App, release: str, before: str, why: str) -> None:
    """Put the release of before into service again, unless another change was made meanwhile."""
    # It served a moment ago, and its candidate proves itself before anything changes.
    durable(app.proof, json.dumps({"release": before, "at": time.time()}))
    options = [f"--instead-of={release}", f"--why={history.HANDED_BACK}: {why}"]
    try:
        background.in_the_background(app, background.usable(app, before), options, lock.WAIT)
    except CtlError as failure:
        talk.say(app, f"release {short(release)}: could not be handed back: {failure}", release, error=True)
        raise
    if systemd.active(app.service) and releases.current(app) == before:
        talk.say(app, f"release {short(before)} serves again", before)


def add_watch(command: argparse.ArgumentParser) -> None:
    command.add_argument("release")
