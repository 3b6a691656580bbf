"""The application's log records, of all its units: the latest ones, or as they come."""

import argparse
import contextlib
import datetime
import json
import os
import re
import select
import sys
from collections.abc import Iterator
from typing import Any

from appctl import journal, process, talk
from appctl.app import CANDIDATE, App
from appctl.journal import Record
from appctl.process import CtlError, run
from appctl.text import visible

FIELDS = {**journal.FIELDS, "_SYSTEMD_UNIT": 256, "RELEASE": 80, "REQUEST_ID": 128}

LINES = 1000
LATEST = 20
"""Records that are shown, and that are shown before those that follow."""

MOST_LINES = 100_000

WEB = "web"
"""The process that serves; its candidate serves beside it."""

SINCE = re.compile(r"[A-Za-z0-9 :@.,+/-]{1,64}", re.ASCII)
REQUEST = re.compile(r"[A-Za-z0-9._:+/=@-]{1,128}", re.ASCII)
PROCESS = re.compile(r"[a-z][a-z0-9_-]{0,40}", re.ASCII)
GREP = 512
"""Characters that a pattern may have."""


def command_logs(app: App, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Show the latest log records of all the application's processes, or follow them."""
    asked = matches(app, arguments)
    if arguments.follow:
        follow(asked, arguments)
        sys.stdout.flush()
        raise SystemExit(0)
    lines = LINES if arguments.lines is None else arguments.lines
    rows = [row(record) for record in latest(asked, lines)]
    for found in rows:
        talk.out(line(found))
    return rows


def matches(app: App, arguments: argparse.Namespace) -> list[str]:
    """What journalctl is asked for. Raises CtlError for what could mean anything else than it says."""
    asked = [f"--unit={unit}" for unit in units(app, arguments.process)]
    if arguments.since:
        try:
            if not SINCE.fullmatch(arguments.since):
                raise CtlError("it has no form")
            run("systemd-analyze", "timestamp", "--", arguments.since)
        except CtlError:
            raise CtlError(
                f"--since: {arguments.since} is not a time. Give one such as -1h, today or 2026-11-30 14:00"
            ) from None
        asked.append(f"--since={arguments.since}")
    if arguments.grep:
        if len(arguments.grep) > GREP or not arguments.grep.isprintable():
            raise CtlError(f"--grep: give a regular expression of at most {GREP} characters, all of them visible")
        asked.append(f"--grep={arguments.grep}")
    if arguments.request_id:
        if not REQUEST.fullmatch(arguments.request_id):
            raise CtlError(
                f"--request-id: {arguments.request_id} is not the id of a request. It is in the header X-Request-ID of "
                "the response"
            )
        asked.append(f"REQUEST_ID={arguments.request_id}")
    return asked


def units(app: App, name: str) -> list[str]:
    """The units that a process has, those of all where none is named."""
    if not name:
        # All that runs within the application's limits, and what systemd and this command say of the service.
        return [app.slice, app.service]
    if not PROCESS.fullmatch(name):
        raise CtlError(f"--process: {name} is not the name of a process. Give one such as {WEB}")
    if name == WEB:
        return [app.service, app.instance_service(CANDIDATE)]
    return [f"{app.name}-{name}{end}.service" for end in ("", "@*", "-*")]


def latest(asked: list[str], lines: int) -> list[Record]:
    """So many records at most, the latest ones, the oldest of them first."""
    journal.synchronize()
    found: list[Record] = []
    kept = 0
    command = ["journalctl", "--quiet", *output(), "--reverse", f"--lines={lines}", *asked]
    pieces = process.chunks(*command, timeout=journal.SECONDS, most=journal.READ)
    with contextlib.suppress(CtlError), contextlib.closing(pieces):
        for record in journal.records(pieces, FIELDS):
            found.append(record)
            kept += sum(map(len, record.values()))
            if kept > journal.KEPT or len(found) >= lines:
                break
    return found[::-1]


def follow(asked: list[str], arguments: argparse.Namespace) -> None:
    """Print records as they come, until the end of the program, or that of the standard input where it is watched."""
    lines = LATEST if arguments.lines is None else arguments.lines
    tail = "--no-tail" if arguments.since else f"--lines={lines}"
    command = ("journalctl", "--quiet", *output(), "--follow", tail, *asked)
    with contextlib.suppress(KeyboardInterrupt), process.started(command, errors=None) as started:
        assert started.stdout is not None
        watched = [sys.stdin.fileno()] if arguments.until_eof else []
        for record in journal.records(pieces(started.stdout.fileno(), watched), FIELDS):
            found = row(record)
            print(json.dumps(found) if arguments.json else line(found), flush=True)


def pieces(pipe: int, watched: list[int]) -> Iterator[bytes]:
    """What comes by a pipe, until its end or that of what is watched."""
    while True:
        ready = select.select([pipe, *watched], [], [])[0]
        if any(not os.read(descriptor, process.PIECE) for descriptor in watched if descriptor in ready):
            return
        if pipe in ready:
            piece = os.read(pipe, process.PIECE)
            if not piece:
                return
            yield piece


def output() -> tuple[str, str]:
    return "--output=export", f"--output-fields={','.join(FIELDS)}"


def row(record: Record) -> dict[str, Any]:
    """A record as it is shown: an application may have written anything."""
    at, priority = record.get("__REALTIME_TIMESTAMP", ""), record.get("PRIORITY", "")
    micros = int(at) if re.fullmatch("[0-9]{1,17}", at) else 0
    time = datetime.datetime.fromtimestamp(micros // 1_000_000, datetime.UTC).replace(microsecond=micros % 1_000_000)
    return {
        "time": time.isoformat(timespec="microseconds"),
        "unit": visible(record.get("_SYSTEMD_UNIT", ""), 256, one_line=True),
        "priority": int(priority) if re.fullmatch("[0-7]", priority) else 6,
        "release": visible(record.get("RELEASE", ""), 80, one_line=True),
        "request_id": visible(record.get("REQUEST_ID", ""), 128, one_line=True),
        "message": visible(record.get("MESSAGE", ""), talk.MOST),
    }


def line(found: dict[str, Any]) -> str:
    """A record for a terminal."""
    return f"{found['time'][:23]}Z {found['unit'].removesuffix('.service')}: {found['message']}"


def number(text: str) -> int:
    """A number of records. Raises ValueError for what is none."""
    value = int(text)
    if not 0 < value <= MOST_LINES:
        raise ValueError(text)
    return value


def add_logs(command: argparse.ArgumentParser) -> None:
    command.add_argument("--follow", action="store_true", help="go on with those that come")
    command.add_argument("--since", default="", metavar="TIME", help="such as -1h, today, 2026-11-30 14:00")
    command.add_argument("--grep", default="", metavar="PATTERN", help="those whose message matches")
    command.add_argument("--request-id", default="", metavar="ID", help="those of one request")
    command.add_argument("--process", default="", metavar="NAME", help=f"those of one process, such as {WEB}")
    command.add_argument("--lines", type=number, metavar="N", help=f"at most so many, the latest ({LINES})")
    command.add_argument("--until-eof", action="store_true", help=argparse.SUPPRESS)
