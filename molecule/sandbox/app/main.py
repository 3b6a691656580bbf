"""An application that an intruder has taken over: it executes whatever Python is sent to it."""

import json
import subprocess
import sys
from typing import Any

from credentials import credential
from fastapi import Body, FastAPI

app = FastAPI()


@app.post("/attempts")
def attempts(code: list[str] = Body()) -> Any:  # noqa: B008 - FastAPI's way of saying where it is
    """How each piece of Python ended. A process of its own, because a server of many threads must not fork."""
    command = [sys.executable, "attempts.py"]
    return json.loads(
        subprocess.run(command, input=json.dumps(code), stdout=subprocess.PIPE, text=True, check=True).stdout
    )


@app.get("/credential/{name}")
def secret(name: str) -> str:
    """A secret, as the example application finds it."""
    return credential(name)


@app.get("/healthz")
async def healthz() -> None:
    """Answer 2xx while this process serves."""
