"""Answers that say how an instance is, for who asks it whether it works.

``X-Workers: 1/2``: how many workers serve, of how many. ``X-Requests: 70/4/300.0``: how many requests of clients were
answered, how many of them with 5xx, in the last so many seconds. ``X-Paths: /health /items``, where the one that was
asked for does not serve: which of the application's could. ``X-Maintenance: 1764538400000``: which word of root's about
maintenance all workers heed.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from socket import AF_UNIX, socket
from typing import Any

from gunicorn_fastapi.allowed import EXEMPT
from gunicorn_fastapi.counts import Apart
from gunicorn_fastapi.routes import askable
from gunicorn_fastapi.shared import Shares

PRIVATE = frozenset({"main.sock", "candidate.sock", "preflight.sock"})
"""Names of the unix sockets at which the control command asks one instance."""


OWN = frozenset({b"x-workers", b"x-requests", b"x-paths", b"x-maintenance"})
"""Headers that nobody but the server sets here."""

ELSEWHERE = frozenset({401, 403, 404, 405})
"""Answers after which another path is asked."""


def is_private(listener: socket) -> bool:
    """Whether only root can connect, to ask this instance."""
    return listener.family == AF_UNIX and Path(listener.getsockname()).name in PRIVATE


def telling(protocol: Callable[[], Any], loaded_app: Any, shares: Shares) -> Callable[[], Any]:
    """Connections whose answers have the header. ``loaded_app`` is the application in its RequestContext."""
    # Within the context of the request, which talks to uvicorn's own send().
    app = copy.copy(loaded_app)
    app.app = _Readiness(app.app, shares)
    app.counts = Apart(shares.counts)  # no client has asked

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
        scope = {**scope, EXEMPT: True}
        if (b"x-forwarded-proto", b"https") in scope.get("headers", ()):
            scope["scheme"] = "https"
        wants_paths = (b"x-paths", b"wanted") in scope.get("headers", ())

        async def send_with_own(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = [
                    (b"x-workers", b"%d/%d" % self._shares.readiness()),
                    (b"x-requests", b"%d/%d/%.1f" % self._shares.counts.lately()),
                    (b"x-maintenance", b"%d" % self._shares.turn()),
                ]
                if wants_paths or message["status"] in ELSEWHERE:
                    own.append((b"x-paths", " ".join(askable(self._app)).encode()))
                theirs = [header for header in message.get("headers", ()) if header[0].lower() not in OWN]
                message = {**message, "headers": [*theirs, *own]}
            await send(message)

        await self._app(scope, receive, send_with_own)
