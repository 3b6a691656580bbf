"""Answers that say how many workers serve, for who asks one instance whether it works: ``X-Workers: 1/2``."""

import copy
from collections.abc import Callable
from pathlib import Path
from socket import AF_UNIX, socket
from typing import Any

from gunicorn_fastapi.shared import Shares

PRIVATE = frozenset({"main.sock", "candidate.sock", "preflight.sock"})
"""Names of the unix sockets at which the control command asks one instance."""


def is_private(listener: socket) -> bool:
    """Whether only root can connect, to ask this instance."""
    return listener.family == AF_UNIX and Path(listener.getsockname()).name in PRIVATE


def telling(protocol: Callable[[], Any], loaded_app: Any, shares: Shares) -> Callable[[], Any]:
    """Connections whose answers have the header. ``loaded_app`` is the application in its RequestContext."""
    # Within the context of the request, which talks to uvicorn's own send().
    app = copy.copy(loaded_app)
    app.app = _Readiness(app.app, shares)

    def make() -> Any:
        connection = protocol()
        connection.app = app
        connection.is_private = True
        return connection

    return make


class _Readiness:
    """An ASGI application around another one. Its requests come from root, so what they say of TLS is believed."""

    def __init__(self, app: Any, shares: Shares) -> None:
        self._app = app
        self._shares = shares

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if (b"x-forwarded-proto", b"https") in scope.get("headers", ()):
            scope = {**scope, "scheme": "https"}

        async def send_with_workers(message: Any) -> None:
            if message["type"] == "http.response.start":
                header = (b"x-workers", b"%d/%d" % self._shares.readiness())
                message = {**message, "headers": [*message.get("headers", ()), header]}
            await send(message)

        await self._app(scope, receive, send_with_workers)
