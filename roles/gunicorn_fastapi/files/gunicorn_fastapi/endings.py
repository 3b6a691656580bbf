"""How requests end that a stop does not wait for, in order and without errors that are none; and the process itself.

A response without an announced end (an event stream, mostly) looks to the application as if its client had left.
What does not heed that, and what still runs at the end of the graceful timeout, is cancelled; the application's
shutdown comes when all of them have ended.
"""

import asyncio
import gc
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Collection
from typing import Any

from gunicorn_fastapi import upstream

logger = logging.getLogger("uvicorn.error")

HEED = 1.0
"""Seconds that an application has to notice that a client has left."""

MARGIN = 0.5
"""Seconds before the end of the graceful timeout, when gunicorn kills, at which a worker ends itself, to tell why."""


FAILED = 5
"""Seconds that a worker has to end whose application did not start: for a thread that the application has begun."""


def is_worth_telling(record: logging.LogRecord) -> bool:
    """During a stop: whether a record of uvicorn is more than that a request was cancelled or left without its end."""
    cancelled = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cancelled and record.msg != upstream.RETURNED_EARLY


class Streams:
    """The responses without an announced end. ``tasks``: those of all requests."""

    def __init__(self, tasks: Collection[asyncio.Task[None]]) -> None:
        self._tasks = tasks
        self._ended: dict[Any, tuple[Any, float]] = {}
        self.were_there = False

    def end(self, connections: Collection[Any], now: float) -> None:
        """Take the client from each, and cancel those that do not notice. ``now``: ``time.monotonic()``."""
        for connection in connections:
            if upstream.is_without_end(connection.cycle):
                self._ended[connection.cycle] = (connection, now)
                self.were_there = True
                upstream.disconnect(connection)
        overdue = {cycle: ended[0] for cycle, ended in self._ended.items() if now - ended[1] >= HEED}
        for task in self._tasks:
            if upstream.cycle_of(task) in overdue:
                task.cancel()
        for cycle, connection in overdue.items():
            del self._ended[cycle]
            connection.transport.abort()  # one that reads nothing would keep what is left for it


async def cancel(tasks: Collection[asyncio.Task[None]], within: float) -> None:
    """Cancel what is left, and give it so many seconds for it. One record says what it was."""
    left = set(tasks)
    if left:
        cycles = [cycle for task in left if (cycle := upstream.cycle_of(task)) is not None]
        # In one piece: what is passed beside a record's text is cut as words of a client are.
        text = f"Cancelled {len(left)} request(s) after the graceful timeout: {describe(cycles)}"
        logger.warning(text)
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=within)


async def close_generators(within: float) -> None:
    """Give those that were left in the middle of a stream so many seconds for what they do at their end."""
    gc.collect()  # an exception that passed through one keeps it in a cycle
    await asyncio.sleep(0)  # for the loop to begin with them
    closing = {task for task in asyncio.all_tasks() if upstream.closes_generator(task)}
    if closing:
        await asyncio.wait(closing, timeout=within)


def describe(cycles: Collection[Any], most: int = 20) -> str:
    """Requests by method, path, id and age: ``GET /export (a4c280b389aac9ee, 28.1 s)``."""
    now = time.perf_counter()
    words = []
    for cycle in list(cycles)[:most]:
        request = getattr(cycle, "request", None)
        about = f" ({request.id}, {now - request.start:.1f} s)" if request else ""
        words.append(f"{cycle.scope['method']} {cycle.scope['path'][:200]!a}{about}".replace("'", ""))
    if len(cycles) > most:
        words.append(f"and {len(cycles) - most} more")
    return ", ".join(words) or "-"


def end_process_within(seconds: float, status: int = 0) -> None:
    """End this process when it has not ended by itself by then, and say what kept it.

    That may be the application's shutdown, a thread that is no daemon, or what is registered by ``atexit``.
    """
    timer = threading.Timer(max(seconds - MARGIN, MARGIN), _end_process, (status,))
    timer.daemon = True
    timer.start()


def _end_process(status: int) -> None:
    main = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001 (documented)
    where = "".join(traceback.format_stack(main)) if main else "?\n"
    when = f"within {FAILED} s after its start has failed" if status else "within the graceful timeout"
    text = f"The worker did not exit {when}. It was in:\n{where.rstrip()}"
    logger.error(text)
    for handler in (*logger.handlers, *logging.getLogger("uvicorn.access").handlers):
        handler.flush()
    os._exit(status)
