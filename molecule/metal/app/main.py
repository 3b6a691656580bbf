"""An application that keeps what it was told to keep, and takes what it may not have.

It is that of the scenarios about releases, too, which counts what it answers (witness.py).
"""

import os
import socket
import subprocess
import time
from pathlib import Path

from fastapi.responses import PlainTextResponse
from version import VERSION
from witness import app

KEPT = Path(os.environ["HOME"], "kept")
TOKEN = Path(os.environ["CREDENTIALS_DIRECTORY"], "token")


@app.get("/version")
def version() -> dict[str, str]:
    """Which version this is, and of which one its secret is."""
    return {"version": VERSION, "secret": TOKEN.read_text()}


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


@app.post("/connect")
def connect(host: str, port: int) -> str:
    """Connect to somebody; what comes of it."""
    try:
        socket.create_connection((host, port), 5).close()
    except OSError as refused:
        return refused.strerror or str(refused)
    return "connected"
