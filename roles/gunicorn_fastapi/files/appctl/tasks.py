"""What each worker is doing now: its open requests, its asyncio tasks, and the stacks of its threads.

The requests are read in the worker's memory, which also one that is stuck has; the rest it writes down itself when it
is told to by a signal. All of it is the application's own words: bounded, taken apart by its form, and never believed.
"""

import argparse
import contextlib
import os
import re
import signal
import stat
import struct
import time
from pathlib import Path
from typing import Any

from appctl import systemd, talk
from appctl.app import CANDIDATE, App
from appctl.disk import read_bounded
from appctl.process import CtlError
from appctl.text import visible

STACKS = signal.SIGRTMIN + 5
TASKS = signal.SIGRTMIN + 6
STACKS_FILE = "gunicorn_fastapi-stacks"
TASKS_FILE = "gunicorn_fastapi-tasks"
TABLE = "gunicorn_fastapi-requests"
SLOTS, SIZE = 1024, 1024
"""As the server has them (doing.py and last_words.py of its library)."""

FREE, RUNNING, BEGUN = range(3)

MAPS_MAX = 16 * 1024 * 1024
TEXT_MAX = 256 * 1024
"""Bytes of what a process says of itself that are read."""

WORKERS = 256
SHOWN = 50
"""Workers, and requests of each, that are shown."""

DEEP = 6
"""Places of each task that are shown, the innermost first."""

PATIENCE = 1.0
"""Seconds for an answer; a worker that keeps its interpreter to itself has none."""

LOOK = 0.02


class FormError(Exception):
    """What is there is not what the server writes."""


def command_tasks(app: App, _: argparse.Namespace) -> list[dict[str, Any]]:
    """Show what each worker is doing now: its open requests, asyncio tasks and stacks."""
    rows = []
    for unit in (app.service, app.instance_service(CANDIDATE)):
        properties = systemd.show(unit, "MainPID", "ControlGroup")
        group = properties["ControlGroup"]
        if not group.strip("/"):
            continue
        for pid in sorted(systemd.children(systemd.number(properties["MainPID"])))[:WORKERS]:
            with contextlib.suppress(ProcessLookupError), systemd.process(pid, group) as worker:
                rows.append({"unit": unit, "pid": pid, **doing(worker)})
    if not rows:
        raise CtlError(f"{app.service} has no workers ({app.name}ctl status)")
    for row in rows:
        for line in words(row):
            talk.out(line)
    return rows


def doing(worker: systemd.Process) -> dict[str, Any]:
    """What one worker is doing."""
    try:
        requests, unknown = open_requests(worker.pid, time.perf_counter()), ""
    except (OSError, FormError, OverflowError) as error:
        requests, unknown = [], f"{type(error).__name__}: {error}"
    tasks = told(worker, TASKS, TASKS_FILE, end=b"\n.\n")
    stacks = told(worker, STACKS, STACKS_FILE)
    lines = tasks.removesuffix(".\n").split("\n") if tasks.endswith(".\n") else []
    return {
        "requests": requests,
        "unknown": unknown,
        "answers": tasks.endswith(".\n"),
        "tasks": [task(line) for line in lines if line],
        "stacks": stacks,
    }


def task(line: str) -> dict[str, Any]:
    """A task by the line that a worker has written."""
    name, _, rest = line.partition("\t")
    request, _, where = rest.partition("\t")
    return {"name": name, "request_id": request, "waits": where.split("\t") if where else []}


# --- The requests -----------------------------------------------------------------------------------


def open_requests(pid: int, now: float) -> list[dict[str, Any]]:
    """The requests in a worker's table, from the oldest on. Raises OSError, or FormError when there is none."""
    pattern = rf"([0-9a-f]+)-([0-9a-f]+) rw-s 00000000 [^\n]*/memfd:{TABLE}-([0-9]{{1,18}}) \(deleted\)"
    maps = read_bounded(Path(f"/proc/{pid}/maps"), MAPS_MAX).decode("utf-8", "replace")
    # A worker has the tables of those that were there when it was made, too. Its own is the latest.
    found = sorted((int(number), int(begin, 16), int(end, 16)) for begin, end, number in re.findall(pattern, maps))
    if not found or found[-1][2] - found[-1][1] != SLOTS * SIZE:
        raise FormError("it notes no requests, for it is of an older release or has another worker class")
    descriptor = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        table = os.pread(descriptor, SLOTS * SIZE, found[-1][1])
    finally:
        os.close(descriptor)
    requests = []
    for at in range(0, len(table) - SIZE + 1, SIZE):
        if table[at] in (RUNNING, BEGUN):
            with contextlib.suppress(FormError):  # one that is just being written
                requests.append(request(table[at + 1 : at + SIZE], table[at] == BEGUN, now))
    return sorted(requests, key=lambda found: -float(found["seconds"]))


def request(noted: bytes, has_begun: bool, now: float) -> dict[str, Any]:
    """A request as the server notes it. Raises FormError."""
    values, _ = parsed(noted, 0)
    forms: tuple[Any, ...] = (float, str, (tuple, type(None)), str, str, bytes, str)
    if not isinstance(values, tuple) or len(values) != len(forms):
        raise FormError("no request")
    if not all(isinstance(value, form) for value, form in zip(values, forms, strict=True)):
        raise FormError("no request")
    start, name, client, method, path, _query, _version = values
    seconds = now - start
    if not 0 <= seconds < 10**9:  # also what is no number
        raise FormError("no time")
    return {
        "method": visible(method, 32, one_line=True),
        "path": visible(path, 512, one_line=True),
        "seconds": round(seconds, 1),
        "request_id": visible(name, 128, one_line=True),
        "client": visible(":".join(map(str, client)), 128, one_line=True) if client else "",
        "response_begun": has_begun,
    }


def parsed(data: bytes, at: int, depth: int = 0) -> tuple[Any, int]:
    """A value of marshal's second form, and where it ends. Only what a request has; marshal itself trusts its input."""
    kind, at = data[at : at + 1], at + 1
    if kind == b"N":
        return None, at
    size = {b"g": 8, b"i": 4, b"u": 4, b"s": 4, b"(": 4}.get(kind)
    if size is None or at + size > len(data) or depth > 2:
        raise FormError("unknown")
    if kind == b"g":
        return struct.unpack_from("<d", data, at)[0], at + size
    number = struct.unpack_from("<i", data, at)[0]
    at += size
    if kind == b"i":
        return number, at
    if not 0 <= number <= len(data) - at:
        raise FormError("too long")
    if kind == b"(":
        values = []
        for _ in range(number):
            value, at = parsed(data, at, depth + 1)
            values.append(value)
        return tuple(values), at
    piece = data[at : at + number]
    return piece if kind == b"s" else piece.decode("utf-8", "replace"), at + number


# --- What a worker writes down itself ---------------------------------------------------------------


def told(worker: systemd.Process, number: int, name: str, end: bytes = b"") -> str:
    """What a worker adds to a file of its own at a signal; empty when it does not heed it, or does not get to it.

    The signal is sent to none that would end by it.
    """
    with contextlib.suppress(OSError, ValueError):
        descriptor = own_file(worker.pid, name)
        if descriptor is None:
            return ""
        try:
            if not heeds(worker.pid, number):
                return ""
            begin = os.fstat(descriptor).st_size
            worker.signal(number)
            return visible(grown(descriptor, begin, end).decode("utf-8", "replace"), TEXT_MAX)
        finally:
            os.close(descriptor)
    return ""


def own_file(pid: int, name: str) -> int | None:
    """A file in memory that a process has open under such a name. Whatever it is, to read it harms nobody."""
    for descriptor in sorted(os.listdir(f"/proc/{pid}/fd"), key=int)[:65536]:  # noqa: PTH208 (names alone)
        path = f"/proc/{pid}/fd/{descriptor}"
        with contextlib.suppress(OSError):
            if str(Path(path).readlink()) == f"/memfd:{name} (deleted)":
                opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
                if stat.S_ISREG(os.fstat(opened).st_mode):
                    return opened
                os.close(opened)
    return None


def heeds(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal; one that has none would end."""
    status = read_bounded(Path(f"/proc/{pid}/status"), 65536).decode("ascii", "replace")
    caught = re.search(r"^SigCgt:\s*([0-9a-f]{16})$", status, re.MULTILINE)
    return bool(caught and int(caught[1], 16) >> (number - 1) & 1)


def grown(descriptor: int, begin: int, end: bytes) -> bytes:
    """What is added to a file: until its end, or where that has no form, until nothing more comes."""
    deadline, size = time.monotonic() + PATIENCE, begin
    found = b""
    while time.monotonic() < deadline:
        time.sleep(LOOK)
        now = os.fstat(descriptor).st_size
        if now < begin:  # it has begun anew
            begin = 0
        is_quiet = now == size and now > begin
        size = now
        if is_quiet or end:
            found = os.pread(descriptor, TEXT_MAX, begin)
            if found and (is_quiet if not end else (b"\n" + found).endswith(end)):
                break
    return found


# --- For the operator -------------------------------------------------------------------------------


def words(row: dict[str, Any]) -> list[str]:
    """One worker as lines."""
    requests, tasks = row["requests"], row["tasks"]
    loop = f"{len(tasks)} tasks" if row["answers"] else "its interpreter does not answer"
    lines = [
        f"worker {row['pid']} of {row['unit']}: {len(requests)} open request{'' if len(requests) == 1 else 's'}, {loop}"
    ]
    if row["unknown"]:
        lines.append(f"  requests unknown: {row['unknown']}")
    for found in requests[:SHOWN]:
        begun = ", response begun" if found["response_begun"] else ""
        lines.append(f"  {found['method']} {found['path']}  {found['seconds']} s  {found['request_id']}{begun}")
    if len(requests) > SHOWN:
        lines.append(f"  and {len(requests) - SHOWN} more")
    for found in tasks:
        of = f" of {found['request_id']}" if found["request_id"] else ""
        lines.append(f"  task {found['name']}{of}")
        lines += [f"    {shortened(where)}" for where in found["waits"][:DEEP]]
        if len(found["waits"]) > DEEP:
            lines.append("    ...")
    lines += [f"  {shortened(line)}" for line in row["stacks"].split("\n") if line]
    return lines


def shortened(text: str) -> str:
    """A place in the source without the directories that all have in common."""
    return re.sub(r"/[^ \"]{1,200}/(?:site-packages|releases/[0-9a-f]{1,64}/(?:app|lib))/", "", text)
