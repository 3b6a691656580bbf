"""The commands by which clients get no answer of the application's for a while: maintenance and pause."""

import argparse
from pathlib import Path

from appctl import admitting, behind, maintenance, pause, releases, talk
from appctl.app import App
from appctl.asking import add_lock_wait
from appctl.background import in_the_background
from appctl.disk import read_bounded
from appctl.process import CtlError

RETRY_AFTER = 60
LONGEST = 7 * 86400

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Maintenance</title>
<body style="font-family: sans-serif; margin: 4em auto; max-width: 30em">
<h1>Down for maintenance</h1>
<p>We are back soon. Please try again in a few minutes.</p>
"""


def command_maintenance(app: App, arguments: argparse.Namespace) -> dict[str, object]:
    """Have clients get 503 and a page, while the application goes on behind it; on, off, or whether it is."""
    current = releases.resolve(app, "current")
    if arguments.turn is None:
        talk.out(f"maintenance is {behind.words(app) or 'off'}")
        return {"changed": False, "maintenance": behind.state(app)}
    if arguments.turn == "off":
        if not behind.state(app):
            talk.out("maintenance is off already")
            return {"changed": False}
    else:
        if arguments.allow:
            admitting.check(app, current)
            admitting.check_now(app)
        else:
            maintenance.responder_text(app)
        maintenance.ask(app, page(arguments.page), arguments.retry_after, arguments.allow)
    in_the_background(app, current, [f"--maintenance={arguments.turn}"], arguments.lock_wait)
    return {"changed": True}


def page(path: str) -> str:
    """The page in a file, or ours. Raises CtlError for what is none."""
    if not path:
        return PAGE
    try:
        return read_bounded(Path(path), behind.PAGE_MAX).decode()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CtlError(f"--page: {path}: {reason}. Give a text file in UTF-8 of at most 1 MiB") from None


def command_pause(app: App, arguments: argparse.Namespace) -> dict[str, object]:
    """Have clients wait in the queue while the application is stopped, for a time at most; it ends by itself."""
    current = releases.resolve(app, "current")
    if arguments.end:
        changed = pause.end(app)
        talk.out("the pause ends" if changed else "there is no pause")
        return {"changed": changed}
    if behind.is_alone(app):
        raise CtlError(f"maintenance is {behind.words(app)}, so nobody could wait. Turn it off first")
    pause.check(app)
    in_the_background(app, current, [f"--pause={arguments.max:g}"], arguments.lock_wait)
    return {"changed": True}


def whole_seconds(text: str) -> int:
    """What Retry-After takes. Raises ValueError for anything else."""
    value = int(text)
    if not 0 <= value <= LONGEST:
        raise ValueError(text)
    return value


def network(text: str) -> str:
    """Who is let in, as it is noted. Raises ArgumentTypeError for what is neither an address nor a network."""
    try:
        return admitting.network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}. Give an address or a network, as 192.0.2.0/24") from None


def pause_seconds(text: str) -> float:
    """The time of a pause. Raises ValueError for what is none, or too long."""
    value = float(text)
    if not 0 < value <= pause.LONGEST:
        raise ValueError(text)
    return value


def add_maintenance(command: argparse.ArgumentParser) -> None:
    command.add_argument("turn", nargs="?", choices=("on", "off"), help="without it: whether it is on")
    command.add_argument("--page", default="", metavar="FILE", help="HTML or text, instead of the built-in page")
    command.add_argument(
        "--allow",
        type=network,
        nargs="+",
        action="extend",
        default=[],
        metavar="NETWORK",
        help="who reaches the application all the same, by address or network",
    )
    command.add_argument("--retry-after", type=whole_seconds, default=RETRY_AFTER, metavar="S", help="seconds (60)")
    add_lock_wait(command)


def add_pause(command: argparse.ArgumentParser) -> None:
    command.add_argument("--max", type=pause_seconds, default=30.0, metavar="S", help="seconds at most (30)")
    command.add_argument("--end", action="store_true", help="end a pause now")
    add_lock_wait(command)
