"""An ASGI application that keeps its own count: the witness in the tests of the worker.

Its directory is ``COUNTING_APP_DIRECTORY``. Each request to ``/`` leaves one byte in ``GET`` or
``POST`` there, in one ``write`` to a file opened for appending, so any number of processes can count.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

DIRECTORY = Path(os.environ["COUNTING_APP_DIRECTORY"])


def note(name: str) -> None:
    """Leave one more byte in the file ``name``."""
    descriptor = os.open(DIRECTORY / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, b".")
    os.close(descriptor)


async def answer(send: Send, body: bytes) -> None:
    """Answer 200 with ``body`` and this process's id."""
    headers = [(b"x-pid", b"%d" % os.getpid()), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    """Read the whole body, count the request, send the body back."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    note(scope["method"])
    await answer(send, body)


def wait_for_go() -> None:
    """Return when the file ``go`` is there, or after a minute."""
    end = time.monotonic() + 60
    while not (DIRECTORY / "go").exists() and time.monotonic() < end:
        time.sleep(0.02)


async def stream(send: Send) -> None:
    """Announce eight bytes, send ``begin`` at once and ``end`` when told to go."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8")]})
    await send({"type": "http.response.body", "body": b"begin", "more_body": True})
    await asyncio.to_thread(wait_for_go)
    await send({"type": "http.response.body", "body": b"end"})


async def endless(send: Send) -> None:
    """Send ``begin`` and never end; note the cancellation."""
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"begin", "more_body": True})
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        note("cancelled")
        raise


async def late(send: Send) -> None:
    """Send nothing before being told to go."""
    note("late")
    await asyncio.to_thread(wait_for_go)
    await answer(send, b"late")


async def websocket(receive: Receive, send: Send) -> None:
    """Echo until the client or the server ends it; note the code that the application is told."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
    note(f"websocket-{message['code']}")


async def lifespan(receive: Receive, send: Send) -> None:
    """Report start and shutdown as done."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """One handler for each path, ``echo`` for any other, and a WebSocket anywhere."""
    handlers = {"/stream": stream, "/endless": endless, "/late": late}
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await websocket(receive, send)
    elif handler := handlers.get(scope["path"]):
        await handler(send)
    else:
        await echo(scope, receive, send)
