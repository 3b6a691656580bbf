"""HTTP for clients that nobody knows: what each may take up is bounded, and what it says has one meaning.

uvicorn's protocol for httptools waits forever for a request's headers, takes any number of them of any
size, and keeps any number of connections. The one here refuses what is too large (413, 414, 431), closes
who keeps the worker waiting, and makes room for newcomers when it is full. httptools is strict about
what a proxy could understand in another way; what it lets through of that is refused here.

A refusal is one record with the client's address; of many in a second the rest is told as a number. So are closed
connections, once a second.
"""

import asyncio
import heapq
import logging
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gunicorn_fastapi.log.bounded import Bounded

logger = logging.getLogger("uvicorn.error")

PATIENCE = 60
"""Seconds that a client may send nothing of a body, or take nothing of an answer. Any piece in time will do:
a slow client is no enemy."""

PIPELINED = 100
"""Requests of one connection that may wait for the answer to one before them."""

HELD = 64 * 1024 * 1024
"""Bytes of incomplete requests that a worker keeps for all clients together."""

REFUSALS = 200
"""Refusals of which a worker writes a record each in a second."""

TELLING = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})
"""Headers that say whom a request is for, and where it ends."""

HOST = re.compile(rb"(?:[\w.~%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
ABSOLUTE = re.compile(rb"http://([^/?]+)/[^#]*", re.IGNORECASE)

SLASH = ord("/")

AWAITED, IDLE, SLOW, BUSY = range(4)
"""What a connection is: awaited are a request's headers; idle between two requests; slow with a body or an
answer; busy is the application."""


class Refusal(Exception):  # noqa: N818 (no error of ours)
    """A request that is answered with a status instead of being handled."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass
class Guard:
    """What clients may take up of one worker, and who had to go. Sizes in bytes, times in seconds.

    ``body_max``: 0 is no bound.
    """

    target_max: int = 8190
    headers_max: int = 100
    header_max: int = 64 * 1024
    header_timeout: float = 10
    body_max: int = 0
    connections: int = 4096
    usual: list[tuple[bytes, bytes]] = field(default_factory=list)
    """What the last good request told about itself, if it was no more than its host. Saves a second look."""
    _closed: Counter[tuple[str, str]] = field(default_factory=Counter)
    _next_look: float = 0
    refused: Bounded = field(default_factory=lambda: Bounded(logger, logging.WARNING, REFUSALS))

    def __post_init__(self) -> None:
        self.small = min(self.target_max, self.header_max)

    def make_room(self, newcomer: "GuardedProtocol") -> bool:
        """Close those who have kept the worker waiting for longest; False when nobody does.

        An eighth of all at once, since to find them is a look at each.
        """
        others = [(c.state(), c) for c in _guarded(newcomer.connections) if c is not newcomer]
        waiting = [(state, connection) for state, connection in others if state[0] < BUSY]
        for _, connection in heapq.nsmallest(1 + self.connections // 8, waiting, key=lambda pair: pair[0]):
            self._close(connection, f"more than {self.connections} connections")
        return bool(waiting)

    def look(self, connections: Collection[Any], now: float) -> None:
        """Once a second, close who has kept the worker waiting for too long, and tell how many were closed."""
        late = now - self._next_look
        if late < 0:
            return
        self._next_look = now + 1
        if late > self.header_timeout / 2:
            return  # the application kept the loop busy: what clients have sent meanwhile is to be read first
        awaited = []
        for connection in _guarded(connections):
            state, since = connection.state()
            if state == AWAITED:
                awaited.append((since, connection))
            elif connection.is_stuck(now):
                self._close(connection, f"nothing sent or taken for {PATIENCE} s")
        held = sum(connection.size for _, connection in awaited)
        for since, connection in sorted(awaited, key=lambda pair: pair[0]):
            if now - since > self.header_timeout:
                self._close(connection, f"no request within {self.header_timeout:g} s")
            elif held > HELD:
                self._close(connection, f"incomplete requests of more than {HELD} bytes")
            else:
                break
            held -= connection.size
        self._tell()

    def _close(self, connection: "GuardedProtocol", reason: str) -> None:
        self._closed[reason, connection.client[0] if connection.client else "-"] += 1
        connection.connections.discard(connection)
        connection.transport.abort()

    def _tell(self) -> None:
        """One record for each reason, with the client whom it happened to most."""
        for reason in {reason for reason, _ in self._closed}:
            hosts = Counter({host: count for (why, host), count in self._closed.items() if why == reason})
            host, count = hosts.most_common(1)[0]
            logger.warning("Closed %d connection(s), %d of %s: %s", hosts.total(), count, host, reason)
        self._closed.clear()


def _guarded(connections: Collection[Any]) -> "list[GuardedProtocol]":
    """All but the WebSockets, which have rules of their own."""
    return [connection for connection in connections if isinstance(connection, GuardedProtocol)]


class GuardedProtocol(HttpToolsProtocol):
    """One connection. ``size``: bytes received since the last head was complete, or the last piece of a body."""

    # Beside the parent's 28 attributes: above 30 Python gives up what makes the access to them fast.
    __slots__ = (
        "_awaited",
        "_body",
        "_deaf",
        "_read",
        "_received",
        "_taken",
        "_telling",
        "_uncounted",
        "_untaken",
        "guard",
        "size",
    )

    def __init__(self, guard: Guard, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.guard = guard
        self.size = 0
        self.url = b""
        self.headers = []
        self._deaf = False
        # How many bytes were received last, and when something may not have been counted, for it came with the
        # end of something else.
        self._read = self._uncounted = 0
        self._telling: list[tuple[bytes, bytes]] = []
        self._body = 0
        # Times of the loop: since when a head is awaited, None while none is; when something was received; when
        # the client was seen to have taken something.
        self._awaited: float | None = None
        self._received = self._taken = 0.0
        self._untaken = 0

    def state(self) -> tuple[int, float]:
        """What the connection is, and since when."""
        if self._awaited is not None:
            return AWAITED, self._awaited
        if self.timeout_keep_alive_task is not None:
            return IDLE, self._received
        if self._owes_body() or self.transport.get_write_buffer_size():
            return SLOW, max(self._received, self._taken)
        return BUSY, self._received

    def is_stuck(self, now: float) -> bool:
        """Whether a body or an answer has made no progress for too long, as far as the client is to blame."""
        untaken = self.transport.get_write_buffer_size()
        if untaken != self._untaken:
            self._untaken, self._taken = untaken, now
        late = now - PATIENCE
        return (untaken > 0 and self._taken < late) or (self._received < late and self._owes_body())

    def _owes_body(self) -> bool:
        cycle = self.cycle
        if cycle is None or cycle.response_complete or not cycle.more_body:
            return False
        return not self.flow.read_paused and not cycle.waiting_for_100_continue

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A head is awaited from now on, if there is room for one more connection."""
        super().connection_made(transport)
        self._awaited = self._received = self._taken = self.loop.time()
        if len(self.connections) > self.guard.connections and not self.guard.make_room(self):
            self._refuse(503, f"more than {self.guard.connections} connections")

    def data_received(self, data: bytes) -> None:
        """As the parent's, but that it refuses by itself."""
        if self._deaf:
            return
        self._received = self.loop.time()
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
            self._awaited = self._received
        self._read = len(data)
        self.size += self._read
        try:
            self.parser.feed_data(data)
            if self.size:
                self._check_size(self.size)
        except httptools.HttpParserUpgrade:
            if not self._should_upgrade():
                self._unsupported_upgrade_warning()
                # Answered as if not asked for; but httptools has lost track of what follows.
                self._deaf = True
                self._after(self.cycle, b"")
            elif self.cycle is not None and not self.cycle.response_complete:
                self._refuse(400, "an upgrade before the last request is answered")
            else:
                self.handle_websocket_upgrade()
        except Refusal as refusal:
            self._refuse(refusal.status, str(refusal))
        except httptools.HttpParserError as error:
            cause = error.__context__ or error
            self._refuse(cause.status if isinstance(cause, Refusal) else 400, str(cause))

    # --- What httptools calls ---------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """As the parent's, with an eye on what says whom a request is for and where it ends."""
        name = name.lower()
        if name in TELLING:
            self._telling.append((name, value))
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The application gets the request, if it is not too large and has one meaning."""
        guard, url = self.guard, self.url
        if self.size + self._uncounted > guard.small or len(self.headers) > guard.headers_max:
            self._check_size(sum(len(name) + len(value) + 4 for name, value in self.headers))
        version = self.parser.get_http_version()
        if self._telling != guard.usual or version != "1.1":
            self._check_framing(version, dict(self._telling))
        if url[0] != SLASH or b"#" in url:
            self._check_target()
        if self.pipeline and len(self.pipeline) >= PIPELINED:
            raise Refusal(400, f"more than {PIPELINED} requests before the first is answered")
        super().on_headers_complete()
        self.size, self._uncounted = 0, self._read
        self._awaited = None
        self._body = 0
        if len(self._telling) > 1 and not self.parser.should_upgrade():
            self.headers = []  # trailers are no headers: a proxy lets them pass unseen
        self._telling = []

    def on_body(self, body: bytes) -> None:
        """As the parent's, within the bound."""
        self.size, self._uncounted = 0, self._read
        self._body += len(body)
        if 0 < self.guard.body_max < self._body:
            raise Refusal(413, f"a body of more than {self.guard.body_max} bytes")
        super().on_body(body)

    # --- What is refused --------------------------------------------------------------------------

    def _check_size(self, size: int) -> None:
        """Refuse a head that is too large as far as it is there, or as much of anything else but a body."""
        guard = self.guard
        if len(self.url) > guard.target_max:
            raise Refusal(414, f"an address of more than {guard.target_max} bytes")
        if len(self.headers) > guard.headers_max:
            raise Refusal(431, f"more than {guard.headers_max} headers")
        if size > guard.header_max:
            raise Refusal(431, f"headers of more than {guard.header_max} bytes")

    def _check_framing(self, version: str, telling: dict[bytes, bytes]) -> None:
        """Refuse what does not say clearly whom it is for or where it ends."""
        if version not in ("1.1", "1.0"):
            raise Refusal(505, f"HTTP {version}")
        if len(telling) < len(self._telling):
            raise Refusal(400, "two headers host, content-length, transfer-encoding or expect")
        if version == "1.1" and b"host" not in telling:
            raise Refusal(400, "no header host")
        if not HOST.fullmatch(telling.get(b"host", b"")):
            raise Refusal(400, "an invalid header host")
        coding = telling.get(b"transfer-encoding")
        if coding is not None and (version == "1.0" or coding.strip().lower() != b"chunked"):
            raise Refusal(400, "a transfer-encoding other than chunked")
        length = int(telling.get(b"content-length", 0))
        if 0 < self.guard.body_max < length:
            raise Refusal(413, f"a body of more than {self.guard.body_max} bytes")
        if (length or coding) and self.parser.should_upgrade():
            raise Refusal(400, "a body beside an upgrade")
        if version == "1.1" and list(telling) == [b"host"]:
            self.guard.usual = self._telling

    def _check_target(self) -> None:
        """Refuse all but ``OPTIONS *`` and the address of this host with its scheme, as proxies send it."""
        host, method = dict(self._telling).get(b"host"), self.parser.get_method()
        if method == b"CONNECT":
            raise Refusal(501, "CONNECT is for proxies")
        absolute = ABSOLUTE.fullmatch(self.url)
        if absolute is None and (method, self.url) != (b"OPTIONS", b"*"):
            raise Refusal(400, "neither a path nor an address")
        if absolute is not None and host is not None and absolute[1].lower() != host.lower():
            raise Refusal(400, "an address of another host")

    def _refuse(self, status: int, reason: str) -> None:
        """Listen no more. Answer, unless the answer could be taken for that to another request."""
        self._deaf = True
        host, port = self.client or ("-", "-")
        self.guard.refused.log(str(host), "%s:%s - Refused with %d: %.200s", host, port, status, reason)
        answer = _answer(status, reason.encode(), self.server_state.default_headers)
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._end(answer)
        elif not cycle.more_body:
            self._after(cycle, answer)
        elif cycle.response_started or self.pipeline:
            self.transport.close()
        else:
            cycle.disconnected = True
            cycle.message_event.set()
            self._end(answer)

    def _after(self, cycle: Any, answer: bytes) -> None:
        """End the connection when this request is answered, which was asked before."""

        def end() -> None:
            self.on_response_complete()
            self._end(answer)

        cycle.on_response = end

    def _end(self, answer: bytes) -> None:
        """Say the last words and leave the rest to the client, for a while: to close with bytes unread would
        take them from it."""
        if self.transport.is_closing():
            return
        self.transport.write(answer)
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._unset_keepalive_if_required()
            self._awaited = self.loop.time()
        else:
            self.transport.close()


def _answer(status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """A whole answer, the last one of its connection."""
    own = [(b"connection", b"close"), (b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    lines = b"".join([b"%b: %b\r\n" % header for header in [*headers, *own]])
    return b"%b%b\r\n%b" % (STATUS_LINE[status], lines, body)
