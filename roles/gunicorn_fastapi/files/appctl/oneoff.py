"""A command of the operator's in a release: as the application, in its sandbox, with its environment and secrets.

Its unit is the release's own, with another script. The words of the command are in a credential, which only root and
the command's own unit can read.
"""

import argparse
import contextlib
import os
import pwd
import re
import secrets
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from appctl import ending, lock, relay, runs, talk
from appctl.app import RUN, App
from appctl.asking import seconds
from appctl.background import usable
from appctl.bounded import change
from appctl.instance import place, start, unit_text
from appctl.process import CtlError
from appctl.relay import Relay, Way
from appctl.releases import short

DAY = 86400.0
KEPT = 65536
"""Bytes of the output that an answer in JSON has, the last ones."""

SHELL = "/bin/bash"

STDIN, STDOUT, STDERR = 0, 1, 2


class Ends(NamedTuple):
    """How a unit is connected with whoever asks."""

    lines: str
    """What its unit has to say for that."""
    relay: Relay
    keepers: list[int]
    """What has to stay open until the program has its own ends."""


def command_run(app: App, arguments: argparse.Namespace) -> dict[str, object]:
    """Run a command in a release, as the application: its sandbox, environment, secrets and limits."""
    words = arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words
    if not words:
        raise CtlError(f"no command is given. Write it behind --, as in: {app.name}ctl run -- python -V")
    return carry_out(app, words, arguments)


def command_shell(app: App, arguments: argparse.Namespace) -> dict[str, object]:
    """Open a shell in a release, as the application."""
    arguments.detach = False
    return carry_out(app, [SHELL if os.access(SHELL, os.X_OK) else "/bin/sh"], arguments)


def carry_out(app: App, words: list[str], arguments: argparse.Namespace) -> dict[str, object]:
    """Run it, and wait for its end unless it is to be detached."""
    if not 0 < arguments.timeout < 1e9:
        raise CtlError(f"--timeout {arguments.timeout:g}: give a number of seconds above 0")
    run = secrets.token_hex(4)
    unit = runs.unit_of(app, run)
    terminal = not (arguments.detach or talk.quiet) and os.isatty(STDIN) and os.isatty(STDOUT)
    with contextlib.ExitStack() as stack:
        wake = stack.enter_context(relay.announced(*([signal.SIGWINCH] if terminal else [])))
        stack.enter_context(begun(app, run))
        with lock.runs(app):
            runs.sweep(app)
            release = usable(app, arguments.release)  # not pruned from now on: the unit's file names it
            text = text_of(app, release)
            private = runs.directory(app, run)
            private.mkdir(mode=0o700)
            if arguments.detach:
                ends = None
                (private / "detached").touch()
                ran = f"/usr/local/sbin/{app.name}ctl ran {run}"
                more = f"CollectMode=inactive-or-failed\n[Service]\nExecStopPost=-+{ran}\n"
            else:
                stack.callback(os.close, runs.claim(app, run))
                ends = on_a_terminal(app) if terminal else by_pipes(private)
                more = f"[Service]\nRemainAfterExit=yes\n{ends.lines}"
            (private / "script").write_text(script(words, terminal))
            runs.note(app, run, words[0])
            named = re.sub(r"[^\w./ @:+-]", "?", f"run of {words[0][:60]} by {lock.by()[:60]}", flags=re.ASCII)
            place(
                app,
                unit,
                f"{text}\n[Unit]\nDescription={app.name}: {named}, release {short(release)}\n{more}"
                f"LoadCredential=gunicorn_fastapi.script:{private}/script\nRuntimeMaxSec={arguments.timeout:g}\n",
                {},
            )
            talk.tell(app, f"{named} begins in {short(release)} ({unit})", release)
            start(unit)
        if ends is None:
            talk.out(f"{unit} runs in the background (journalctl -fu {unit}; to end it: systemctl stop {unit})")
            return {"changed": True, "release": release, "unit": unit}
        for keeper in ends.keepers:
            os.close(keeper)
        if terminal:
            stack.enter_context(relay.raw(STDIN))
        ends.relay.until_ended(unit, wake)
        ended = ending.awaited(unit)
        change("stop", unit, check=False)  # what it has left running goes
        ends.relay.to_the_end()
        with lock.runs(app):
            for found in runs.there(app):
                if found.id == run:
                    runs.collect(app, found, ended)
    return answer(app, release, words[0], ended, ends)


def script(words: list[str], terminal: bool) -> str:
    """The command for a shell.

    It takes its terminal itself. As the controlling terminal of its service it would be lost: with PrivatePIDs=, the
    leader of the session is a process of systemd's, which ends some time after it has started ours.
    """
    return f"exec {'setsid --ctty ' if terminal else ''}{shlex.join(words)}\n"


def text_of(app: App, release: str) -> str:
    """The unit of a release for what is run in it. Raises CtlError for one of a version that had none."""
    try:
        return unit_text(app, release, app.instance_service(RUN))
    except FileNotFoundError:
        raise CtlError(
            f"release {short(release)} was built by a version of the role that could not run commands. Deploy it again"
        ) from None


@contextlib.contextmanager
def begun(app: App, run: str) -> Iterator[None]:
    """Collect the run when the block fails."""
    try:
        yield
    except BaseException:
        with lock.runs(app):
            for found in runs.there(app):
                if found.id == run:
                    runs.collect(app, found, ending.of(found.unit))
        raise


def on_a_terminal(app: App) -> Ends:
    """A terminal of the program's own, of the size of the operator's. It is nobody's controlling terminal yet."""
    ours, theirs = os.openpty()
    os.fchown(theirs, pwd.getpwnam(app.name).pw_uid, -1)  # it may open it by its name
    os.set_blocking(ours, False)
    relay.copy_size(STDIN, ours)
    kind = os.environ.get("TERM", "")
    kind = kind if re.fullmatch("[A-Za-z0-9._+-]{1,64}", kind) else "dumb"
    lines = "".join(f"Standard{name}=file:{os.ttyname(theirs)}\n" for name in ("Input", "Output", "Error"))
    lines += f"Environment=TERM={kind}\n"
    return Ends(lines, Relay([Way(STDIN, ours)], [Way(ours, STDOUT)]), [theirs])


def by_pipes(private: Path) -> Ends:
    """Pipes: output and errors apart, or in JSON both together, and then without input."""
    out, keeper = relay.fifo(private / "out", writes=False)
    if talk.quiet:
        lines = f"StandardOutput=file:{private}/out\nStandardError=file:{private}/out\n"
        return Ends(lines, Relay([], [Way(out, kept=KEPT)]), [keeper])
    into, second = relay.fifo(private / "in", writes=True)
    errors, third = relay.fifo(private / "err", writes=False)
    files = (("Input", "in"), ("Output", "out"), ("Error", "err"))
    lines = "".join(f"Standard{name}=file:{private}/{file}\n" for name, file in files)
    ways = [Way(out, STDOUT), Way(errors, STDERR)]
    return Ends(lines, Relay([Way(STDIN, into)], ways), [keeper, second, third])


def answer(app: App, release: str, program: str, ended: ending.Ending, ends: Ends) -> dict[str, object]:
    """What is told of a run that is over."""
    if not talk.quiet:
        if ended.status == ending.TIMED_OUT and ended.words != "exit status 124":
            talk.out(f"{app.name}ctl: {program} {ended.words}", error=True)
        return {"exit_status": ended.status}
    way = ends.relay.out[0]
    lines = way.held.decode(errors="replace").removesuffix("\n").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "")
    failed = {"failed": True, "reason": f"{program}: {ended.words}. {last}".strip()}
    return {
        "changed": True,
        "release": release,
        "program": program,
        "exit_status": ended.status,
        "output": lines,
        "cut": way.cut,
        **(failed if ended.status else {}),
    }


def add_run(command: argparse.ArgumentParser) -> None:
    add_shell(command)
    command.add_argument("--detach", action="store_true", help="do not wait; its output goes to the journal")
    command.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the command and its arguments")


def add_shell(command: argparse.ArgumentParser) -> None:
    command.add_argument("--release", default="current", help="its id, the beginning of it, or current or previous")
    command.add_argument(
        "--timeout", type=seconds, default=DAY, metavar="SECONDS", help="how long it may take, a day if not given"
    )
