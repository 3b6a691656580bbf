"""An application that takes more than it may have, or crashes, when it is told to."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

CRASH = Path(os.environ["CRASH"])
"""A file that says how to crash: "at start", or "soon" after it. Where it is not, nothing crashes."""


def crash() -> None:
    """Crash as the file says."""
    how = CRASH.read_text().strip() if CRASH.exists() else ""
    if how == "at start":
        raise RuntimeError("there is no database")
    if how == "soon":
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGSEGV)).start()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Start, unless the file says not to."""
    crash()
    yield


app = FastAPI(lifespan=lifespan)


@app.post("/leak")
def leak(mebibytes: int) -> int:
    """Take memory and keep it. Answers how much that was, if it comes to that."""
    kept = [b"x" * 2**20 for _ in range(mebibytes)]
    return len(kept)


@app.post("/multiply")
def multiply(most: int) -> dict[str, int | str]:
    """Start threads that do nothing. Answers how many, and what kept it from more."""
    end = threading.Event()
    threads: list[threading.Thread] = []
    error = ""
    try:
        for _ in range(most):
            threads.append(threading.Thread(target=end.wait))
            threads[-1].start()
    except RuntimeError as failure:
        error = str(failure)
    end.set()
    return {"threads": len(threads), "error": error}


@app.post("/burn")
def burn(seconds: float) -> float:
    """Have eight processes use the CPUs, as many as a busy machine needs. Answers how many seconds they got."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(8)]
    time.sleep(seconds)
    for process in processes:
        process.kill()
        process.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@app.get("/healthz")
async def healthz() -> None:
    """Answer 2xx while this process serves."""
