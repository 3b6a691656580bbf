"""An application that keeps what it was told to keep, and takes what it may not have."""

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from version import VERSION

KEPT = Path(os.environ["HOME"], "kept")
TOKEN = Path(os.environ["CREDENTIALS_DIRECTORY"], "token")


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """A start that can be interrupted."""
    await asyncio.sleep(0.5)
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
def version() -> dict[str, str]:
    """Which version this is, and of which one its secret is."""
    return {"version": VERSION, "secret": TOKEN.read_text()}


@app.get("/healthz")
async def healthz() -> str:
    """That it serves."""
    return "ok"


@app.post("/keep")
def keep(word: str) -> str:
    """Answers when the word is on the disk."""
    descriptor = os.open(KEPT, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{word}\n".encode())
    os.fsync(descriptor)
    os.close(descriptor)
    directory = os.open(KEPT.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    return word


@app.get("/kept", response_class=PlainTextResponse)
def kept() -> str:
    """All words that are kept."""
    return KEPT.read_text() if KEPT.exists() else ""


@app.post("/leak")
def leak(mebibytes: int) -> int:
    """Take memory and keep it."""
    return len([b"x" * 2**20 for _ in range(mebibytes)])


@app.post("/burn")
def burn(seconds: float) -> float:
    """Use a CPU for so long; how many seconds of it were had."""
    end, begin = time.monotonic() + seconds, time.process_time()
    while time.monotonic() < end:
        pass
    return time.process_time() - begin


@app.post("/bomb")
def bomb(most: int) -> dict[str, int | str]:
    """Start processes until one is refused; how many there were, and why no more."""
    there: list[subprocess.Popen[bytes]] = []
    error = ""
    try:
        while len(there) < most:
            there.append(subprocess.Popen(["/bin/sleep", "2"]))
    except OSError as refused:
        error = refused.strerror or ""
    for process in there:
        process.wait()
    return {"started": len(there), "error": error}
