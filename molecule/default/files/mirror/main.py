"""Tells from the inside what the service's sandbox is like. A plain ASGI application."""

import asyncio
import contextlib
import json
import os
import stat
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]


def opens(path: Path, flags: int) -> bool:
    """Whether a file can really be opened so. What the attempt has made is removed again."""
    with contextlib.suppress(OSError):
        os.close(os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC))
        if flags & os.O_CREAT:
            path.unlink()
        return True
    return False


def writable() -> Iterator[str]:
    """Directories that a file can be made in, and files that can be changed. /proc is the process's own."""
    for here, directories, names in os.walk("/"):
        directory = Path(here)
        directories[:] = [name for name in directories if directory / name != Path("/proc")]
        if opens(directory / f".mirror-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_EXCL):
            yield here
        for path in (directory / name for name in names):
            with contextlib.suppress(OSError):
                if stat.S_ISREG(path.lstat().st_mode) and opens(path, os.O_WRONLY):
                    yield str(path)


def answer(path: str) -> object:
    """What a path shows: /environment, /writable, /healthz; None for any other one."""
    match path:
        case "/environment":
            return dict(os.environ)
        case "/writable":
            return sorted(writable())
        case "/healthz":
            return "well"
    return None


async def app(
    scope: Message, _receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """The ASGI application."""
    assert scope["type"] == "http"  # uvicorn goes on without a lifespan then
    shown = await asyncio.to_thread(answer, scope["path"])
    content = json.dumps(shown).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 404 if shown is None else 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})
