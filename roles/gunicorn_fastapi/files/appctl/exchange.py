"""One question to an instance, and its answer, which has an end in time and size whatever is sent."""

import contextlib
import re
import select
import socket
import time
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from appctl.text import visible

HEAD = 16 * 1024
BODY = 300
"""Bytes that are read of an answer's headers, and of its body."""

LINGER = 0.5
"""Seconds that the beginning of the body may take after the headers."""

ADDED = """'@app.get("/healthz")', 'def healthz():', '    return {"status": "ok"}'"""
"""A health path as FastAPI has it, line by line."""

HEALTHY, NOT_YET, UNHEALTHY = "healthy", "not yet", "unhealthy"


def verdict(status: int, wanted: range = range(200, 300)) -> str:
    """What a status says of an instance: 503, and 0 for no answer, mean that it may be asked again."""
    if status in wanted:
        return HEALTHY
    return NOT_YET if status in (0, 503) else UNHEALTHY


class Answer:
    """What came back. ``status`` is 0 when that was no answer.

    What the server tells, if it does: ``workers``, how many serve, and of how many; ``requests``, how many were
    answered, how many of them with 5xx, in the last so many seconds.
    """

    def __init__(self, head: bytes, body: bytes) -> None:
        status = re.match(rb"HTTP/1\.[01] ([1-9][0-9]{2})\b", head)
        self.status = int(status[1]) if status else 0
        self.content = body
        self.body = visible(body[:BODY].decode(errors="replace"), one_line=True)
        self.headers: dict[str, str] = {}
        for line in head.split(b"\r\n")[1:]:
            name, colon, value = line.decode("latin-1").partition(":")
            if colon:
                self.headers.setdefault(name.strip().lower(), visible(value.strip(), 1000, one_line=True))
        workers = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", self.headers.get("x-workers", ""))
        self.workers = (int(workers[1]), int(workers[2])) if workers else None
        requests = re.fullmatch(r"([0-9]{1,15})/([0-9]{1,15})/([0-9]{1,9}\.[0-9])", self.headers.get("x-requests", ""))
        self.requests = (int(requests[1]), int(requests[2]), float(requests[3])) if requests else None

    @property
    def whole(self) -> bytes:
        """What was read of the body, without the frames of its pieces."""
        if "chunked" not in self.headers.get("transfer-encoding", "").lower():
            return self.content
        left, found = self.content, b""
        while size := re.match(rb"([0-9a-fA-F]{1,8})[^\r\n]{0,100}\r\n", left):
            length = int(size[1], 16)
            found += left[size.end() : size.end() + length]
            left = left[size.end() + length + 2 :]
        return found

    @property
    def paths(self) -> list[str]:
        """Paths of the application that could be asked for its health, as far as the server tells them."""
        return self.headers.get("x-paths", "").split()

    @property
    def all_ready(self) -> bool:
        """Whether all workers serve, as far as the server tells; one of an older release does not."""
        return self.workers is None or self.workers[0] == self.workers[1]


class Exchange:
    """A connection on which a path has been asked for. It waits in the queue until a worker takes it.

    ``host`` is what the request names, with https:// before it when it is to look like one that came through TLS.
    ``headers`` are sent too; of the body, ``most`` bytes are read, also of a welcome answer.
    Raises OSError when nobody listens, or the queue is full.
    """

    def __init__(
        self,
        address: Path,
        path: str,
        host: str = "localhost",
        headers: Mapping[str, str] | None = None,
        most: int = 0,
    ) -> None:
        self._most = most
        self._received = bytearray()
        self._head_at = 0.0
        self._ended = False
        name = host.removeprefix("https://")
        lines = [f"GET {path} HTTP/1.1", f"Host: {name}", "User-Agent: health", "Connection: close"]
        if name != host:
            lines.append("X-Forwarded-Proto: https")
        lines += [f"{header}: {value}" for header, value in (headers or {}).items()]
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.setblocking(False)
            self._socket.connect(str(address))
            self._socket.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self) -> None:
        """Take what has arrived."""
        try:
            piece = self._socket.recv(HEAD)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        self._received += piece
        self._ended = not piece
        # An interim answer, such as 103 Early Hints, is none.
        while self._received.startswith((b"HTTP/1.1 1", b"HTTP/1.0 1")) and b"\r\n\r\n" in self._received:
            del self._received[: self._received.index(b"\r\n\r\n") + 4]
        if not self._head_at and b"\r\n\r\n" in self._received:
            self._head_at = time.monotonic()

    def answer(self) -> Answer | None:
        """The answer, None while it has to be waited for."""
        head, end, body = bytes(self._received).partition(b"\r\n\r\n")
        if not end:
            return Answer(head, b"") if self._ended or len(head) > HEAD else None
        found = Answer(head, body)
        length = found.headers.get("content-length", "")
        most = max(self._most, BODY)
        enough = min(int(length), most) if re.fullmatch("[0-9]{1,18}", length) else most
        late = not self._most and time.monotonic() >= self._head_at + LINGER
        # Of an answer that is welcome, nobody reads the body.
        unread = not self._most and verdict(found.status) == HEALTHY
        if self._ended or late or len(body) >= enough or unread:
            return found
        return None


def ask(
    address: Path,
    path: str,
    host: str = "localhost",
    timeout: float = 5.0,
    headers: Mapping[str, str] | None = None,
    most: int = 0,
) -> Answer:
    """Ask once. The answer has the status 0 when it is not there after `timeout` seconds. Raises OSError as above."""
    deadline = time.monotonic() + timeout
    with contextlib.closing(Exchange(address, path, host, headers, most)) as exchange:
        while (left := deadline - time.monotonic()) > 0:
            if select.select([exchange], [], [], min(left, 0.1))[0]:
                exchange.read()
            answer = exchange.answer()
            if answer:
                return answer
    return Answer(b"", b"")


def received(answer: Answer, host: str) -> str:
    """By what it was asked and what came back, in brackets."""
    name = host.removeprefix("https://")
    told = [f"asked with Host: {name}{'' if name == host else ' and X-Forwarded-Proto: https'}"]
    if location := answer.headers.get("location", ""):
        told.append(f"Location: {location}")
    if answer.body:
        told.append(f"body: {answer.body}")
    return f"({'; '.join(told)})"


def details(answer: Answer, path: str, host: str) -> str:
    """What was asked and what came back, in brackets, and what is likely behind it."""
    cause = likely_cause(answer.status, answer.headers.get("location", ""), path, host)
    if answer.status in (401, 403, 404, 405) and answer.paths:
        cause += f": {', '.join(answer.paths)}"
    if answer.status == 404:
        cause += f", or add one in three lines: {ADDED}"
    return f"{received(answer, host)}{f'. {cause}' if cause else ''}"


def likely_cause(status: int, location: str, path: str, host: str) -> str:
    """Why a working application may answer its health path like that, and what to do. Empty when nobody knows."""
    name = host.removeprefix("https://")
    if status in (400, 421):
        return (
            f"Possibly the application does not accept the host {name}, as with TrustedHostMiddleware. "
            "Set gunicorn_fastapi_health_host to one that it does"
        )
    if 300 <= status < 400:
        return redirected(location, path, host)
    causes = {
        401: "The path requires authentication. Set gunicorn_fastapi_health_path to one without",
        403: "The path requires authentication. Set gunicorn_fastapi_health_path to one without",
        404: "The application does not have this path. Set gunicorn_fastapi_health_path to one that it has",
        405: "The path does not accept GET. Set gunicorn_fastapi_health_path to one that does",
        429: "The application limits the rate of this path too. Leave the health path out of the limit",
    }
    return causes.get(status, "")


def redirected(location: str, path: str, host: str) -> str:
    """Why an application may send the request elsewhere, and what to do."""
    name = host.removeprefix("https://")
    asked = urllib.parse.urlsplit(f"{'http' if name == host else 'https'}://{name}{path}")
    try:
        target = urllib.parse.urlsplit(urllib.parse.urljoin(asked.geturl(), location))
    except ValueError:
        target = asked
    if not location or target.path.rstrip("/") != asked.path.rstrip("/"):
        return "Possibly the path requires authentication. Set gunicorn_fastapi_health_path to one without"
    if (target.scheme, asked.scheme) == ("https", "http"):
        return f"The application requires HTTPS. Set gunicorn_fastapi_health_host: https://{target.netloc}"
    if target.netloc != name:
        return f"The application redirects to the host {target.netloc}. Set gunicorn_fastapi_health_host to it"
    if target.path != asked.path:
        return f"The path is {target.path}. Set gunicorn_fastapi_health_path to it"
    if target.scheme == "http" != asked.scheme:
        return f"The application redirects to HTTP. Set gunicorn_fastapi_health_host: {name}"
    return (
        "The application redirects to what was asked for. Possibly it knows HTTPS by another header than "
        "X-Forwarded-Proto: have it heed that one, or set gunicorn_fastapi_health_path to one that it answers at once"
    )
