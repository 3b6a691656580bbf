"""Whether this worker's own parser refuses what two programs could read in different ways.

Which parser a release has is its list of requirements' to say, and how strict it is differs from version to version.
So it is tried before the first connection, in memory: a worker whose parser lets such a request through does not start.
"""

import asyncio
import copy
from collections.abc import Callable, Coroutine
from importlib.metadata import version
from typing import Any, NamedTuple

from uvicorn.config import Config
from uvicorn.server import ServerState

from gunicorn_fastapi.guard import Guard

GET = b"GET / HTTP/1.1\r\nHost: shop\r\n"
POST = b"POST / HTTP/1.1\r\nHost: shop\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
END = b"5\r\nhello\r\n0\r\n"

GOOD = (GET + b"\r\n", CHUNKED + b"\r\n" + END + b"A: b\r\n\r\n")

MALFORMED = {
    "a folded header": GET + b"A: b\r\n c\r\n\r\n",
    "a header without a name": GET + b": b\r\n\r\n",
    "a header without a colon": GET + b"A\r\n\r\n",
    "a name with a space": GET + b"A b: c\r\n\r\n",
    "a space before a colon": GET + b"A : b\r\n\r\n",
    "a name with NUL": GET + b"A\x00: b\r\n\r\n",
    "a value with NUL": GET + b"A: b\x00c\r\n\r\n",
    "a value with a control byte": GET + b"A: b\x01c\r\n\r\n",
    "a bare line end": b"GET / HTTP/1.1\nHost: shop\n\n",
    "a bare carriage return": GET + b"A: b\rB: c\r\n\r\n",
    "a path with a control byte": b"GET /\x01 HTTP/1.1\r\nHost: shop\r\n\r\n",
    "an unknown version": b"GET / HTTP/1.2\r\nHost: shop\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "another protocol": b"GET / RTSP/1.0\r\nHost: shop\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"Host: bank\r\n\r\n",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a length with a sign": POST + b"Content-Length: +5\r\n\r\nhello",
    "a length beside a coding": CHUNKED + b"Content-Length: 5\r\n\r\n" + END + b"\r\n",
    "a coding beside a length": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + END + b"\r\n",
    "a folded coding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + END + b"\r\n",
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + END + b"\r\n",
    "two codings": CHUNKED + b"Transfer-Encoding: identity\r\n\r\n" + END + b"\r\n",
    "a chunk size with a prefix": CHUNKED + b"\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "a chunk size with a space": CHUNKED + b"\r\n5 \r\nhello\r\n0\r\n\r\n",
    "a bare line end after a chunk size": CHUNKED + b"\r\n5\nhello\r\n0\r\n\r\n",
    "a chunk without an end": CHUNKED + b"\r\n5\r\nhello0\r\n\r\n",
    "a length among the trailers": CHUNKED + b"\r\n" + END + b"Content-Length: 9\r\n\r\n",
    "a coding among the trailers": CHUNKED + b"\r\n" + END + b"Transfer-Encoding: chunked\r\n\r\n",
    "a trailer without a name": CHUNKED + b"\r\n" + END + b": b\r\n\r\n",
    "a folded trailer": CHUNKED + b"\r\n" + END + b"A: b\r\n c\r\n\r\n",
    "a header above the bound": GET + b"A: %b\r\n\r\n" % (b"a" * 1000),
    "more headers than the bound": GET + b"A: b\r\n" * 20 + b"\r\n",
    "an address above the bound": b"GET /%b HTTP/1.1\r\nHost: shop\r\n\r\n" % (b"a" * 500),
}
"""By the kind that is told: each has to get an answer of 4xx or 5xx."""


class UnfitParserError(Exception):
    """What lets a malformed request through or refuses a good one, and what to do."""


class Outcome(NamedTuple):
    """What came of one request: what was written, and how many requests the application was to have."""

    written: bytes
    started: int

    @property
    def is_refused(self) -> bool:
        """Whether the client was told that it is none."""
        return self.written[:10] in (b"HTTP/1.1 4", b"HTTP/1.1 5")


def check(make: Callable[..., asyncio.Protocol], config: Config) -> None:
    """Try a class of protocols, which gets a guard first; raises ``UnfitParserError``."""
    config = copy.copy(config)
    config.loaded_app = _application
    guard = _Unheard(target_max=400, header_max=800, headers_max=10)

    def outcome(data: bytes) -> Outcome:
        loop, transport = _Loop(), _Transport()
        connection = make(guard, config=config, server_state=ServerState(), app_state={}, _loop=loop)
        connection.connection_made(transport)
        connection.data_received(data)
        return Outcome(bytes(transport.written), loop.started)

    try:
        for data in GOOD:
            if outcome(data) != Outcome(b"", 1):
                raise UnfitParserError(f"{_parser()} refuses a valid request. {_advice()}")
        for kind, data in MALFORMED.items():
            if not outcome(data).is_refused:
                raise UnfitParserError(
                    f"{_parser()} lets {kind} through, which a proxy may read in another way. {_advice()}"
                )
    except (AttributeError, TypeError) as error:
        raise UnfitParserError(f"{_parser()} does not fit this worker: {error}. {_advice()}") from error


def _parser() -> str:
    return f"httptools {version('httptools')} (uvicorn {version('uvicorn')})"


def _advice() -> str:
    return "Pin tested versions in the lock file, or none: then the role adds them"


async def _application(scope: Any, receive: Any, send: Any) -> None:
    """Never runs."""


class _Unheard(Guard):
    """Nobody is told of these refusals."""

    def warn(self, client: Any, words: str) -> None:
        """Nothing."""


class _Task:
    def add_done_callback(self, _: Any) -> None:
        """It is never done."""


class _Loop:
    """Counts what would run."""

    def __init__(self) -> None:
        self.started = 0

    def time(self) -> float:
        return 0.0

    def create_task(self, coroutine: Coroutine[Any, Any, None], **_: Any) -> _Task:
        coroutine.close()
        self.started += 1
        return _Task()


class _Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self._is_closing = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._is_closing = True

    abort = close

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass
