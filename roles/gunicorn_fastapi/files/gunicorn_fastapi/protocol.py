"""HTTP for clients that nobody knows: what each may take up is bounded, and what it says has one meaning.

uvicorn's protocol for httptools waits forever for a request's headers, takes any number of them of any size, and
keeps any number of connections. The one here refuses what is too large (413, 414, 431) or has two meanings, closes who
keeps the worker waiting, makes room for newcomers when it is full, and answers what it has received whole, in order,
whatever comes after it.

A refusal is one record with the client's address; of many in a second the rest is told as a number. So are closed
connections, once a second.
"""

from typing import Any

import httptools

from gunicorn_fastapi import framing, handshake
from gunicorn_fastapi.connection import Answering
from gunicorn_fastapi.framing import Refusal
from gunicorn_fastapi.guard import Guard
from gunicorn_fastapi.websocket import WebSocketProtocol

PIPELINED = 100
"""Requests of one connection that may wait for the answer to one before them."""

SMALL = 4096
"""Bytes between two pieces of a body, or of trailers, that are not worth counting."""

LINE = 32
"""Bytes that are no headers: of a first line beside its address, of a last chunk, of the line that ends a head."""

SLASH = ord("/")

REST = 64 * 1024 * 1024
"""Bytes of a body that is too large that are read from a proxy before it is refused. A proxy that is answered earlier
answers its client and closes on it, whoever reads, and what the client goes on sending takes the answer from it: Caddy
after half a second."""


class GuardedProtocol(Answering):
    """One connection. ``size``: bytes received since the last head was complete, or the last piece of a body."""

    __slots__ = (
        "_body",
        "_data",
        "_excess",
        "_handshake",
        "_head",
        "_looked_at",
        "_offered",
        "_read",
        "_rest",
        "_taken",
        "_telling",
        "_trailers",
        "_trailing",
        "_uncounted",
        "size",
    )

    def __init__(self, guard: Guard, **arguments: Any) -> None:
        super().__init__(guard, **arguments)
        self.size = 0
        self.url = b""
        self.headers = []
        # How many bytes were received last, and when something may not have been counted, for it came with the
        # end of something else.
        self._read = self._uncounted = 0
        # How much of that was bodies, and what is kept of trailers.
        self._taken = self._rest = 0
        # What was read before of a head that came in pieces; a bytearray when something was.
        self._head: bytes | bytearray = b""
        # That of the last request whose first line has ended; each has its own.
        self._looked_at: Any = None
        self._telling: list[tuple[bytes, bytes]] = []
        self._body = self._trailers = self._trailing = 0
        # Why the request is refused whose body is still read.
        self._excess: Refusal | None = None
        # The headers of a request that offers to speak something else, and what one says that is taken at its word.
        self._offered: list[tuple[bytes, bytes]] | None = None
        self._handshake: handshake.Values | None = None

    def release(self) -> None:
        """Forget the head that is being read."""
        if self._head or self._rest:
            self.guard.heads.keep(self, 0)
            self._head, self._rest = b"", 0

    def is_awaited(self) -> bool:
        """Whether a part of a request is there, and the rest is awaited in time."""
        return "method" not in self.scope and bool(self.size) and not self._deaf

    # --- What the transport calls -----------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """As the parent's, but that it refuses by itself."""
        if self._deaf:
            return
        self._received = self.loop.time()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task = None
            if not self._reading:
                self._awaited = self._received
        self._read, self._taken = len(data), 0
        self.size += self._read
        try:
            self._feed(data)
            if self.size:
                self._check_size(self.size - len(self.url) - LINE)
        except Refusal as refusal:
            self._refuse(refusal)
        except httptools.HttpParserError as error:
            cause = error.__context__ or error
            self._refuse(cause if isinstance(cause, Refusal) else Refusal(400, "a malformed request"))
        # More than headers and bodies: trailers whose end is awaited.
        rest = max(self.size, self._read - self._taken) if self._reading else 0
        if self._head or "method" not in self.scope or rest > SMALL or self._rest:
            self._keep(data, rest)

    def _feed(self, data: bytes) -> None:
        """Read requests. One that offers to speak something else than HTTP is read again without the offer."""
        at = 0
        is_plain = not self._head and framing.FOREIGN not in data
        while at < len(data):
            end = len(data) if is_plain else framing.piece_end(data, at, in_line=not at and bool(self._head))
            piece = data[at:end]
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade as upgrade:
                rest = data[at + upgrade.args[0] :]
                if self._handshake is not None:
                    self._become_websocket(rest)
                    return
                data, at = self._without_offer() + rest, 0
            else:
                if not is_plain or "method" not in self.scope:
                    begun = not at and self._head
                    self._check_line(bytes(begun[begun.rfind(b"\n") + 1 :]) + piece if begun else piece)
                at = end

    def _without_offer(self) -> bytes:
        """The head that has been read, once more and without its offer, for a parser that has read nothing yet."""
        parser, self._offered = self.parser, self.headers
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._telling = []
        return framing.without_offer(parser.get_method(), self.url, parser.get_http_version(), self.headers)

    def _keep(self, data: bytes, rest: int) -> None:
        """Count what is kept of a head in pieces, or of trailers. The bound for all clients holds at once."""
        if self._deaf or "method" in self.scope:
            self.release()
            self._rest = rest if rest > SMALL and not self._deaf else 0
        else:
            self._head = self._head or bytearray()
            self._head += data
        # Once as it came, once as it was understood.
        self.guard.heads.keep(self, 2 * (len(self._head) + self._rest))
        self.guard.shed()

    # --- What httptools calls ---------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """As the parent's, with an eye on what says whom a request is for and where it ends."""
        name = name.lower()
        if self._reading:
            self._check_trailer(name, value)
            return
        if name in framing.TELLING:
            self._telling.append((name, value))
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The application gets the request, if it is not too large and has one meaning."""
        guard, url, parser = self.guard, self.url, self.parser
        version, upgrade = parser.get_http_version(), parser.should_upgrade()
        if upgrade and not self._is_handshake(version):
            if parser.get_method() == b"CONNECT":
                framing.check_target(b"CONNECT", url, None)
            return
        if self._offered is not None:
            self.headers[:], self._offered = self._offered, None
        if self.size + self._uncounted > guard.small or len(self.headers) > guard.headers_max:
            self._check_size(sum(len(name) + len(value) + 4 for name, value in self.headers))
        telling = self._telling
        excess: Refusal | None = None
        if telling != guard.usual or version != "1.1" or upgrade:
            try:
                has_body = framing.check_framing(version, telling, guard.body_max)
            except Refusal as refusal:
                if refusal.status != 413 or not self._is_read_on(int(dict(telling).get(b"content-length", 0))):
                    raise
                excess, has_body = refusal, True
            if has_body and upgrade:
                raise Refusal(400, "a body beside an upgrade")
            if version == "1.0":
                self.expect_100_continue = False
            elif len(telling) == 1:
                guard.usual = telling
        method = parser.get_method()
        if url[0] != SLASH or b"#" in url:
            framing.check_target(method, url, dict(telling).get(b"host"))
        if method == framing.ICE:
            raise Refusal(501, "SOURCE is for streams")
        if self.pipeline and len(self.pipeline) >= PIPELINED:
            raise Refusal(400, f"more than {PIPELINED} requests before the first is answered")
        if upgrade:
            self._check_handshake()
            return
        self._excess = None
        if excess is None:
            super().on_headers_complete()
        else:
            app, self.app = self.app, _nobody
            super().on_headers_complete()
            self.app = app
            self._exceed(excess)
        if not self.pipeline:
            self._running = self.cycle
            if self.leaves:
                self.cycle.default_headers = [*self.server_state.default_headers, framing.CLOSE]
        elif self.leaves and self._running is not None and not self._running.response_started:
            self._running.default_headers = self.server_state.default_headers  # this one is owed an answer, too
        self.size, self._uncounted = 0, self._read
        self._awaited = None
        self._body = 0
        self._reading = True
        self._telling = []

    def on_body(self, body: bytes) -> None:
        """As the parent's, within the bound."""
        self.size, self._uncounted = 0, self._read
        self._taken += len(body)
        self._body += len(body)
        bound = self.guard.body_max
        if self._excess is None and 0 < bound < self._body:
            refusal = Refusal(413, f"a body of more than {bound} bytes")
            if self.pipeline or self.cycle.response_started or not self.guard.is_proxy(self.client):
                raise refusal
            self._exceed(refusal)
        if self._excess is None:
            super().on_body(body)
        elif self._body > bound + REST:
            raise self._excess

    def on_message_complete(self) -> None:
        """As the parent's; nothing of the message is left."""
        if not self._reading:
            return
        if self._excess is not None:
            raise self._excess
        self._reading = False
        self._trailers = self._trailing = 0
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()
        elif not self.transport.is_closing() and self.timeout_keep_alive_task is None:
            # Answered before it was read.
            self._be_idle()

    # --- WebSockets -------------------------------------------------------------------------------

    def _is_handshake(self, version: str) -> bool:
        """Whether the upgrade that a request offers is one that is understood. All others are ignored."""
        offers = [value.strip().lower() for name, value in self.headers if name == b"upgrade"]
        is_get = version == "1.1" and self.parser.get_method() == b"GET"
        return is_get and offers == [b"websocket"] and self.ws_protocol_class is not None

    def _check_handshake(self) -> None:
        if self._running is not None and not self._running.response_complete:
            raise Refusal(400, "an upgrade before the last request is answered")
        self._handshake = handshake.check(self.headers)
        if not self.guard.admits_websocket():
            raise Refusal(503, "more than three quarters of the connections are WebSockets")

    def _become_websocket(self, rest: bytes) -> None:
        """Hand the connection over, with what was received after the handshake."""
        url = httptools.parse_url(self.url)
        self.scope |= {"raw_path": url.path, "query_string": url.query or b"", "headers": self.headers}
        values, self._handshake = self._handshake, None
        assert values is not None
        self._deaf = True
        self._forget_alarm()
        self.guard.forget(self)
        self.connections.discard(self)
        self.parser = None  # type: ignore[assignment]
        WebSocketProtocol(self, values).begin(rest)

    # --- What is refused --------------------------------------------------------------------------

    def _is_read_on(self, length: int) -> bool:
        """Whether a body that is announced as too large is read before it is refused."""
        if self.expect_100_continue or self.pipeline or not self.guard.is_proxy(self.client):
            return False
        is_alone = self._running is None or self._running.response_complete
        return bool(is_alone) and length <= self.guard.body_max + REST

    def _exceed(self, refusal: Refusal) -> None:
        """Read on for nobody, and refuse at the end. An application that has begun is told that the client has left."""
        self._excess = refusal
        cycle: Any = self.cycle
        cycle.disconnected, cycle.refused = True, refusal.status
        cycle.message_event.set()
        self.flow.resume_reading()

    def _check_size(self, size: int) -> None:
        """Refuse a head that is too large as far as it is there, or as much of anything else but a body."""
        guard = self.guard
        if len(self.url) > guard.target_max:
            raise Refusal(414, f"an address of more than {guard.target_max} bytes")
        if len(self.headers) > guard.headers_max:
            raise Refusal(431, f"more than {guard.headers_max} headers")
        if size > guard.header_max:
            raise Refusal(431, f"headers of more than {guard.header_max} bytes")

    def _check_trailer(self, name: bytes, value: bytes) -> None:
        """Trailers have the bounds of headers, and are dropped: a proxy lets them pass unseen."""
        self._trailers += 1
        self._trailing += len(name) + len(value) + 4
        if name in framing.OBEYED:
            raise Refusal(400, "a trailer that says how a message ends")
        if self._trailers > self.guard.headers_max:
            raise Refusal(431, f"more than {self.guard.headers_max} trailers")
        if self._trailing > self.guard.header_max:
            raise Refusal(431, f"trailers of more than {self.guard.header_max} bytes")

    def _check_line(self, line: bytes) -> None:
        """Look at the end of what has just been parsed, in case it is the first line of a request, and whole."""
        if line.endswith(b"\n") and self._looked_at is not self.scope:
            self._looked_at = self.scope
            if framing.FOREIGN in line and self.url and not self.headers and "method" not in self.scope:
                framing.check_protocol(self.parser.get_method(), self.url, line)


async def _nobody(_scope: Any, _receive: Any, _send: Any) -> None:
    """In place of the application, for a request that it does not get."""
