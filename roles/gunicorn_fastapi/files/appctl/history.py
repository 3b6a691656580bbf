"""The lines of a file that is only ever appended to."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any


def append(path: Path, record: dict[str, Any]) -> None:
    """Add a record, and wait until it is on the disk."""
    with path.open("a+b") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":  # the power went while the last line was written
                file.write(b"\n")
        file.write(json.dumps(record).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The records, the oldest first, and how many lines were damaged and are left out. None when there is no file."""
    records: list[dict[str, Any]] = []
    damaged = 0
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_bytes().split(b"\n"):
            if not line:
                continue
            try:
                records.append(json.loads(line))
            except ValueError:
                damaged += 1
    return records, damaged
