"""An application that says something in every way there is, and ends in the bad ones."""

import asyncio
import logging
import os
import signal
import threading

from fastapi import FastAPI, Response

logger = logging.getLogger("shop.orders")

if os.environ.get("CRASH") == "import":
    raise RuntimeError("the module raises on import")

app = FastAPI()


@app.get("/")
async def hello() -> None:
    """Answer ``null``."""


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer 2xx while this process serves."""
    return {"status": "ok"}


@app.get("/answer/{status}")
async def answer(status: int) -> Response:
    """Answer with a status, on purpose."""
    return Response(status_code=status)


@app.get("/log/{level}")
async def log(level: str, text: str) -> None:
    """Log the client's text."""
    logger.log(logging.getLevelNamesMapping()[level.upper()], "%s", text)


@app.get("/thread")
def in_a_thread(text: str) -> None:
    """Log from the thread that FastAPI runs this in."""
    logger.info("%s", text)


@app.get("/long")
async def long(size: int) -> None:
    """Log a long message."""
    logger.info("long %s", "x" * size)


@app.get("/print")
async def print_it(text: str) -> None:
    """Print instead of logging."""
    print(text)


@app.get("/slow")
async def slow(seconds: float) -> None:
    """Answer late."""
    await asyncio.sleep(seconds)


@app.get("/raise")
async def raise_it(text: str) -> None:
    """Fail in the handler."""
    raise RuntimeError(text)


@app.get("/raise-in-thread")
async def raise_in_thread(text: str) -> None:
    """Fail in a thread of the application's own."""

    def fail() -> None:
        raise RuntimeError(text)

    threading.Thread(target=fail).start()


@app.get("/die/{number}")
async def die(number: str, text: str) -> None:
    """Log an error and end by a signal at once, as a bug in a C library or the kernel's OOM killer would."""
    logger.error("%s", text)
    os.kill(os.getpid(), signal.Signals[number])
