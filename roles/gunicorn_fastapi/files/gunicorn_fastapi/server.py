"""A uvicorn server that loses no request when it stops.

uvicorn, told to stop, closes every connection whose next request it has not read yet. The server here stops
accepting, answers what is open and what still arrives with ``Connection: close``, and leaves when nobody is left.
"""

import asyncio
import contextlib
import functools
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from socket import socket
from types import FrameType
from typing import Any

from uvicorn.config import Config
from uvicorn.server import Server

from gunicorn_fastapi import counts, endings, framing, readiness, upstream
from gunicorn_fastapi.accept import Acceptor
from gunicorn_fastapi.closed import Door
from gunicorn_fastapi.guard import Guard
from gunicorn_fastapi.protocol import GuardedProtocol
from gunicorn_fastapi.shared import READY, SPENT, Shares

logger = logging.getLogger("uvicorn.error")

PAUSE = 0.1
"""Seconds that uvicorn sleeps between two ticks while it serves."""

TICK = 0.05
"""Seconds between two looks at the open connections."""

RESERVE = 2
"""Seconds of the graceful timeout left when requests are still running at its end: one to cancel them, one for the
application's shutdown."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
"""What gunicorn and operators stop a worker by, and libraries like to take."""


class DrainingServer(Server):
    """A uvicorn server whose connections end by agreement with their clients.

    ``drain_timeout``: seconds that a connection may be idle, and a response without an announced end may go on,
    during the stop before it is closed. ``graceful_timeout``: seconds that the whole stop may take; what runs then
    is cancelled. ``guard``: closes the connections of those who keep the worker waiting. ``shares``: what each
    worker has. ``door``: who is let in. ``max_requests``: after so many it asks for a successor.
    ``end_process_within``: called when the stop begins, with the seconds that are left for all of it.
    """

    def __init__(
        self,
        config: Config,
        drain_timeout: float,
        graceful_timeout: float,
        guard: Guard,
        shares: Shares,
        door: Door,
        max_requests: int = sys.maxsize,
        end_process_within: Callable[[float], None] | None = None,
    ) -> None:
        super().__init__(config)
        self.guard = guard
        self.shares = shares
        self.door = door
        self.drain_timeout = drain_timeout
        self.graceful_timeout = graceful_timeout
        self.max_requests = max_requests
        self._end_process_within = end_process_within
        self._is_spent = False
        self._ticked = 0.0
        self._asked_by: signal.Signals | None = None
        self._handler: Any = None
        self._idle_since: dict[Any, float] = {}

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Be told to stop by a signal. The parent raises it again at the end, so that nothing would run at exit."""
        logger.addFilter(self._is_worth_telling)
        self._handler = self.handle_exit
        for number in SIGNALS:
            signal.signal(number, self._handler)
        os.register_at_fork(after_in_child=self._release_signals)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop when gunicorn says so. When others do, who would not wait for a successor, ask for one first."""
        if self.started and self.shares.can_ask():
            self._asked_by = signal.Signals(sig)  # a signal comes at any time: on_tick() does the rest
        else:
            super().handle_exit(sig, frame)

    def _is_worth_telling(self, record: logging.LogRecord) -> bool:
        return not self.should_exit or endings.is_worth_telling(record)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second, and more often during a stop."""
        if self.shares.is_dismissed():
            self.should_exit = True  # the signal itself is lost on a worker that has just been forked
        if not self.should_exit:
            self._keep_signals()
            self.shares.tell(len(self.server_state.connections))
            self.shares.look()
            self._steer()
            self.shares.counts.sum_up()
            self._tell_delay()
            if self._is_spent:
                pass
            elif self.server_state.total_requests >= self.max_requests:
                self.leave(f"it has answered {self.max_requests} requests (max_requests)")
            elif self._asked_by is not None:
                self.leave(f"it got {self._asked_by.name}, and not from gunicorn")
        self.door.look(self.server_state.connections)
        serving = self.started and not self.should_exit
        self.shares.counts.tell(serving, len(self.server_state.connections), len(self.server_state.tasks))
        self.guard.look(self.server_state.connections, asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    def _steer(self) -> None:
        """Take part in a canary. Connections that are kept come anew from time to time then, as they do at a stop."""
        self.shares.steering.tell(serves=self.started)
        # There may be thousands, and it is asked ten times a second.
        there = self._http_connections() if self.shares.steering.is_on() else []
        kept = [each for each in there if isinstance(each, GuardedProtocol) and not each.is_private]
        for connection in self.shares.steering.overdue(kept, time.monotonic()):
            connection.leaves = True

    def _tell_delay(self) -> None:
        """Count by how much the event loop was late with this tick."""
        now = time.monotonic()
        if self._ticked:
            self.shares.counts.add(counts.LATE, max(now - self._ticked - PAUSE, 0))
            self.shares.counts.add(counts.LOOKS)
        self._ticked = now

    def leave(self, reason: str) -> None:
        """Ask gunicorn for a successor. It stops this worker when that one serves, and no other leaves."""
        self._is_spent = True
        self.shares.is_now(SPENT)
        logger.info("This worker exits when its successor serves: %s", reason)

    def _release_signals(self) -> None:
        """Processes that the application forks end by a signal, as they would without a server."""
        for number in SIGNALS:
            if signal.getsignal(number) == self._handler:
                signal.signal(number, signal.SIG_DFL)

    def _keep_signals(self) -> None:
        """Put the handlers back that the application has replaced by its own: it would never be stopped."""
        if self._handler is None:
            return
        for number in SIGNALS:
            taken = signal.getsignal(number)
            if taken is self._handler:
                continue
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, self._handler)
            logger.warning(
                "The application has set a signal handler for %s, which stops the worker. It is ignored: move what it "
                "does to the shutdown of the lifespan (%s)",
                number.name,
                getattr(taken, "__qualname__", taken),
            )

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start as uvicorn does, but take connections in turn with the other workers. TLS is left to uvicorn."""
        self.door.look(())
        has_own_sockets = bool(sockets) and not self.config.ssl
        await super().startup([] if has_own_sockets else sockets)
        if self.lifespan.should_exit:  # the application has not started; newer releases of uvicorn exit by themselves
            return
        self.door.look(self.server_state.connections)  # a start may take long
        if not has_own_sockets:
            self.shares.is_now(READY)
            return
        protocol_class: Any = self.config.http_protocol_class
        protocol = functools.partial(
            protocol_class,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        # Typed as asyncio's class; what uvicorn uses of one is its close() and wait_closed().
        for listener in sockets or []:
            made: Any = protocol
            is_private = readiness.is_private(listener)
            if is_private:
                made = readiness.telling(protocol, self.door.app, self.shares)
            acceptor: Any = Acceptor(listener, made, self.server_state.connections, self.shares, is_private)
            self.servers.append(acceptor)
        self.shares.is_now(READY)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:  # noqa: ARG002 (the parent's)
        """Drain, cancel what is left at the end of the graceful timeout, then shut the application down."""
        logger.info("Draining %d connection(s)", len(self.server_state.connections))
        if self._end_process_within is not None:
            self._end_process_within(self.graceful_timeout)
        now = time.monotonic()
        streams_end, deadline = now + self.drain_timeout, now + self.graceful_timeout - RESERVE
        self._announce_close()
        self.shares.leave()
        # Only this process's descriptors: the socket stays open in the master, its queue unharmed.
        for server in self.servers:
            server.close()
        # What was accepted just now gets its protocol in the first tick.
        await self._tick()
        streams = endings.Streams(self.server_state.tasks)
        while self.server_state.connections or self.server_state.tasks:
            now = time.monotonic()
            if self.force_exit or now >= deadline:
                break
            self._close_websockets()
            if now >= streams_end:
                streams.end(self._http_connections(), now)
            await self._tick()

        if self.server_state.tasks or streams.were_there:
            await endings.cancel(self.server_state.tasks, within=RESERVE / 2)
            await endings.close_generators(within=RESERVE / 2)
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if not self.force_exit:
            await self.lifespan.shutdown()
        for handler in logging.getLogger("uvicorn.access").handlers:
            handler.flush()

    def _announce_close(self) -> None:
        """Have every response that has not begun yet say ``Connection: close``."""
        self.config.encoded_headers.append(framing.CLOSE)  # from here on_tick() takes them for later ones
        self.server_state.default_headers.append(framing.CLOSE)
        for connection in self._http_connections():
            if connection.cycle is not None and not connection.cycle.response_started:
                connection.cycle.default_headers = self.server_state.default_headers

    def _http_connections(self) -> list[Any]:
        return upstream.http_connections(self.server_state.connections)

    def _close_websockets(self) -> None:
        """End WebSockets with 1012 (service restart), once their handshake is over."""
        for connection in self.server_state.connections - set(self._http_connections()):
            handshake_complete = getattr(connection, "handshake_complete", True)
            if handshake_complete and not connection.transport.is_closing():
                connection.shutdown()

    async def _close_idle(self) -> None:
        """Close the HTTP connections that have been idle for the drain time and hold no request.

        A request that is still on the network at that moment is lost, as with any keep-alive timer:
        HTTP has no way to take back an idle connection other than the answer to its next request.
        """
        now = time.monotonic()
        idle = [connection for connection in self._http_connections() if _is_idle(connection)]
        self._idle_since = {connection: self._idle_since.get(connection, now) for connection in idle}
        for connection, since in self._idle_since.items():
            overdue = now - since >= self.drain_timeout and _is_idle(connection)
            if overdue and not upstream.has_unread_bytes(connection):
                connection.shutdown()
                # The loop closes it in its next round. Let that come before the next connection is
                # looked at: while hundreds are closed at once, requests would arrive unseen.
                await asyncio.sleep(0)

    async def _tick(self) -> None:
        """Close what has been idle for too long and wait a moment.

        ``on_tick`` keeps the Date header fresh and tells the master that this worker is alive.
        """
        await self._close_idle()
        await self.on_tick(0)
        await asyncio.sleep(TICK)


def _is_idle(connection: Any) -> bool:
    """Whether an open HTTP connection has no request that is being read or answered."""
    if isinstance(connection, GuardedProtocol) and connection.is_awaited():
        return False
    return upstream.is_idle(connection)
