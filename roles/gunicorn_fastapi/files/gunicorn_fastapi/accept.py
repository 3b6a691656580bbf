"""Connections in even shares for all workers.

Workers that wait for one socket take connections as the kernel wakes them, and one that runs takes all that
are there. Connections that are kept then stay where they are: of 64 the busiest of 4 workers has several times
as many as the idlest. Here each takes one at a time, and who has more than another lets the others go first.
"""

import asyncio
import functools
import logging
from collections.abc import Callable, Collection
from socket import SocketKind, socket
from typing import Any

from gunicorn_fastapi import steering
from gunicorn_fastapi.shared import Shares

logger = logging.getLogger("uvicorn.error")

PAUSE = 0.002
"""Seconds that a worker with more connections than another gives the others to take the next one."""

RETRY = 1.0
"""Seconds to wait when the process or the system has no descriptor or memory left for a connection."""


class Acceptor:
    """Takes connections from a listening socket, as a server of asyncio does, whose interface it has.

    ``is_private``: only this generation accepts from it.
    """

    def __init__(
        self,
        listener: socket,
        protocol: Callable[[], asyncio.Protocol],
        connections: Collection[Any],
        shares: Shares,
        is_private: bool = False,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._accepted = _accepted(listener)
        self._descriptor = listener.fileno()
        self._protocol = protocol
        self._connections = connections
        self._shares = shares
        self._is_private = is_private
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
        is_steered = not self._is_private and self._shares.steering.is_on()
        choice = self._shares.steering.choose() if is_steered else steering.TAKE
        if choice != steering.TAKE:
            # Who leaves it is back before those who wait for this worker.
            self._pause(PAUSE if choice == steering.WAIT else PAUSE / 2)
            return
        if not self._has_waited and self._shares.are_ahead(count):
            self._has_waited = True
            self._pause(PAUSE)
            return
        self._has_waited = False
        try:
            # What accept() calls before it makes a socket of its own class.
            descriptor, address = self._listener._accept()  # type: ignore[attr-defined] # noqa: SLF001
        except (BlockingIOError, ConnectionAbortedError):
            return  # another was faster, or the client has gone
        except OSError as error:
            logger.error("No connection can be accepted: %s", error)
            self._pause(RETRY)
            return
        if is_steered:
            self._shares.steering.took()
        connection = self._accepted(fileno=descriptor)
        connection.setblocking(False)

        def made() -> Any:
            protocol: Any = self._protocol()
            protocol.peer = address
            return protocol

        task = self._loop.create_task(self._loop.connect_accepted_socket(made, connection))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        self._shares.tell(count + 1)


def _accepted(listener: socket) -> Callable[..., socket]:
    """A class of sockets like this one, which know of what kind they are. Others make members of two enumerations of it
    each time that they are asked, which is seven times for a connection: 3 of 100 us."""
    family, kind, number = listener.family, SocketKind(listener.type), listener.proto
    known = type("Accepted", (socket,), {"__slots__": (), "family": family, "type": kind})
    return functools.partial(known, family, kind, number)
