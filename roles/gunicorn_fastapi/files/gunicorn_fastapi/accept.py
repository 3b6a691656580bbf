"""Connections in even shares for all workers.

Workers that wait for one socket take connections as the kernel wakes them, and one that runs takes all that
are there. Connections that are kept then stay where they are: of 64 the busiest of 4 workers has several times
as many as the idlest. Here each takes one at a time, and who has more than another lets the others go first.
"""

import asyncio
import logging
import mmap
import time
from collections.abc import Callable, Collection
from socket import socket
from typing import Any

logger = logging.getLogger("uvicorn.error")

WORKERS = 1024
"""How many workers the table has room for."""

STALE = 1.0
"""Seconds after which a worker that has not told its number is dead, or too busy to be waited for."""

PAUSE = 0.002
"""Seconds that a worker with more connections than another gives the others to take the next one."""

RETRY = 1.0
"""Seconds to wait when the process or the system has no descriptor or memory left for a connection."""


class Shares:
    """How many connections each worker has. Made by the master, whose workers share its memory."""

    def __init__(self) -> None:
        # For each worker a time (time.monotonic()) and the number that it told then.
        self._table = memoryview(mmap.mmap(-1, 16 * WORKERS)).cast("d")
        self._own = 0
        self._others: list[int] = []

    def join(self, number: int) -> None:
        """Take part as this worker: gunicorn's ``age``, which two workers that live at a time do not share."""
        self._own = 2 * (number % WORKERS)

    def tell(self, connections: int) -> None:
        """Tell the others how many connections this worker has."""
        self._table[self._own + 1] = connections
        self._table[self._own] = time.monotonic()

    def leave(self) -> None:
        """Take no more part."""
        self._table[self._own] = 0

    def look(self) -> None:
        """Find out who else takes part."""
        since = max(time.monotonic() - STALE, 0)
        self._others = [i + 1 for i in range(0, 2 * WORKERS, 2) if self._table[i] > since and i != self._own]

    def are_ahead(self, connections: int) -> bool:
        """Whether so many are more than one of the others would have with one more."""
        return any(self._table[other] + 1 < connections for other in self._others)


class Acceptor:
    """Takes connections from a listening socket, as a server of asyncio does, whose interface it has."""

    def __init__(
        self, listener: socket, protocol: Callable[[], asyncio.Protocol], connections: Collection[Any], shares: Shares
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._descriptor = listener.fileno()
        self._protocol = protocol
        self._connections = connections
        self._shares = shares
        self._opening: set[asyncio.Task[Any]] = set()
        self._has_waited = False
        self._closed = False
        listener.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Take no more. The socket stays open, its queue unharmed."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._descriptor)

    async def wait_closed(self) -> None:
        """Nothing is left to wait for."""

    def _resume(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._descriptor, self._accept)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._descriptor)
        self._loop.call_later(seconds, self._resume)

    def _accept(self) -> None:
        """One connection. The loop calls again while there are more."""
        count = len(self._connections) + len(self._opening)
        if not self._has_waited and self._shares.are_ahead(count):
            self._has_waited = True
            self._pause(PAUSE)
            return
        self._has_waited = False
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # another was faster, or the client has gone
        except OSError as error:
            logger.error("No connection can be taken: %s", error)
            self._pause(RETRY)
            return
        connection.setblocking(False)
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        self._shares.tell(count + 1)
