"""Maintenance for all but some networks: the application goes on, and its workers answer everybody else with 503.

Root says so in a file (``NAMEctl maintenance on --allow``), at which each worker looks ten times a second. It then has
another application in front of its own; while it is off, no request passes through anything that is here.
"""

import ipaddress
import json
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from gunicorn_fastapi import allowed, upstream
from gunicorn_fastapi.shared import Shares

logger = logging.getLogger("uvicorn.error")

PAGE_MAX = 1024 * 1024
"""Bytes of a page, as behind.py of the control command has it."""


class Notice(NamedTuple):
    """What root says: whom to let in, and what the others get."""

    networks: tuple[Any, ...]
    headers: list[tuple[bytes, bytes]]
    page: bytes


def path_of(name: str) -> Path:
    """Where root says it: App.maintenance of the control command."""
    return Path("/opt", name, "maintenance", "state.json")


def read(path: Path) -> tuple[int, Notice | None]:
    """Which turn it is, and the notice while it is on for all but some. Raises OSError or ValueError."""
    try:
        state = json.loads(path.read_bytes())
    except FileNotFoundError:
        return 0, None
    try:
        turn, names = int(state.get("turn", 0)), state.get("allow")
        if not state.get("on") or not names:
            return turn, None
        networks = tuple(ipaddress.ip_network(network) for network in names)
        with path.with_name("page").open("rb") as file:
            page = file.read(PAGE_MAX)
        headers = [
            (b"content-type", b"text/%s; charset=utf-8" % (b"html" if page.lstrip()[:1] == b"<" else b"plain")),
            (b"content-length", b"%d" % len(page)),
            (b"retry-after", b"%d" % int(state["retry_after"])),
            (b"cache-control", b"no-store"),
        ]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: {type(error).__name__}: {error}") from None
    return turn, Notice(networks, headers, page)


def is_on(path: Path) -> bool:
    """Whether maintenance is on for all but some. Of what cannot be read nobody knows, and it counts as on."""
    try:
        return read(path)[1] is not None
    except (OSError, ValueError):
        return True


class Closed:
    """An ASGI application around the worker's: who is not let in is answered here, and is neither logged nor counted.

    uvicorn's middleware for proxies says who a peer is, as it does to the application.
    """

    def __init__(self, app: Any, notice: Notice) -> None:
        self._app = app
        self._notice = notice
        self._proxies = upstream.asking_proxies(app.app, _leave)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket") or allowed.lets_in(
            self._notice.networks, await self.client(scope)
        ):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            if cycle := getattr(send, "__self__", None):
                cycle.access_log = False
            if await allowed.is_read(scope, receive):
                await self._answer(send, "http.response")
        else:
            await receive()
            if "websocket.http.response" in scope.get("extensions", {}):
                await self._answer(send, "websocket.http.response")
            else:
                await send({"type": "websocket.close", "code": 1013})

    async def client(self, scope: Any) -> Any:
        """Who a peer is. The scope stays as it is: the application's own middleware looks at it, too."""
        if self._proxies is None:
            return scope.get("client")
        seen = dict(scope)
        await self._proxies(seen, None, None)
        return seen.get("client")

    async def _answer(self, send: Any, kind: str) -> None:
        await send({"type": f"{kind}.start", "status": 503, "headers": list(self._notice.headers)})
        await send({"type": f"{kind}.body", "body": self._notice.page})


async def _leave(_scope: Any, _receive: Any, _send: Any) -> None:
    """Nothing comes behind the middleware that is only asked who a peer is."""


class Door:
    """Which application the connections of a worker have: its own, or that behind a notice.

    ``app``: its own, in its RequestContext. Connections of root's, at the private address, always have that.
    """

    def __init__(self, config: Any, path: Path | None, shares: Shares) -> None:
        self.app = config.loaded_app
        self._config = config
        self._path = path
        self._shares = shares
        self._seen: Any = ()
        self._notice: Notice | None = None

    def look(self, connections: Collection[Any]) -> None:
        """See whether root says something else than before. Ten times a second, and before the first connection."""
        if self._path is None:
            return
        try:
            found = self._path.stat()
            seen = found.st_ino, found.st_mtime_ns
        except OSError:
            seen = None
        if seen != self._seen:
            self._seen = seen
            self._turn(connections)
        if self._notice is not None:
            self._end_websockets(connections)

    def _turn(self, connections: Collection[Any]) -> None:
        assert self._path is not None
        try:
            turn, self._notice = read(self._path)
        except (OSError, ValueError) as error:
            logger.error("What the control command says of maintenance cannot be read, so nothing changes: %s", error)
            return
        app = self.app if self._notice is None else Closed(self.app, self._notice)
        self._config.loaded_app = app
        for connection in upstream.http_connections(connections):
            if not getattr(connection, "is_private", False):
                connection.app = app
        self._shares.heed(turn)

    def _end_websockets(self, connections: Collection[Any]) -> None:
        """Whoever is not let in any more leaves, with 1012 (service restart), as at a stop."""
        assert self._notice is not None
        for connection in set(connections) - set(upstream.http_connections(connections)):
            if getattr(connection, "is_private", False) or connection.transport.is_closing():
                continue
            client = (getattr(connection, "scope", None) or {}).get("client")
            is_open = getattr(connection, "handshake_complete", True)
            if is_open and not allowed.lets_in(self._notice.networks, client):
                connection.shutdown()
