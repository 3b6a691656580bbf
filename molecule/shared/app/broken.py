"""The ways in which a release can be bad, one for each value of ``BREAK``."""

import asyncio
import os
import resource
import signal
import socket
from pathlib import Path

from fastapi import HTTPException

BREAK = os.environ.get("BREAK", "")


def at_import() -> None:
    """What goes wrong while the module is loaded."""
    if BREAK == "import":
        raise RuntimeError("the module raises on import")
    if BREAK == "memory":
        # The limit of the process, as that of the cgroup does not hold in every container.
        resource.setrlimit(resource.RLIMIT_AS, (2**29, 2**29))
        bytearray(2**30)
    if BREAK == "system-call":
        os.nice(1)  # anybody may, but for the filter
    if BREAK == "port":
        socket.create_server(("127.0.0.1", 22))
    if BREAK == "file":
        Path("/etc/fastapi.conf").write_text("")


async def at_start() -> None:
    """What goes wrong in the lifespan."""
    if BREAK == "lifespan":
        raise RuntimeError("the lifespan raises")
    if BREAK == "lifespan-hangs":
        await asyncio.Event().wait()
    if BREAK == "signal":
        os.kill(os.getpid(), signal.SIGSEGV)


async def at_health() -> None:
    """What goes wrong when it is asked whether it works."""
    if BREAK == "health":
        raise HTTPException(500, "the health path says no")
    if BREAK == "health-hangs":
        await asyncio.Event().wait()
