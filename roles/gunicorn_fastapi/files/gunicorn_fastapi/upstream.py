"""What is borrowed from gunicorn and uvicorn without their promise to keep it: each name here, and once.

``tests/test_upstream.py`` asserts that each exists in the form in which it is used.
"""

import asyncio
import copy
import fcntl
import functools
import inspect
import termios
from collections.abc import Callable, Collection
from typing import Any

import uvicorn
import uvicorn.protocols.utils
from gunicorn import systemd  # type: ignore[import-untyped]
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from gunicorn.config import KNOWN_SETTINGS  # type: ignore[import-untyped]
from gunicorn.errors import HaltServer  # type: ignore[import-untyped]
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.utils import get_local_addr, is_ssl
from uvicorn_worker import UvicornWorker  # type: ignore[import-untyped]

BOOT_ERROR: int = Arbiter.WORKER_BOOT_ERROR
"""The status of a worker whose application did not start: gunicorn ends instead of trying again."""

HALT: type[BaseException] = HaltServer
"""What ends gunicorn itself, from its handler of a signal and so out of whatever it does just then."""

CLIENT_DISCONNECTED: type[OSError] = getattr(uvicorn.protocols.utils, "ClientDisconnected", OSError)
"""What ends a WebSocket without an error when its client has left; uvicorn has it since 0.28.1."""

UVICORN: str = uvicorn.__version__

WORKER_OPTIONS: dict[str, Any] = UvicornWorker.CONFIG_KWARGS
"""What the worker class gives uvicorn beside gunicorn's settings."""

# --- gunicorn's and uvicorn's settings --------------------------------------------------------------


def options() -> set[str]:
    """The names of uvicorn's options."""
    return set(inspect.signature(uvicorn.Config).parameters)


def settings() -> dict[str, Any]:
    """gunicorn's settings by their names."""
    return {setting.name: setting for setting in KNOWN_SETTINGS}


def is_hook(name: str) -> bool:
    """Whether a setting is a function that gunicorn calls to tell something. ``ssl_context`` is asked for something."""
    return settings()[name].section in ("Server Hooks", "Dirty Arbiter Hooks") and name != "ssl_context"


def translate_forwarded(application: Any, translate: Callable[[str], str]) -> None:
    """Have uvicorn take what a trusted proxy forwards in X-Forwarded-For as ``translate`` gives it.

    The middleware is the outermost that uvicorn adds, if any. Versions differ in which object and method finds the
    client, and whether it gets a text or a list of them.
    """
    if not isinstance(application, ProxyHeadersMiddleware):
        return
    for owner in (application, application.trusted_hosts):
        for name in ("get_trusted_client_address", "get_trusted_client_host"):
            if find := getattr(owner, name, None):
                setattr(owner, name, functools.partial(_translated, find, translate))


def asking_proxies(application: Any, instead: Any) -> Any:
    """The same middleware before another application. None when uvicorn has added none."""
    if not isinstance(application, ProxyHeadersMiddleware):
        return None
    middleware = copy.copy(application)
    middleware.app = instead
    return middleware


def _translated(find: Callable[[Any], Any], translate: Callable[[str], str], forwarded: Any) -> Any:
    return find(translate(forwarded) if isinstance(forwarded, str) else [translate(host) for host in forwarded])


def behind_proxies(application: Any, wrap: Callable[[Any], Any]) -> Any:
    """The application with another one around it that sees clients as uvicorn has found them behind trusted proxies."""
    if isinstance(application, ProxyHeadersMiddleware):
        application.app = wrap(application.app)
        return application
    return wrap(application)


# --- gunicorn's master ------------------------------------------------------------------------------


def is_stopping(server: Any) -> bool:
    """Whether gunicorn has given its sockets up, and lets its workers go without replacing them."""
    return not server.LISTENERS


def workers(server: Any) -> list[Any]:
    """gunicorn's living workers, also those that were told to stop, from the oldest on."""
    return sorted(server.WORKERS.values(), key=lambda worker: worker.age)


def was_given_up(worker: Any) -> bool:
    """Whether gunicorn has killed a worker because it had not heard of it for ``timeout`` seconds."""
    return bool(worker.aborted)


def is_reaped(worker: Any) -> bool:
    """Whether gunicorn has done all that it does for a dead worker. It does not for one whose start has failed."""
    try:
        worker.tmp.fileno()
    except ValueError:
        return True
    return False


def replace(server: Any, **methods: Callable[..., None]) -> None:
    """Have gunicorn call these in place of its own: ``manage_workers``, ``reload``, ``reap_workers``, ``kill_worker``,
    ``reexec``.

    ``reload`` calls ``manage_workers`` when it has started the new workers, and ``reap_workers`` only while it waits
    for the old ones after that, in releases that wait.
    """
    for name, method in methods.items():
        setattr(server, name, method)


def notify(state: str, log: Any) -> None:
    """Tell systemd."""
    systemd.sd_notify(state, log)


# --- uvicorn's connections and requests -------------------------------------------------------------

HttpToolsProtocol = httptools_impl.HttpToolsProtocol
"""A connection of HTTP. What of it is used beside its methods is tried by ``trial.py``."""

ATTRIBUTES = (
    "access_log",
    "access_logger",
    "app",
    "app_state",
    "asgi_version",
    "client",
    "config",
    "connections",
    "cycle",
    "expect_100_continue",
    "flow",
    "headers",
    "limit_concurrency",
    "logger",
    "loop",
    "parser",
    "pipeline",
    "root_path",
    "scheme",
    "scope",
    "server",
    "server_state",
    "tasks",
    "timeout_keep_alive",
    "timeout_keep_alive_task",
    "transport",
    "url",
    "ws_protocol_class",
)
"""What it keeps of a connection. One that is missing here costs time, and nothing else."""

STATUS_LINE: dict[int, bytes] = httptools_impl.STATUS_LINE

INVALID_IN_NAMES, INVALID_IN_VALUES = httptools_impl.HEADER_RE, httptools_impl.HEADER_VALUE_RE
"""What no header of an answer may have."""

RETURNED_EARLY = "ASGI callable returned without completing response."
"""What uvicorn logs, as an error, of an application that ends in the middle of its response."""


def connect(protocol: Any, transport: asyncio.Transport, client: tuple[str, int]) -> None:
    """What a protocol does when its connection is made, by a client that is known: it would ask the kernel again, and
    hear nothing of one that has left already."""
    protocol.connections.add(protocol)
    protocol.transport = transport
    protocol.flow = FlowControl(transport)
    protocol.server = get_local_addr(transport)
    protocol.client = client
    protocol.scheme = "https" if is_ssl(transport) else "http"


def http_connections(connections: Collection[Any]) -> list[Any]:
    """Those of HTTP. The others are WebSockets."""
    return [connection for connection in connections if hasattr(connection, "cycle")]


def is_idle(connection: Any) -> bool:
    """Whether an open HTTP connection has no request that is being read or answered."""
    if connection.transport.is_closing():
        return False
    return connection.cycle is None or bool(connection.cycle.response_complete)


def has_unread_bytes(connection: Any) -> bool:
    """Whether the kernel holds bytes of this connection that the loop has not read yet."""
    descriptor = connection.transport.get_extra_info("socket").fileno()
    return any(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))


def is_without_end(cycle: Any) -> bool:
    """Whether a response goes on whose length was not announced. Only the parser httptools tells."""
    if cycle is None or not cycle.response_started or cycle.response_complete or cycle.disconnected:
        return False
    return getattr(cycle, "chunked_encoding", None) is True


def disconnect(connection: Any) -> None:
    """End an HTTP connection as if its client had left, which the application is told.

    Who waits until the client takes more is not woken up: a generator that never pauses would not notice any more
    that it is cancelled, and keep the loop to itself.
    """
    cycle = connection.cycle
    cycle.disconnected = True
    cycle.message_event.set()
    connection.transport.close()


def cycle_of(task: asyncio.Task[Any]) -> Any:
    """The request and response that uvicorn has made this task for; None when it has ended or is another's."""
    frame = getattr(task.get_coro(), "cr_frame", None)
    cycle = frame.f_locals.get("self") if frame is not None else None
    return cycle if hasattr(cycle, "response_complete") else None


def closes_generator(task: asyncio.Task[Any]) -> bool:
    """Whether asyncio has made this task to close a generator that nobody iterates over any more."""
    return type(task.get_coro()).__name__ == "async_generator_athrow"
