"""An application that counts what it answers: the witness in the scenarios about releases.

Each answer to ``/`` and ``/echo`` names its release and leaves one byte in the file METHOD-RELEASE
of the state directory, in one ``write`` to a file opened for appending, so any number of processes
can count. ``BREAK`` in the environment breaks it (see ``broken.py``).
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import broken
from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import StreamingResponse
from version import VERSION

NAME = os.environ.get("RELEASE_NAME", VERSION)
STATE = Path(os.environ["HOME"])

broken.at_import()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Start, as slowly or badly as the environment says."""
    await asyncio.sleep(float(os.environ.get("BOOT_SECONDS", "0")))
    await broken.at_start()
    yield


app = FastAPI(lifespan=lifespan)


def counted(method: str, body: bytes) -> Response:
    """Answer with ``body``, and count it under this release."""
    descriptor = os.open(STATE / f"{method}-{NAME}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, b".")
    os.close(descriptor)
    return Response(body, headers={"x-release": NAME})


@app.get("/")
async def hello() -> Response:
    """Say which release this is."""
    return counted("GET", NAME.encode())


@app.post("/echo")
async def echo(request: Request) -> Response:
    """Send the body back."""
    return counted("POST", await request.body())


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer 2xx while this process serves."""
    await broken.at_health()
    return {"status": "ok"}


@app.get("/stream")
async def stream(seconds: int) -> StreamingResponse:
    """One line a second. Its end is announced, so a stop leaves it its time."""
    lines = [*(f"{NAME} {number}\n" for number in range(seconds)), "end\n"]

    async def body() -> AsyncIterator[str]:
        for line in lines[:-1]:
            yield line
            await asyncio.sleep(1)
        yield lines[-1]

    return StreamingResponse(body(), media_type="text/plain", headers={"content-length": str(sum(map(len, lines)))})


@app.websocket("/ws")
async def websocket(socket: WebSocket) -> None:
    """Send back what comes, until either side ends it."""
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)
