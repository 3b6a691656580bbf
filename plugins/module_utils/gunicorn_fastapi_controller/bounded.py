"""A program on the controller that ends in time, with everything that it has started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import IO, cast

PIECE = 65536
ROOM = 256 * 1024 * 1024
"""Bytes that a program has to leave free where it writes."""

SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER: who loses their parent become children of this process."""


class FullError(Exception):
    """A program that was ended because it had filled the disk."""


def children() -> set[int]:
    """The children of this process."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            if int(path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(path.parent.name))
    return found


def run(command: str, directory: Path, environment: dict[str, str], timeout: float) -> tuple[int | None, str]:
    """Run a shell's command to its end: its status, None when it was not over in time, and the end of its output.

    Nothing that it has started goes on, also not what has left its group. Raises FullError when it fills the disk.
    """
    with contextlib.suppress(OSError, AttributeError):  # only on Linux
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    before = children()
    process = subprocess.Popen(
        ["/bin/sh", "-c", command], cwd=directory, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    with process:  # which waits for it
        try:
            said = read(process, time.monotonic() + timeout, directory)
            status = process.poll()
        finally:
            end(process, before)
    return status, said.decode(errors="replace")


def read(process: subprocess.Popen[bytes], until: float, directory: Path) -> bytes:
    """The end of what a program prints until it is over, or the time or the room is."""
    said, output = b"", cast(IO[bytes], process.stdout)
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while time.monotonic() < until:
            over = process.poll() is not None
            if shutil.disk_usage(directory).free < ROOM:
                raise FullError
            # What it has left behind may have the pipe open for ever.
            ready = selector.select(0 if over else min(0.2, max(0.0, until - time.monotonic())))
            piece = os.read(output.fileno(), PIECE) if ready else b""
            said = (said + piece)[-PIECE:]
            if over and not piece:
                break
            if ready and not piece:  # it has closed its output
                selector.unregister(output)
    return said


def end(process: subprocess.Popen[bytes], before: set[int]) -> None:
    """Kill a program, its group, and whatever of it has become a child of this process."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for _ in range(100):  # a child of a child may come to us as its parent ends
        left = children() - before
        if not left:
            break
        for child in left:
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
