"""One connection of HTTP, apart from what is read of it: how long it may be what it is, which answers it owes, and how
it ends.

uvicorn knows the latest request of a connection alone, and closes when the client has said its last.
"""

import asyncio
import time
from typing import Any

from gunicorn_fastapi import counts, framing, peers, upstream
from gunicorn_fastapi.framing import Refusal
from gunicorn_fastapi.guard import AWAITED, BUSY, IDLE, SLOW, Guard
from gunicorn_fastapi.progress import Progress, has_hung_up
from gunicorn_fastapi.upstream import HttpToolsProtocol

SOON = 0.05
"""Seconds in which the loop reads what the kernel has."""


class Answering(HttpToolsProtocol):
    """What was received whole is answered, in order, whatever comes after it."""

    # The parent's attributes, too: in a dictionary, which each connection would have, Python finds them more slowly if
    # the class has slots or more than 30 attributes.
    __slots__ = (
        *upstream.ATTRIBUTES,
        "_alarm",
        "_awaited",
        "_deaf",
        "_idle",
        "_last",
        "_left",
        "_progress",
        "_reading",
        "_received",
        "_running",
        "guard",
        "is_private",
        "leaves",
        "peer",
    )

    def __init__(self, guard: Guard, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.guard = guard
        self.peer: Any = None  # as the kernel told it when the connection was accepted
        self.is_private = False  # by the address at which the control command asks
        self.leaves = False  # with the next answer
        self.scope: Any = {}
        # Whether nothing is listened to any more; whether the client has said its last.
        self._deaf = self._left = False
        # What is sent when all is answered that was asked before, and the connection then ends.
        self._last: bytes | None = None
        # The request that the application has. The parent's is the latest one, which may wait behind others.
        self._running: Any = None
        # Whether a message is being read whose head is complete.
        self._reading = False
        # Times of the loop: since when a head is awaited, None while none is; when something was received.
        self._awaited: float | None = None
        self._received = self._idle = 0.0
        # Made when it is looked at for the first time, which is once a second: most connections do not last so long.
        self._progress: Progress | None = None
        # The timer of a connection that is idle. The parent's name for it is None while the connection is not.
        self._alarm: asyncio.TimerHandle | None = None

    # --- What the guard asks ----------------------------------------------------------------------

    def state(self) -> tuple[int, float]:
        """What the connection is, and since when."""
        if self._awaited is not None:
            return AWAITED, self._awaited
        if self.timeout_keep_alive_task is not None:
            return IDLE, self._received
        if self._owes_body() or self._left or self.transport.get_write_buffer_size():
            return SLOW, max(self._received, self._progress.since if self._progress else 0)
        return BUSY, self._received

    def overdue(self, now: float) -> str:
        """Why the connection has to go: the client has been expected to send or to take something for too long."""
        if self._awaited is not None:
            timeout = self.guard.header_timeout
            return f"no request within {timeout:g} s" if now - self._awaited > timeout else ""
        is_waited_for = self.transport.get_write_buffer_size() > 0 or self._left
        if self._progress is None:
            self._progress = Progress(self.transport, now)
        since = self._progress.look(is_waited_for, now)
        late = now - self.guard.stall_timeout
        if (is_waited_for and max(since, self._received if self._left else 0) < late) or (
            self._received < late and self._owes_body()
        ):
            return (
                ""
                if self.guard.may_stall(self.client)
                else f"slow client, no progress for {self.guard.stall_timeout:g} s"
            )
        return ""

    def release(self) -> None:
        """Forget what was received."""

    def _owes_body(self) -> bool:
        if not self._reading or self._deaf or self.flow.read_paused:
            return False
        return self.cycle.response_complete or not self.cycle.waiting_for_100_continue

    # --- What the transport and the parent call ---------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A head is awaited from now on, if there is room for one more connection."""
        if isinstance(self.peer, tuple):
            upstream.connect(self, transport, self.peer[:2])
        else:
            super().connection_made(transport)
        self.client = peers.named(self.client, transport)
        self._awaited = self._received = self.loop.time()
        if reason := self.guard.admit(self, self._received):
            self._refuse(Refusal(503, reason))

    def connection_lost(self, exc: Exception | None) -> None:
        """The application is told, whichever request it is that it has."""
        self.guard.forget(self)
        running = self._running
        if running is not None and running is not self.cycle:
            running.disconnected = True
            running.message_event.set()
        if self.pipeline:
            self.pipeline.clear()
        if self._alarm is not None:
            self._forget_alarm()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that has said its last gets what it asked for, if it said all of it."""
        if self._reading:
            self._drop_latest()
        running = self._running
        if running is None or running.response_complete or running.more_body or not self.transport.can_write_eof():
            return False
        if self.client == peers.UNIX and has_hung_up(self.transport):
            return False
        self._deaf = self._left = True
        if self._last is None:
            self.cycle.keep_alive = False
        self._received = self.loop.time()
        return True

    def on_response_complete(self) -> None:
        """As the parent's, and the last words after the last answer."""
        if not self.is_private and (request := getattr(self._running, "request", None)) is not None:
            self.guard.ended(time.perf_counter() - request.start)
        if self._last is not None and not self.pipeline and not self.transport.is_closing():
            self.server_state.total_requests += 1
            self._end(self._last)
            return
        if self.pipeline:
            self._running = self.pipeline[-1][0]
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if not self._reading:  # otherwise its body is awaited first, and that has a time of its own
            self._be_idle()

    # --- Between two requests ---------------------------------------------------------------------

    def _be_idle(self) -> None:
        """The connection is idle from now on. A timer that is set and cancelled for each request, as the parent's is,
        takes 1.6 of the 20 us that a bare application takes: this one runs on, and looks when it ends."""
        self._idle = self.loop.time()
        if self._alarm is None:
            self._alarm = self.loop.call_later(self.timeout_keep_alive, self._look_idle)
        self.timeout_keep_alive_task = self._alarm

    def _look_idle(self) -> None:
        self._alarm = None
        if self.timeout_keep_alive_task is None:
            return
        rest = self._idle + self.timeout_keep_alive - self.loop.time()
        # A loop that was held up may learn of the time before it learns of a request that came in time.
        if rest <= 0 and not self.transport.is_closing() and upstream.has_unread_bytes(self):
            rest = SOON
        if rest > 0:
            self.timeout_keep_alive_task = self._alarm = self.loop.call_later(rest, self._look_idle)
        else:
            self.timeout_keep_alive_handler()

    def _unset_keepalive_if_required(self) -> None:
        """The connection is not idle any more."""
        self.timeout_keep_alive_task = None

    def _forget_alarm(self) -> None:
        self.timeout_keep_alive_task = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    # --- Ends -------------------------------------------------------------------------------------

    def _refuse(self, refusal: Refusal) -> None:
        """Listen no more. Answer, unless the answer could be taken for that to another request."""
        self._deaf = True
        self.guard.count(counts.REFUSED)
        self.guard.warn(self.client, f"Refused with {refusal.status}: {refusal}")
        answer = framing.answer(refusal, self.server_state.default_headers)
        if self._reading and not self._drop_latest():
            cycle: Any = self.cycle
            cycle.disconnected, cycle.refused = True, refusal.status
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
            else:
                self._end(answer)
        elif self._running is None or self._running.response_complete:
            self._end(answer)
        else:
            self._last = answer

    def _drop_latest(self) -> bool:
        """Forget a request that is not whole, if it only waited for others."""
        if not self.pipeline:
            return False
        self.pipeline.popleft()
        self.cycle = self.pipeline[0][0] if self.pipeline else self._running
        self._reading = False
        return True

    def _end(self, answer: bytes) -> None:
        """Say the last words and leave the rest to the client, for a while: to close with bytes unread would
        take them from it."""
        if self.transport.is_closing():
            return
        self.transport.write(answer)
        if self.transport.can_write_eof() and not self._left:
            self.transport.write_eof()
            self._unset_keepalive_if_required()
            self.flow.resume_reading()
            self._awaited = self.loop.time()
        else:
            self.transport.close()
