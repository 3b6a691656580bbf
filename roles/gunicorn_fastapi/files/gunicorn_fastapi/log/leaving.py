"""Clients that leave before they have their answer: a line and an access line, instead of an error with a traceback.

What the application has to say about it stays whole, unless it is only what the frameworks raise to tell it.
"""

import asyncio
import logging
import time
from typing import Any
from urllib.parse import quote

from gunicorn_fastapi.log.bounded import Bounded
from gunicorn_fastapi.log.request import WORDS, Request
from gunicorn_fastapi.log.words import USUAL, cut, host

LEFT = 499
"""The status in the access line of a request whose client had gone before the answer began. nginx has it too."""

MOST = 10
"""Clients that left of which a worker writes a record each in a second."""

DEPARTURES = frozenset(
    {
        "starlette.requests.ClientDisconnect",
        "starlette.websockets.WebSocketDisconnect",
        "uvicorn.protocols.utils.ClientDisconnected",
    }
)

NO_RESPONSE = "No response returned."
"""What a middleware of Starlette says, as a RuntimeError, when what it is around has ended because of that."""

_records = Bounded(logging.getLogger("uvicorn.error"), logging.INFO, MOST)
_access_logger = logging.getLogger("uvicorn.access")


def is_departure(error: BaseException) -> bool:
    """Whether an exception says no more than that a client has left."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_departure(inner) for inner in error.exceptions)
    if isinstance(error, asyncio.CancelledError) or (type(error) is RuntimeError and str(error) == NO_RESPONSE):
        return True
    return any(f"{kind.__module__}.{kind.__qualname__}" in DEPARTURES for kind in type(error).__mro__)


def log(scope: Any, request: Request, how_far: str) -> None:
    """Log that the client has left, and how far it had come."""
    name, port = scope["client"] or ("-", "-")
    name = host(str(name))
    seconds = request.milliseconds(time.perf_counter()) / 1000
    target = cut(f"{scope.get('method', 'WebSocket')} {quote(scope['path'])}", USUAL)
    _records.log(name, "%s:%s - Disconnected %s, after %.3f s: %s", name, port, how_far, seconds, target)


def log_access(scope: Any, status: int) -> None:
    """The access line of a request that nobody was there to get an answer to."""
    client, query = scope["client"], scope["query_string"].decode("ascii", "backslashreplace")
    target = f"{quote(scope['path'])}?{query}" if query else quote(scope["path"])
    address = f"{client[0]}:{client[1]}" if client else ""
    _access_logger.info(WORDS, address, scope["method"], target, scope["http_version"], status)


class Body:
    """What the application receives of a body that was not there yet when the request came."""

    def __init__(self, receive: Any) -> None:
        self._receive = receive
        self._taken = 0

    async def __call__(self) -> Any:
        message = await self._receive()
        self._taken += len(message.get("body", b""))
        return message

    def how_far(self, scope: Any, cycle: Any) -> str:
        """How much of it has come, in words. ``cycle`` has what the application has not taken."""
        size = self._taken + len(cycle.body)
        announced = dict(scope["headers"]).get(b"content-length")
        whole = f"{size} of {int(announced)}" if announced else str(size)
        return f"after {whole} bytes of the body"
