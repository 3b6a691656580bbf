"""An ASGI application that says what it was asked: the witness against requests with two meanings.

Each request, once its body is complete, is a line of the file ``ECHO_FILE`` and the answer's body: method,
path and length of the body. Headers of the answer say what the application believes about its client.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def note(line: str) -> None:
    """Append a line to the file, in one ``write``."""
    if path := os.environ.get("ECHO_FILE"):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{line}\n".encode())
        os.close(descriptor)


async def http(scope: Message, receive: Receive, send: Send) -> None:
    """Read the body, note and answer: ``/large`` as many bytes as the query says, ``/wait`` in a second.

    ``/block`` keeps everybody waiting for three seconds.
    """
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    line = f"{scope['method']} {scope['path']} {length}"
    note(line)
    if scope["path"] == "/wait":
        await asyncio.sleep(1)
    if scope["path"] == "/block":
        time.sleep(3)  # noqa: ASYNC251 (on purpose)
    body = b"x" * int(scope["query_string"]) if scope["path"] == "/large" else line.encode()
    names = b" ".join(sorted(name for name, _ in scope["headers"]))
    client = scope["client"][0] if scope["client"] else ""
    headers = [
        (b"content-length", b"%d" % len(body)),
        (b"x-client", client.encode()),
        (b"x-scheme", scope["scheme"].encode()),
        (b"x-names", names),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def websocket(receive: Receive, send: Send) -> None:
    """Echo until the client leaves."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """One handler for each kind of scope."""
    if scope["type"] == "http":
        await http(scope, receive, send)
    elif scope["type"] == "websocket":
        await websocket(receive, send)
    else:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
