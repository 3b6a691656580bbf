"""systemd's question at each start and reload: does this instance work?"""

import argparse
import contextlib
import os
import time
from pathlib import Path

from appctl import bounded, checking, complete, probe, reason, releases, stop, systemd, talk
from appctl.app import INSTANCES, App
from appctl.asking import seconds
from appctl.process import CtlError


def command_probe(app: App, arguments: argparse.Namespace) -> None:
    """Wait until an instance is healthy. systemd asks this at each start and reload."""
    pid = systemd.number(os.environ.get("MAINPID", ""))
    begin, since = time.monotonic(), time.time() if arguments.reload else 0
    try:
        if arguments.reload:
            probe.recycle(pid, arguments.timeout)
        else:
            note(app, arguments.instance)
        address, host = app.address(arguments.instance), arguments.host
        asked = time.monotonic()
        talk.out(probe.probe(address, arguments.path, arguments.timeout, pid, kill=not arguments.reload, host=host))
        left = arguments.timeout - (time.monotonic() - asked)
        if arguments.refuse_fallback:
            checking.refuse_fallback(address, arguments.path, host, left)
        if arguments.checks:
            checking.verify(address, checking.read(arguments.checks, host), left, pid)
    except CtlError as failure:
        told = ""
        with contextlib.suppress(Exception):  # what is told decides nothing
            told = reason.reason_in(reason.last_words(f"_SYSTEMD_INVOCATION_ID={os.environ['INVOCATION_ID']}", since))
        if not arguments.reload:
            stop_failed(app.instance_service(arguments.instance), begin)
        about = failure.details if isinstance(failure, probe.UnhealthyError) else ""
        text = f"{failure}. {told} {about}".strip() if told else f"{failure} {about}".strip()
        raise CtlError(f"{missing(app)}{text}") from None


def missing(app: App) -> str:
    """What a release lacks that fails to start, which its own words hardly tell. Empty when it is complete."""
    release = os.environ.get("GUNICORN_FASTAPI_RELEASE", "")
    why = ""
    with contextlib.suppress(Exception):  # what is told decides nothing
        why = complete.why_not(app, release) if releases.ID.fullmatch(release) else ""
    return f"release {releases.short(release)} is incomplete: {why}. Deploy it again. " if why else ""


def stop_failed(unit: str, begin: float) -> None:
    """End what failed to start: systemd would wait for it for as long as it asks for (EXTEND_TIMEOUT_USEC=)."""
    with contextlib.suppress(CtlError, OSError):  # then systemd does it
        times = systemd.show(unit, "TimeoutStartUSec", "TimeoutStopUSec")
        left = bounded.seconds(times["TimeoutStartUSec"]) - (time.monotonic() - begin) - bounded.MARGIN
        if not stop.end(unit, max(1.0, min(left, bounded.seconds(times["TimeoutStopUSec"])))):
            stop.kill(unit)


def note(app: App, instance: str) -> None:
    """Note which release systemd has just started, as the unit says it."""
    release = os.environ.get("GUNICORN_FASTAPI_RELEASE", "")
    if releases.ID.fullmatch(release):
        with contextlib.suppress(OSError):  # a full /run costs the note, not the start
            releases.note_started(app, app.instance_service(instance), release, os.environ["INVOCATION_ID"])


def add_probe(command: argparse.ArgumentParser) -> None:
    command.add_argument("instance", choices=INSTANCES)
    command.add_argument("path")
    command.add_argument("--host", default="localhost", help="what the request names, with https:// as if through TLS")
    command.add_argument("--timeout", type=seconds, default=60, metavar="SECONDS")
    command.add_argument("--checks", type=Path, metavar="FILE", help="what it has to answer beside, as JSON")
    command.add_argument("--refuse-fallback", action="store_true", help="fail when any path is answered like this one")
    command.add_argument("--reload", action="store_true", help="have the workers replaced before")
