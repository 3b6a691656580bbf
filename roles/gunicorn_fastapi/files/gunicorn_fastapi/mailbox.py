"""What waits for the application of a WebSocket: one message at a time, and in the end why there will be no more."""

import asyncio
import sys
from collections.abc import MutableMapping
from typing import Any

from gunicorn_fastapi import frames

Message = MutableMapping[str, Any]


class ClientDisconnected(OSError):  # noqa: N818 (uvicorn's name)
    """Raised in the application when it sends to a client that has gone."""


class Mailbox:
    """``message``: the one that waits. ``size``: what it takes of memory, in bytes. ``end``: what comes last."""

    __slots__ = ("_arrived", "end", "message", "size")

    def __init__(self) -> None:
        self.message: Message | None = None
        self.size = 0
        self.end: Message | None = None
        self._arrived = asyncio.Event()

    def put(self, opcode: int, payload: bytes) -> None:
        """Take a message; raises ``FrameError`` for a text that is none."""
        key, data = ("text", frames.decode(payload)) if opcode == frames.TEXT else ("bytes", payload)
        self.message, self.size = {"type": "websocket.receive", key: data}, sys.getsizeof(data)
        self._arrived.set()

    def close(self, code: int, reason: str) -> None:
        """There will be no more. What was said of that first counts."""
        if self.end is None:
            self.end = {"type": "websocket.disconnect", "code": code, "reason": reason}
        self._arrived.set()

    def clear(self) -> None:
        """Forget the message."""
        self.message, self.size = None, 0

    async def take(self) -> Message:
        """The next message, or the end. If it is there already, others have their turn before it: a client that sends
        thousands at once would keep the loop to itself."""
        if self.message is not None:
            await asyncio.sleep(0)
        while (message := self.message or self.end) is None:
            self._arrived.clear()
            await self._arrived.wait()
        self.clear()
        return message
