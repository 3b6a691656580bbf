"""WebSockets for clients that nobody knows, with the bounds that HTTP has beside it.

uvicorn's take 16 MiB from each client at once, keep them until Python's collector runs, and have no time for what is
begun and not ended. Here one message waits for the application at a time, what is kept for all clients together is
bounded, and a closed connection keeps nothing.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from gunicorn_fastapi import frames, handshake
from gunicorn_fastapi.frames import BINARY, CLOSE, PING, PONG, TEXT, Deflate, FrameError, Frames
from gunicorn_fastapi.guard import AWAITED, BUSY, SLOW
from gunicorn_fastapi.mailbox import ClientDisconnected, Mailbox, Message
from gunicorn_fastapi.progress import Progress, has_hung_up

if TYPE_CHECKING:
    from gunicorn_fastapi.connection import Answering

logger = logging.getLogger("uvicorn.error")

CLOSING = 10
"""Seconds that a client has to close after a close frame."""

CONTROLS = 100
"""Control frames that a client may send in a second."""

EARLY = 64 * 1024
"""Bytes that are kept of a client that does not wait for the answer to its handshake."""


class WebSocketProtocol(asyncio.Protocol):
    """One connection, from its handshake on. ``handshake_complete``: the application has answered it."""

    def __init__(self, http: "Answering", values: handshake.Values) -> None:
        self.guard = http.guard
        self.loop = http.loop
        self.transport = http.transport
        self.connections: set[Any] = http.connections
        self.client, self.is_private = http.client, http.is_private
        self._app = http.app
        self.handshake_complete = False
        self._config = http.config
        self._server_state = http.server_state
        self._values = values
        self.scope = handshake.scope(http, values)
        offers = handshake.listed(values, b"sec-websocket-extensions")
        self._deflate: Deflate | None = None
        self._extensions = ""
        if self._config.ws_per_message_deflate and (agreed := Deflate.agree(offers)):
            self._deflate, self._extensions = agreed
        self._frames = Frames(self.guard.message_max, self._deflate)
        self._is_asked = self._is_refused = self._is_paused = self._is_lost = False
        self._mailbox = Mailbox()
        self._writable = asyncio.Event()
        self._writable.set()
        self._pong: bytes | None = None  # owed to a client that does not read
        self._controls = 0
        # Times of the loop: when something was received; since when the rest of a message is awaited, an answer to a
        # ping, and the client's end.
        self._received = self.loop.time()
        self._begun: float | None = None
        self._pinged: float | None = None
        self._closing: float | None = None
        self._progress = Progress(self.transport, self._received)

    def begin(self, early: bytes) -> None:
        """Take the connection over, and ask the application."""
        self.connections.add(self)
        self.guard.websockets.add(self)
        self.transport.set_protocol(self)
        tasks = self._server_state.tasks
        task = self.loop.create_task(self._run())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if early:
            self.data_received(early)

    # --- What the guard and the server ask --------------------------------------------------------

    def state(self) -> tuple[int, float]:
        """A WebSocket is the application's, unless the client owes something."""
        if self._closing is not None:
            return AWAITED, self._closing
        if self._begun is not None:
            return SLOW, self._begun
        if self.transport.get_write_buffer_size():
            return SLOW, self._progress.since
        return BUSY, self._received

    def overdue(self, now: float) -> str:
        """Once a second: why it has to go. Pings who has been silent."""
        self._controls = 0
        if self._is_paused and has_hung_up(self.transport):
            self.transport.abort()  # the loop, which reads nothing, would not notice
            return ""
        stall, is_untaken = self.guard.stall_timeout, self.transport.get_write_buffer_size() > 0
        if self._closing is not None:
            return f"no end within {CLOSING} s after a close frame" if now - self._closing > CLOSING else ""
        since = self._progress.look(is_untaken, now)
        if is_untaken and now - since > stall and not self.guard.may_stall(self.client):
            return f"slow client, no progress for {stall:g} s"
        if self._begun is not None and 0 < stall < now - self._begun:
            return f"no whole message within {stall:g} s"
        if is_untaken or self._is_paused or not self.handshake_complete:
            self._pinged = None  # nothing would be heard of the client
            return ""
        interval, timeout = self._config.ws_ping_interval, self._config.ws_ping_timeout
        if self._pinged is not None:
            return f"no answer to a ping within {timeout:g} s" if timeout and now - self._pinged > timeout else ""
        if interval and now - self._received > interval:
            self._pinged = now
            self.transport.write(frames.build(PING, b""))
        return ""

    def release(self) -> None:
        """Forget what was received."""
        self._frames = Frames(self.guard.message_max, None)
        self._mailbox.clear()
        self._begun = None
        self.guard.messages.keep(self, 0)

    def shutdown(self) -> None:
        """Called when the service stops, again and again."""
        if not self.handshake_complete:
            self._refuse(500)
        elif self._closing is None:
            self._close(1012, "")
        elif self.loop.time() - self._closing > 1:
            self.transport.abort()

    # --- What the transport calls -----------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's)
        """Nothing that was received is kept, whatever the application still has of this."""
        self.connections.discard(self)
        self.guard.forget(self)
        self._mailbox.close(1006, "")
        self.handshake_complete = self._is_lost = True
        self._deflate = None
        self._writable.set()

    def pause_writing(self) -> None:
        """The client does not take what it is sent. Nor is anything taken from it, then."""
        self._writable.clear()
        self._pause()

    def resume_writing(self) -> None:
        """The client has taken it."""
        self._writable.set()
        if self._pong is not None and self._closing is None:
            self.transport.write(frames.build(PONG, self._pong))
        self._pong = None
        self._pause()

    def data_received(self, data: bytes) -> None:
        """Up to one message is taken from it, the rest when the application has got that."""
        self._received, self._pinged = self.loop.time(), None
        if self._closing is not None:
            return
        self._frames.feed(data)
        if self.handshake_complete:
            self._proceed()
        elif self._frames.held > EARLY:
            self.fail(1009, f"more than {EARLY} bytes before the answer to the handshake")
        else:
            self._keep()

    # --- What the client says ---------------------------------------------------------------------

    def _proceed(self) -> None:
        """Read on, until a message waits for the application."""
        try:
            while (
                self._mailbox.message is None and self._closing is None and (frame := self._frames.next()) is not None
            ):
                self._take(*frame)
        except FrameError as error:
            self.fail(error.code, str(error))
        if self._closing is None:
            self._count()

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode in (TEXT, BINARY):
            self._mailbox.put(opcode, payload)
            self._begun = None
            return
        self._controls += 1
        if self._controls > CONTROLS:
            raise FrameError(1008, f"more than {CONTROLS} control frames in a second")
        if opcode == CLOSE:
            self._mailbox.close(*frames.read_close(payload))
            self._say_goodbye(frames.build(CLOSE, payload))
        elif opcode == PING and self._writable.is_set():
            self.transport.write(frames.build(PONG, payload))
        elif opcode == PING:
            self._pong = payload

    def _count(self) -> None:
        """Tell what is kept, and have those closed who have kept theirs for longest, if it is too much."""
        if self._mailbox.message is not None or not self._frames.is_unfinished:
            self._begun = None
        elif self._begun is None:
            self._begun = self.loop.time()
        self._pause()
        self._keep()

    def _keep(self) -> None:
        messages = self.guard.messages
        messages.keep(self, self._frames.held + self._mailbox.size)
        for connection in messages.too_many():
            connection.fail(1009, f"messages of all clients of more than {messages.bound} bytes")

    def _pause(self) -> None:
        """Read no more while a message waits for the application, or an answer for the client."""
        is_full = self._closing is None and (self._mailbox.message is not None or not self._writable.is_set())
        if is_full is not self._is_paused and not self.transport.is_closing():
            self._is_paused = is_full
            if is_full:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    # --- Ends -------------------------------------------------------------------------------------

    def fail(self, code: int, reason: str) -> None:
        """End a connection because of what the client did. No frame may come before the answer to the handshake."""
        how = f" with {code}" if self.handshake_complete else ""
        self.guard.warn(self.client, f"Closed{how}: {reason}")
        if self.handshake_complete:
            self._close(code, reason)
        else:
            self.transport.abort()

    def _close(self, code: int, reason: str) -> None:
        self._mailbox.close(code, reason)
        self._say_goodbye(frames.build_close(code, reason))

    def _say_goodbye(self, words: bytes) -> None:
        """Say the last words and leave the end to the client, for a while: to close with bytes unread would take
        them from it."""
        if self._closing is not None or self.transport.is_closing():
            return
        self.handshake_complete = True
        self._closing = self.loop.time()
        self.release()
        self._pause()
        self.transport.write(words)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def _refuse(self, status: int) -> None:
        """Answer the handshake with a status instead of accepting it."""
        handshake.log(self.scope, str(status))
        own = [(b"connection", b"close"), (b"content-length", b"0")]
        self._mailbox.close(1006, "")
        self._say_goodbye(handshake.head(status, [*self._server_headers(), *own]))

    # --- The application --------------------------------------------------------------------------

    async def _run(self) -> None:
        code = 1000
        try:
            await self._app(self.scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except asyncio.CancelledError:
            code = 1012
        except BaseException as error:
            code = 1011
            # Not the application's fault, but the way in which frameworks tell it.
            if self._mailbox.end is None or type(error).__name__ != "WebSocketDisconnect":
                logger.error("Exception in ASGI application\n", exc_info=error)
        if self._is_refused:
            self._say_goodbye(b"")
        elif self.handshake_complete:
            self._close(code, "")
        else:
            if code == 1000:
                handshake.log_unanswered(self.scope)
            self._refuse(500)

    async def receive(self) -> Message:
        """The next message. What follows it is looked at when the application has got it."""
        if not self._is_asked:
            self._is_asked = True
            return {"type": "websocket.connect"}
        message = await self._mailbox.take()
        if message is not self._mailbox.end and self._closing is None and not self._is_lost:
            self._proceed()
        return message

    async def send(self, message: Message) -> None:
        """Send what the application says, when the client has taken what was said before."""
        await self._writable.wait()
        kind = message["type"]
        if self._is_lost:
            raise ClientDisconnected
        if self._is_refused and kind == "websocket.http.response.body":
            self._answer(message)
        elif not self.handshake_complete:
            self._answer_handshake(kind, message)
        elif self._closing is not None:
            if kind != "websocket.close":
                raise ClientDisconnected
        elif kind == "websocket.send":
            self._send(message)
        elif kind == "websocket.close":
            self._close(message.get("code") or 1000, message.get("reason") or "")
        else:
            raise RuntimeError(f"Expected 'websocket.send' or 'websocket.close', but got {kind!r}.")

    def _send(self, message: Message) -> None:
        data, opcode = message.get("bytes"), BINARY
        if data is None:
            data, opcode = (message.get("text") or "").encode(), TEXT
        if self._deflate is not None:
            data = self._deflate.compress(data)
        self.transport.write(frames.build(opcode, data, is_compressed=self._deflate is not None))

    def _answer_handshake(self, kind: str, message: Message) -> None:
        if kind == "websocket.accept":
            headers = [*self._server_headers(), *message.get("headers", [])]
            answer = handshake.accepted(self._values, headers, self._extensions, message.get("subprotocol"))
            handshake.log(self.scope, "[accepted]")
            self.transport.write(answer)
            self.handshake_complete = True
            self._proceed()
        elif kind == "websocket.close":
            self._refuse(403)
        elif kind == "websocket.http.response.start":
            handshake.log(self.scope, str(message["status"]))
            headers = [*self._server_headers(), *message.get("headers", []), (b"connection", b"close")]
            self.transport.write(handshake.head(message["status"], headers))
            self.handshake_complete = self._is_refused = True
        else:
            raise RuntimeError(f"Expected 'websocket.accept' or an answer that refuses it, but got {kind!r}.")

    def _answer(self, message: Message) -> None:
        """The body of an answer that refuses the handshake; it ends with the connection."""
        self.transport.write(message.get("body", b""))
        if not message.get("more_body", False):
            self._mailbox.close(1006, "")
            self._say_goodbye(b"")

    def _server_headers(self) -> list[tuple[bytes, bytes]]:
        return [header for header in self._server_state.default_headers if header[0] != b"connection"]
