"""An id for each request, and its access line before uvicorn puts it into words."""

import logging
import random
import re
from collections.abc import Sequence
from typing import Any

from gunicorn_fastapi.log.handler import JournalHandler
from gunicorn_fastapi.log.request import Request, current

REQUEST_ID = b"x-request-id"
_VALID_ID = re.compile(rb"[A-Za-z0-9._:+/=@-]{1,128}")

_access_logger = logging.getLogger("uvicorn.access")


class RequestContext:
    """An ASGI application around another one: gives each request an id, and the response the same.

    A valid ``X-Request-ID`` of the client, or of the proxy in front, is kept. A response in which the
    application has set one stays as it is.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        identifier = _incoming_id(scope["headers"]) or f"{random.getrandbits(64):016x}"
        request = Request(identifier)
        # Never reset: the server's own records about this request come after the application has returned.
        current.set(request)
        header = (REQUEST_ID, identifier.encode())
        # Where uvicorn keeps whether it logs this request.
        cycle: Any = getattr(send, "__self__", None)
        if cycle is not None and scope["type"] == "http":
            cycle.request = request  # for who tells what was being answered when it was ended

        async def send_with_id(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                for name, _ in headers:
                    if name.lower() == REQUEST_ID:
                        break
                else:
                    headers.append(header)
                    message = {**message, "headers": headers}
                # Of a client that has gone it logs nothing.
                if getattr(cycle, "access_log", False) and not cycle.disconnected:
                    cycle.access_log = not _take(scope, request, message["status"])
            await send(message)

        await self.app(scope, receive, send_with_id)


def _incoming_id(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """The id that the request brings with it, empty when it has none or one that could not be trusted in a log."""
    for name, value in headers:
        if name == REQUEST_ID:
            return value.decode() if _VALID_ID.fullmatch(value) else ""
    return ""


def _take(scope: Any, request: Request, status: int) -> bool:
    """Log a request before uvicorn tells of it, if one :class:`JournalHandler` is all that hears of it."""
    logger = _access_logger
    if len(logger.handlers) != 1 or logger.propagate or logger.filters or not logger.isEnabledFor(logging.INFO):
        return False
    handler = logger.handlers[0]
    return type(handler) is JournalHandler and handler.take(scope, request, status)
