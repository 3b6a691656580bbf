"""An id for each request, its access line before uvicorn puts it into words, and few words for who leaves."""

import logging
import random
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gunicorn_fastapi.log import leaving
from gunicorn_fastapi.log.handler import JournalHandler
from gunicorn_fastapi.log.request import Request, current
from gunicorn_fastapi.upstream import CLIENT_DISCONNECTED

if TYPE_CHECKING:
    from gunicorn_fastapi.counts import Apart, Counts
    from gunicorn_fastapi.last_words import LastWords


REQUEST_ID = b"x-request-id"
_VALID_ID = re.compile(rb"[A-Za-z0-9._:+/=@-]{1,128}")

_access_logger = logging.getLogger("uvicorn.access")
_error_logger = logging.getLogger("uvicorn.error")


class RequestContext:
    """An ASGI application around another one: gives each request an id, and the response the same.

    A valid ``X-Request-ID`` of the client, or of the proxy in front, is kept. A response in which the
    application has set one stays as it is. ``counts`` is told of each request when its answer begins, or when it has
    ended without: of one whose client has left, as its access line has it. And of what is sent. ``started`` is called
    when the application says that it has started. ``last_words``: where each request is noted while it lasts.
    """

    def __init__(
        self,
        app: Any,
        counts: "Counts | Apart | None" = None,
        started: Callable[[], None] = lambda: None,
        last_words: "LastWords | None" = None,
    ) -> None:
        self.app = app
        self.counts = counts
        self._started = started
        self._last_words = last_words

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self._live(scope, receive, send)
            return
        identifier = _incoming_id(scope["headers"]) or f"{random.getrandbits(64):016x}"
        request = Request(identifier)
        # Never reset: the server's own records about this request come after the application has returned.
        current.set(request)
        words = self._last_words
        slot = words.begin(scope, request) if words else -1
        counts = self.counts
        if kind == "websocket":
            if counts:
                counts.upgraded()
            try:
                await self._talk(scope, receive, send, request)
            finally:
                if words:
                    words.end(slot)
            return
        header = (REQUEST_ID, identifier.encode())
        # Where uvicorn keeps whether it logs this request, and whether its client has left.
        cycle: Any = getattr(send, "__self__", None)
        if cycle is not None and scope["type"] == "http":
            cycle.request = request  # for who tells what was being answered when it was ended

        is_counted = False

        # No coroutine of its own, but that of the server: each costs a request some percent.
        def send_with_id(message: Any) -> Any:
            nonlocal is_counted
            if message["type"] == "http.response.start":
                if counts and not is_counted:
                    is_counted = True
                    has_left = getattr(cycle, "disconnected", False)
                    counts.count(scope["method"], leaving.LEFT if has_left else message["status"])
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
                if words:
                    words.has_begun(slot)
            elif counts and message["type"] == "http.response.body":
                has_no_body = scope["method"] == "HEAD" or getattr(cycle, "disconnected", False)
                counts.sent(0 if has_no_body else len(message.get("body", b"")))
            return send(message)

        body = None
        if getattr(cycle, "more_body", False):
            receive = body = leaving.Body(receive)
        try:
            await self.app(scope, receive, send_with_id)
        except BaseException as error:
            if _is_answered(cycle) and isinstance(error, Exception):
                # As Starlette does when it has answered with 500. uvicorn would close the connection, and has not said
                # so: the next request may be on it already.
                _error_logger.error("Exception in ASGI application\n", exc_info=error)
                return
            if not getattr(cycle, "disconnected", False) or not leaving.is_departure(error):
                raise
            if cycle.response_started and not (body and cycle.more_body):
                leaving.log(scope, request, "during the answer")
        finally:
            if words:
                words.end(slot)
            if counts and not is_counted:
                counts.count(scope["method"], _without_answer(cycle))
            if getattr(cycle, "disconnected", False):
                _tell_of_departure(scope, request, cycle, body)

    async def _live(self, scope: Any, receive: Any, send: Any) -> None:
        """The application's lifespan."""

        async def send_and_note(message: Any) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._started()
            await send(message)

        await self.app(scope, receive, send_and_note)

    async def _talk(self, scope: Any, receive: Any, send: Any, request: Request) -> None:
        """The application's part in a WebSocket."""
        code = 0
        accepted = False

        async def receive_and_note() -> Any:
            nonlocal code
            message = await receive()
            if message["type"] == "websocket.disconnect":
                code = message.get("code") or 1005
            return message

        async def send_and_note(message: Any) -> None:
            nonlocal code, accepted
            try:
                await send(message)
            except OSError:
                code = code or 1006
                raise
            accepted = accepted or message["type"] == "websocket.accept"

        try:
            await self.app(scope, receive_and_note, send_and_note)
        except BaseException as error:
            if not code or not leaving.is_departure(error):
                raise
            leaving.log(scope, request, f"with {code}" if accepted else "before the handshake")
            if not accepted:
                raise CLIENT_DISCONNECTED from None


def _is_answered(cycle: Any) -> bool:
    """Whether a client has its whole answer, as far as uvicorn knows."""
    return bool(getattr(cycle, "response_complete", False)) and not cycle.disconnected


def _tell_of_departure(scope: Any, request: Request, cycle: Any, body: leaving.Body | None) -> None:
    """Log a request whose client had left when it ended, unless that made no difference."""
    refused: int = getattr(cycle, "refused", 0)
    if not refused:
        if body and cycle.more_body:
            leaving.log(scope, request, body.how_far(scope, cycle))
        elif not cycle.response_started:
            leaving.log(scope, request, "before the answer")
    if cycle.access_log and not cycle.response_started:
        leaving.log_access(scope, refused or leaving.LEFT)


def _without_answer(cycle: Any) -> int:
    """The status of a request that has ended before its answer began: uvicorn's answer, or that in its access line."""
    refused: int = getattr(cycle, "refused", 0)
    return (refused or leaving.LEFT) if getattr(cycle, "disconnected", False) else 500


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
