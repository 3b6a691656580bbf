"""What a worker is doing now, for "NAMEctl tasks", which asks by two signals and costs nothing until then.

The first has the interpreter write down the stack of each thread, for which it needs no turn: also one that keeps the
interpreter to itself is seen. The second has the worker list its asyncio tasks, when it gets to it. Both write to files
in memory that the worker has open, by which root finds them. Names of files and functions are written, never values.
"""

import asyncio
import contextlib
import faulthandler
import os
import signal
from types import FrameType
from typing import Any

from gunicorn_fastapi.log.request import current

STACKS = signal.SIGRTMIN + 5
TASKS = signal.SIGRTMIN + 6

STACKS_FILE = "gunicorn_fastapi-stacks"
TASKS_FILE = "gunicorn_fastapi-tasks"

MOST = 200
"""Tasks that are listed."""

DEEP = 20
"""Frames of each, from where it waits on."""

KEPT = 1024 * 1024
"""Bytes from which on a file begins anew."""


def memory(name: str) -> int:
    """A file in memory; who may look at the process finds it by its name."""
    return os.memfd_create(name, os.MFD_CLOEXEC)


class Doing:
    """Installed in a worker before it loads the application."""

    def __init__(self) -> None:
        self._stacks = memory(STACKS_FILE)
        self._tasks = memory(TASKS_FILE)
        self.loop: asyncio.AbstractEventLoop | None = None

    def listen(self) -> None:
        """Heed the signals."""
        faulthandler.register(STACKS, self._stacks, all_threads=True, chain=False)
        signal.signal(TASKS, self._tell)

    def close(self) -> None:
        """Heed them no more."""
        faulthandler.unregister(STACKS)
        signal.signal(TASKS, signal.SIG_IGN)
        os.close(self._stacks)
        os.close(self._tasks)

    def _tell(self, _number: int, _frame: FrameType | None) -> None:
        """List the tasks. It runs between two lines of the application, so it raises nothing."""
        with contextlib.suppress(Exception):
            lines = tasks(self.loop) if self.loop is not None else []
            if os.fstat(self._tasks).st_size > KEPT:
                os.ftruncate(self._tasks, 0)
                os.lseek(self._tasks, 0, os.SEEK_SET)
            if os.fstat(self._stacks).st_size > KEPT:
                os.ftruncate(self._stacks, 0)
                os.lseek(self._stacks, 0, os.SEEK_SET)
            # In one piece: who reads it knows by the last line that there is no more.
            os.write(self._tasks, "".join(f"{line}\n" for line in [*lines, "."]).encode("utf-8", "replace"))


def tasks(loop: asyncio.AbstractEventLoop) -> list[str]:
    """A line for each task: its name, the id of its request, and where it waits, the innermost first."""
    found = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    lines = []
    for task in found[:MOST]:
        request = ""
        if hasattr(task, "get_context"):  # Python 3.12
            held = task.get_context().get(current)
            request = held.id if held is not None else ""
        lines.append("\t".join([task.get_name(), request, *frames(task.get_coro())]))
    if len(found) > MOST:
        lines.append(f"and {len(found) - MOST} more")
    return [line.replace("\n", " ") for line in lines]


def frames(awaited: Any) -> list[str]:
    """Where a coroutine waits, and for which others, the innermost first."""
    found: list[str] = []
    while awaited is not None and len(found) < 1000:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        frame = frame or getattr(awaited, "ag_frame", None)
        if frame is None:
            break
        code = frame.f_code
        found.append(f"{code.co_filename}:{frame.f_lineno} {code.co_qualname}")
        awaited = (
            getattr(awaited, "cr_await", None)
            or getattr(awaited, "gi_yieldfrom", None)
            or getattr(awaited, "ag_await", None)
        )
    return found[::-1][:DEEP]
