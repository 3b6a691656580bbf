"""The file by which both generations of an application know which share of the connections the candidate takes.

Root makes it, and says when a canary begins and ends; the workers write how many they take. The application can write
anything into it, and make it shorter: it is read as a file, never mapped, and no number of it decides but over shares.
"""

import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appctl import table
from appctl.app import CANDIDATE, MAIN
from appctl.disk import read_bounded

# The form, as gunicorn_fastapi/steering.py has it and explains it.
VERSION = 1
WORKERS = 256
GENERATIONS = (MAIN, CANDIDATE)
FORM, EPOCH, SHARE, KEPT = range(4)
USED = 4
HEAD = 8
COUNTS, TOLD, TAKEN = range(3)
ROW = 3
CELLS = HEAD + ROW * WORKERS * len(GENERATIONS)
STALE = 1.0

SIZE = 8 * CELLS


def make(path: Path, group: int = -1) -> None:
    """Make the file, unless it is there: who has started before uses it."""
    try:
        if path.lstat().st_size == SIZE:
            return
        path.unlink()  # the application has cut it off
    except FileNotFoundError:
        pass
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, SIZE)
        _write(descriptor, FORM, VERSION)
        os.fchown(descriptor, -1, group)
        os.fchmod(descriptor, 0o664)
    finally:
        os.close(descriptor)


def begin(path: Path, share: float, kept: float) -> None:
    """Have the candidate take a share of the connections, from 0 to 1, and kept ones come anew after some seconds."""
    with _opened(path) as descriptor:
        _write(descriptor, SHARE, 0)
        _write(descriptor, KEPT, kept)
        _write(descriptor, EPOCH, time.monotonic())
        _write(descriptor, SHARE, share)


def end(path: Path) -> None:
    """Have both take what comes."""
    with _opened(path) as descriptor:
        _write(descriptor, SHARE, 0)


def takes_part(path: Path, generation: str) -> bool:
    """Whether a worker of a generation has told just now that it takes part in this canary."""
    cells, now = _read(path), time.monotonic()
    return any(now - STALE < cells[row + TOLD] <= now for row in _rows(cells, generation))


def taken(path: Path) -> dict[str, int]:
    """How many connections each generation has taken in this canary."""
    cells = _read(path)
    return {name: int(sum(table.count(cells[row + TAKEN]) for row in _rows(cells, name))) for name in GENERATIONS}


def _rows(cells: tuple[float, ...], generation: str) -> list[int]:
    first = HEAD + ROW * WORKERS * GENERATIONS.index(generation)
    return [row for row in range(first, first + ROW * WORKERS, ROW) if cells and cells[row + COUNTS] == cells[EPOCH]]


def _read(path: Path) -> tuple[float, ...]:
    """The file's numbers. None when it is not there, or is of another form."""
    try:
        content = read_bounded(path, SIZE)
    except OSError:
        return ()
    cells = struct.unpack(f"{CELLS}d", content) if len(content) == SIZE else ()
    return cells if cells and cells[FORM] == VERSION else ()


def _write(descriptor: int, cell: int, value: float) -> None:
    if descriptor >= 0:
        os.pwrite(descriptor, struct.pack("d", value), 8 * cell)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A descriptor of the file, -1 when it is not there."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield -1
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
