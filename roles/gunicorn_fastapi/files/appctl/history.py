"""The lines of a file that is only ever appended to, and that root alone reads."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from appctl.disk import sync_directory

LATEST = 4 * 1024 * 1024
"""Bytes that are read of it, its end: some ten thousand lines."""

HANDED_BACK = "handed back"
"""The outcome of a release that its canary found worse; and what the reason begins with, where the watch did."""

TEXTS = ("time", "from", "to", "outcome", "reason")
"""What every line has, as text."""


def append(path: Path, record: dict[str, Any]) -> None:
    """Add a record, and wait until it is on the disk. Raises OSError, and adds nothing, when there is no room."""
    line = json.dumps(record).encode() + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "a+b", buffering=0) as file:
        os.fchmod(descriptor, 0o600)  # neighbours could read that of an earlier version
        size = file.seek(0, os.SEEK_END)
        if size and os.pread(descriptor, 1, size - 1) != b"\n":  # the power went while the last line was written
            line = b"\n" + line
        try:
            if file.write(line) != len(line):
                os.write(descriptor, line)  # tells why
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    sync_directory(path.parent)


def read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The records, the oldest first, and how many lines are damaged and left out. None when there is no file."""
    records: list[dict[str, Any]] = []
    damaged = 0
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        skipped = max(0, file.seek(0, os.SEEK_END) - LATEST)
        file.seek(skipped)
        lines = file.read(LATEST).split(b"\n")
        for line in lines[1:] if skipped else lines:
            record = parsed(line)
            if record:
                records.append(record)
            elif line:
                damaged += 1
    return records, damaged


def parsed(line: bytes) -> dict[str, Any]:
    """The record of a line, an empty one when it is damaged."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    whole = isinstance(record, dict) and all(isinstance(record.get(name), str) for name in TEXTS)
    return record if whole else {}
