"""The commands that change which release is active, each in a unit of its own, so that nothing stops one half-way."""

import argparse
import json
import subprocess
import sys
import time
from typing import Any

from appctl import (
    complete,
    disk,
    followed,
    handover,
    lock,
    maintenance,
    pause,
    release_command,
    released,
    releases,
    systemd,
    talk,
    watching,
)
from appctl.app import IMPORT, App
from appctl.asking import add_lock_wait, seconds
from appctl.instance import loosened
from appctl.opening import Change
from appctl.process import ENVIRONMENT, CtlError
from appctl.releases import short
from appctl.text import visible
from appctl.wanted import add_addresses, wanted


def in_the_background(app: App, release: str, words: list[str], wait: float) -> None:
    """Run `execute` with these words as a unit of its own, which a lost connection does not end, and wait for it.

    The unit takes the application's lock, and there is one such unit; whoever comes second waits for `wait` seconds.
    Raises CtlError when that is not enough.
    """
    deadline = time.monotonic() + wait
    what = purpose(release, "--release-command" in words)
    while True:
        left = max(0.0, deadline - time.monotonic())
        with lock.lock(app, what, left, wait - left):
            pass  # nobody changes anything
        with lock.turn(app) as ours:
            if ours and systemd.show(app.handover, "ActiveState")["ActiveState"] in ("inactive", "failed", ""):
                execute_in_a_unit(app, release, what, words, max(0.0, deadline - time.monotonic()))
                return
        if time.monotonic() >= deadline:
            raise CtlError(
                f"{app.name}: another handover is starting, and {what} timed out after {wait:g} s. Try again"
            )
        time.sleep(lock.LOOK)  # another one of this moment has begun, and takes the lock


def purpose(release: str, is_command: bool) -> str:
    """What the unit is for, as those who wait are told."""
    return f"the {'release command of' if is_command else 'handover to'} {short(release)}"


def execute_in_a_unit(app: App, release: str, what: str, words: list[str], wait: float) -> None:
    """Have the unit do it, and wait for its end. Raises CtlError, or exits, with the failure of what it did."""
    who = lock.by()
    me = str(app.command)
    done = subprocess.run(
        [
            "systemd-run", "--quiet", "--collect", "--wait", "--pipe", f"--unit={app.handover}",
            f"--description={what} by {who}", f"--setenv=HANDOVER_BY={who}",
            f"--property=ExecStopPost={me} settle", "--property=TimeoutStopSec=infinity",
            me, "execute", release, f"--lock-wait={wait:g}", *(["--json"] if talk.quiet else []), *words,
        ],
        check=False,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if talk.quiet else None,
        stderr=subprocess.PIPE if talk.quiet else None,
        text=True,
        errors="replace",
    )  # fmt: skip
    if talk.quiet:
        answer = answered(done.stdout)
        talk.said += answer.get("said", [])
        if done.returncode:
            failure = answer.get("reason") or done.stderr.strip()
            raise CtlError(failure or f"{app.handover} exited with status {done.returncode}")
    elif done.returncode:
        sys.exit(done.returncode)


def answered(text: str) -> dict[str, Any]:
    """What the unit has answered, nothing when it had no time to."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def command_handover(app: App, arguments: argparse.Namespace) -> dict[str, object]:
    """Hand over to a release, if it is not active yet."""
    followed.asked(arguments.judging)
    if told := watching.handed_back(app) or watching.handed_back(app, releases.resolve(app, arguments.release)):
        talk.out(f"warning: {told}")
    return hand_over(
        app, arguments.release, arguments.lock_wait, arguments.again, arguments.addresses, arguments.judging
    )


def command_rollback(app: App, arguments: argparse.Namespace) -> dict[str, object]:
    """Roll back to the previous release, or to a named one."""
    told = released.told(app, releases.resolve(app, arguments.release))
    answer = hand_over(app, arguments.release, arguments.lock_wait)
    if told and answer["changed"]:
        talk.say(app, f"warning: {told}", str(answer["release"]))
    return answer


def command_restart(app: App, arguments: argparse.Namespace) -> dict[str, object]:
    """Restart the active release without downtime."""
    return hand_over(app, "current", arguments.lock_wait, again=True)


def hand_over(
    app: App, word: str, wait: float, again: bool = False, addresses: str = "", judging: str = ""
) -> dict[str, object]:
    """Hand over to a release and to other addresses, judged as asked, and tell whether that changed anything."""
    change = Change(app, wanted(addresses))
    release = usable(app, word)
    if not again and handover.is_settled(app, release) and not change.differs:
        talk.out(f"release {short(release)} is active already")
        if loosened(app):
            talk.out(loosened(app))
        return {"changed": False, "release": release}
    options = ["--again"] if again else []
    options += [f"--{name}={text}" for name, text in (("addresses", addresses), ("judging", judging)) if text]
    in_the_background(app, release, options, wait)
    return {"changed": True, "release": release}


def usable(app: App, word: str) -> str:
    """The release that a word means. Raises CtlError when it is not complete."""
    release = releases.resolve(app, word)
    if why := complete.why_not(app, release):
        raise CtlError(f"release {short(release)} is incomplete, and nothing has changed: {why}. Deploy it again")
    return release


def command_preflight(app: App, arguments: argparse.Namespace) -> dict[str, object]:
    """Verify a release where no client can reach it."""
    release = usable(app, arguments.release)
    if handover.is_settled(app, release):
        return {"changed": False, "release": release}
    option = "--import-only" if arguments.import_only else "--preflight-only"
    in_the_background(app, release, [option], arguments.lock_wait)
    return {"changed": True, "release": release}


def command_release_command(app: App, arguments: argparse.Namespace) -> dict[str, object]:
    """Run the release command of a release in its sandbox, unless it has run."""
    release = usable(app, arguments.release)
    command = released.command_of(app, release)
    if not command:
        raise CtlError(f"release {short(release)} has no release command (gunicorn_fastapi_release_command)")
    ran = released.done(app).get(command)
    if ran and not arguments.again:
        talk.out(release_command.ran(release, ran))
    elif arguments.ran_on:
        with lock.lock(app, purpose(release, True), arguments.lock_wait):
            released.note(app, release, released.DONE, where=visible(arguments.ran_on, 255, one_line=True))
    else:
        options = ["--release-command", *(["--again"] if arguments.again else [])]
        in_the_background(app, release, options, arguments.lock_wait)
    return {"changed": arguments.again or not ran, "release": release, "ran": command in released.done(app)}


def command_execute(app: App, arguments: argparse.Namespace) -> None:
    """The inside of a handover: runs in a unit of its own."""
    release = arguments.release
    with lock.lock(app, purpose(release, arguments.release_command), arguments.lock_wait):
        try:
            release_command.settle(app)
            handover.settle(app)
        except (CtlError, OSError) as failure:
            # The release that comes now is the way out.
            talk.say(app, f"{app.service} does not start: {failure}", releases.current(app), error=True)
        try:
            usable(app, release)  # whoever had the lock may have removed it
            take_turn(app, release, arguments)
        except (CtlError, OSError) as failure:
            told = disk.told(failure) if isinstance(failure, OSError) else str(failure)
            if talk.quiet:
                talk.tell(app, told, release, error=True)
                raise CtlError(told) from None
            talk.say(app, told, release, error=True)
            sys.exit(1)


def take_turn(app: App, release: str, arguments: argparse.Namespace) -> None:
    """What there is to do now that nobody else changes the application."""
    if arguments.maintenance:
        (maintenance.on if arguments.maintenance == "on" else maintenance.off)(app)
        return
    if arguments.pause:
        pause.pause(app, arguments.pause)
        return
    change = Change(app, wanted(arguments.addresses))
    if arguments.release_command:
        release_command.run(app, release, arguments.again)
    elif arguments.import_only:
        handover.preflight(app, release, IMPORT)
    elif not (arguments.again or change.moves) and handover.is_settled(app, release):
        if change.differs:
            change.write()
            talk.say(app, "the addresses have their new settings, and none was closed for it", release)
        else:
            talk.say(app, f"release {short(release)} was activated when the interrupted deploy was completed", release)
    elif arguments.preflight_only:
        handover.preflight(app, release)
    elif why := released.missing(app, release):
        raise CtlError(why)
    elif arguments.instead_of and releases.current(app) != arguments.instead_of:
        talk.say(app, f"release {short(arguments.instead_of)} is not active any more, and is not handed back", release)
    else:
        if not arguments.instead_of:
            watching.end(app, f"the handover to {short(release)} begins")
        judging = followed.asked(arguments.judging)
        handover.execute(app, release, wanted(arguments.addresses), judging, arguments.why)


def command_settled(app: App, arguments: argparse.Namespace) -> dict[str, object]:
    """The release to which a handover would have nothing to do and nothing to tell."""
    current = releases.current(app)
    whole = [release for release in releases.names(app) if not complete.why_not(app, release)]
    changes = Change(app, wanted(arguments.addresses)).differs or loosened(app)
    settled = current if current in whole and handover.is_settled(app, current) and not changes else ""
    if settled:
        talk.out(settled)
    return {
        "release": settled,
        "current": current,
        "complete": whole,
        "released": sorted(released.done(app)),
        "busy": lock.holder(app),
        "handed_back": watching.handed_back(app),
    }


def command_settle(app: App, _: argparse.Namespace) -> None:
    """Clean up after an interrupted handover."""
    with lock.lock(app, "the cleanup after a handover"):
        release_command.settle(app)
        handover.settle(app)


def add_handover(command: argparse.ArgumentParser) -> None:
    command.add_argument("release", help="its id, a prefix of it, or current or previous")
    command.add_argument("--again", action="store_true", help="even if it is active already")
    add_addresses(command)
    add_judging(command)
    add_lock_wait(command)


def add_judging(command: argparse.ArgumentParser) -> None:
    command.add_argument("--judging", default="", metavar="JSON", help="how it is compared with the release in service")


def add_rollback(command: argparse.ArgumentParser) -> None:
    command.add_argument("release", nargs="?", default="previous")
    add_lock_wait(command)


def add_preflight(command: argparse.ArgumentParser) -> None:
    command.add_argument("release")
    command.add_argument("--import-only", action="store_true", help="load the application, and do not start it up")
    add_lock_wait(command)


def add_release_command(command: argparse.ArgumentParser) -> None:
    command.add_argument("release")
    command.add_argument("--again", action="store_true", help="even if it has run")
    command.add_argument(
        "--ran-on", default="", metavar="HOST", help="note that it has run there, and do not run it here"
    )
    add_lock_wait(command)


def add_execute(command: argparse.ArgumentParser) -> None:
    command.add_argument("release")
    command.add_argument("--again", action="store_true")
    command.add_argument("--preflight-only", action="store_true")
    command.add_argument("--import-only", action="store_true")
    command.add_argument("--release-command", action="store_true")
    command.add_argument("--maintenance", choices=("on", "off"))
    command.add_argument("--pause", type=seconds)
    command.add_argument("--instead-of", default="", metavar="RELEASE")
    command.add_argument("--why", default="")
    add_addresses(command)
    add_judging(command)
    add_lock_wait(command)
