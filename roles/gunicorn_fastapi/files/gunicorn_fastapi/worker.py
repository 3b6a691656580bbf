"""A gunicorn worker that loses no request when it stops.

uvicorn, told to stop, closes every connection whose next request it has not read yet. The worker
here stops accepting, answers what is open and what still arrives with ``Connection: close``, and
leaves when nobody is left. In ``gunicorn.conf.py``::

    from gunicorn_fastapi.worker import DrainingUvicornWorker

    DrainingUvicornWorker.drain_timeout = 5
    worker_class = DrainingUvicornWorker

Keep gunicorn's ``keepalive`` at or below ``drain_timeout``: then a stop closes no connection
earlier than its own keep-alive timer would have.
"""

import asyncio
import copy
import fcntl
import functools
import logging
import resource
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from socket import AF_UNIX, socket
from typing import Any

from uvicorn.config import Config
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker  # type: ignore[import-untyped]

from gunicorn_fastapi import upstream
from gunicorn_fastapi.accept import Acceptor
from gunicorn_fastapi.guard import Guard
from gunicorn_fastapi.log import RequestContext
from gunicorn_fastapi.protocol import GuardedProtocol
from gunicorn_fastapi.shared import READY, Shares

logger = logging.getLogger("uvicorn.error")

TICK = 0.05
"""Seconds between two looks at the open connections."""

RESERVE = 2
"""Seconds of the graceful timeout left to uvicorn when requests are still running at its end: about
one to cancel them, one for the application's shutdown."""

CLOSE = (b"connection", b"close")

PRIVATE = frozenset({"main.sock", "candidate.sock", "preflight.sock"})
"""Names of the unix sockets at which the control command asks one instance."""


class DrainingServer(Server):
    """A uvicorn server whose connections end by agreement with their clients.

    ``drain_timeout``: seconds that a connection may be idle during the stop before it is closed.
    ``graceful_timeout``: seconds that the whole stop may take; what runs then is cancelled.
    ``guard``: closes the connections of those who keep the worker waiting. ``shares``: what each worker has.
    """

    def __init__(
        self, config: Config, drain_timeout: float, graceful_timeout: float, guard: Guard, shares: Shares
    ) -> None:
        super().__init__(config)
        self.guard = guard
        self.shares = shares
        self.drain_timeout = drain_timeout
        self.graceful_timeout = graceful_timeout
        self._idle_since: dict[Any, float] = {}

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second, and more often during a stop."""
        if not self.should_exit:
            self.shares.tell(len(self.server_state.connections))
            self.shares.look()
        self.guard.look(self.server_state.connections, asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start as uvicorn does, but take connections in turn with the other workers. TLS is left to uvicorn."""
        if self.config.ssl or not sockets:
            await super().startup(sockets)
            self.shares.is_now(READY)
            return
        await super().startup([])
        protocol_class: Any = self.config.http_protocol_class
        protocol = functools.partial(
            protocol_class,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        # Typed as asyncio's class; what uvicorn uses of one is its close() and wait_closed().
        for listener in sockets:
            factory = self._telling(protocol) if _is_private(listener) else protocol
            self.servers.append(Acceptor(listener, factory, self.server_state.connections, self.shares))  # type: ignore[arg-type]
        self.shares.is_now(READY)

    def _telling(self, protocol: Callable[[], Any]) -> Callable[[], Any]:
        """Connections whose answers say how many workers serve: ``X-Workers: 1/2`` while one of two boots."""

        # Within the context of the request, which talks to uvicorn's own send().
        app = copy.copy(self.config.loaded_app)
        app.app = Readiness(app.app, self.shares)

        def make() -> Any:
            connection = protocol()
            connection.app = app
            connection.is_private = True
            return connection

        return make

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Drain, then shut down as uvicorn does.

        A worker that recycles itself (``max_requests``) is replaced only after it is gone. So it
        accepts until the connections of before have ended; otherwise new clients would wait in the
        socket's queue for an idle neighbour.
        """
        self.limit_max_requests = None  # reached, and on_tick() would say so at each tick
        logger.info("Draining %d connection(s)", len(self.server_state.connections))
        self._announce_close()
        former = set(self._http_connections())
        accept_until = time.monotonic() + self.drain_timeout
        while not self.should_exit and former & self.server_state.connections:
            if time.monotonic() >= accept_until:
                break
            await self._tick()

        self.should_exit = True
        self.shares.leave()
        deadline = time.monotonic() + self.graceful_timeout - RESERVE
        # Only this process's descriptors: the socket stays open in the master, its queue unharmed.
        for server in self.servers:
            server.close()
        # What was accepted just now gets its protocol in the first tick.
        await self._tick()
        while self.server_state.connections or self.server_state.tasks:
            if self.force_exit or time.monotonic() >= deadline:
                break
            self._close_websockets()
            await self._tick()

        self.config.timeout_graceful_shutdown = RESERVE // 2
        await super().shutdown(sockets)
        # The signal that asked for the stop ends the process soon after, and nothing runs at its exit.
        for handler in logging.getLogger("uvicorn.access").handlers:
            handler.flush()

    def _announce_close(self) -> None:
        """Have every response that has not begun yet say ``Connection: close``."""
        self.config.encoded_headers.append(CLOSE)  # from here on_tick() takes them for later ones
        self.server_state.default_headers.append(CLOSE)
        for connection in self._http_connections():
            if connection.cycle is not None and not connection.cycle.response_started:
                connection.cycle.default_headers = self.server_state.default_headers

    def _http_connections(self) -> list[Any]:
        return [c for c in self.server_state.connections if hasattr(c, "cycle")]

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
            if overdue and not _has_unread_bytes(connection):
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


class Readiness:
    """An ASGI application around another one, whose responses say how many workers serve."""

    def __init__(self, app: Any, shares: Shares) -> None:
        self._app = app
        self._shares = shares

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_workers(message: Any) -> None:
            if message["type"] == "http.response.start":
                header = (b"x-workers", b"%d/%d" % self._shares.readiness())
                message = {**message, "headers": [*message.get("headers", ()), header]}
            await send(message)

        await self._app(scope, receive, send_with_workers)


def _is_private(listener: socket) -> bool:
    """Whether only root can connect, to ask this instance."""
    return listener.family == AF_UNIX and Path(listener.getsockname()).name in PRIVATE


def _is_idle(connection: Any) -> bool:
    """Whether an open HTTP connection has no request that is being read or answered."""
    if connection.transport.is_closing():
        return False
    if isinstance(connection, GuardedProtocol) and connection.is_awaited():
        return False
    return connection.cycle is None or bool(connection.cycle.response_complete)


def _has_unread_bytes(connection: Any) -> bool:
    """Whether the kernel holds bytes of this connection that the loop has not read yet."""
    descriptor = connection.transport.get_extra_info("socket").fileno()
    return any(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))


class DrainingUvicornWorker(UvicornWorker):  # type: ignore[misc]
    """``UvicornWorker`` with a :class:`DrainingServer`, under gunicorn's ``graceful_timeout``.

    Also under its ``limit_request_line``, ``limit_request_fields`` and ``worker_connections``, which the
    parent ignores.
    """

    drain_timeout: float = 5
    """Seconds that an open connection may be idle during a stop before it is closed."""

    header_max: int = 64 * 1024
    """Bytes that the headers of a request may have."""

    header_timeout: float = 10
    """Seconds that a client may take to send them."""

    body_max: int = 0
    """Bytes that the body of a request may have; 0 is no bound."""

    stall_timeout: float = 300
    """Seconds that a client may send nothing of a body, or take nothing of an answer; 0 is no bound."""

    websocket_message_max: int = 1024 * 1024
    """Bytes that a message of a WebSocket may have."""

    websocket_memory_max: int = 64 * 1024 * 1024
    """Bytes of messages that a worker keeps for all WebSockets together."""

    shares = Shares()
    """Made when the master imports this."""

    async def _serve(self) -> None:
        """Serve until told to stop; exit with gunicorn's boot error when the start failed.

        As the parent's, whose server class is fixed.
        """
        self.config.app = self.wsgi
        self.config.load()
        self.config.loaded_app = RequestContext(self.config.loaded_app)
        guard = self._guard()
        if self.config.http in ("auto", "httptools"):
            self.config.http_protocol_class = functools.partial(GuardedProtocol, guard)
        server = DrainingServer(self.config, self.drain_timeout, self.cfg.graceful_timeout, guard, self.shares)
        self.shares.join(self.age)
        self._install_sigquit_handler()
        # Plain sockets instead of gunicorn's wrappers: uvloop closes a wrapper's descriptor behind
        # its back, and the wrapper would later close whatever has the same number by then.
        await server.serve(sockets=[listener.sock for listener in self.sockets])
        if not server.started:
            sys.exit(upstream.BOOT_ERROR)

    def _guard(self) -> Guard:
        """The bounds. Half of the files that a process may open is the application's."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return Guard(
            target_max=self.cfg.limit_request_line or self.header_max,
            headers_max=self.cfg.limit_request_fields,
            header_max=self.header_max,
            header_timeout=self.header_timeout,
            body_max=self.body_max,
            stall_timeout=self.stall_timeout,
            message_max=self.websocket_message_max,
            messages_max=self.websocket_memory_max,
            trusted=self.cfg.forwarded_allow_ips,
            connections=min(self.cfg.worker_connections, files // 2),
        )
