"""What a request has to say, and in one way only: whom it is for, and where it ends.

httptools is strict about what a proxy could understand in another way; what it lets through of that is refused here.
"""

import re
from collections.abc import Iterable, Sequence

from gunicorn_fastapi.upstream import STATUS_LINE

TELLING = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})
"""Headers that say whom a request is for, and where it ends."""

OBEYED = frozenset({b"connection", b"proxy-connection", b"upgrade", b"content-length", b"transfer-encoding"})
"""Names that llhttp obeys wherever they stand. None may be among the trailers, for what it says would count for the
next request."""

HOST = re.compile(rb"(?:[\w.~%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
ABSOLUTE = re.compile(rb"http://([^/?]+)/[^#]*", re.IGNORECASE)

FOREIGN = b"RTSP/"
"""llhttp takes RTSP for HTTP, and tells nobody. Its other protocol, ICE, has a method of its own."""

ICE = b"SOURCE"

CLOSE = (b"connection", b"close")
"""The header of an answer after which the client comes with a connection of its own."""

Headers = Iterable[tuple[bytes, bytes]]


class Refusal(Exception):  # noqa: N818 (no error of ours)
    """A request that is answered with a status instead of being handled. The client is told the reason, so it has
    nothing in it that the client said."""

    def __init__(self, status: int, reason: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = headers


def answer(refusal: Refusal, headers: Headers) -> bytes:
    """A whole answer, the last one of its connection."""
    body = str(refusal).encode()
    own = [CLOSE, (b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    lines = b"".join([b"%b: %b\r\n" % header for header in [*headers, *refusal.headers, *own]])
    return b"%b%b\r\n%b" % (STATUS_LINE[refusal.status], lines, body)


def check_framing(version: str, telling: list[tuple[bytes, bytes]], body_max: int) -> bool:
    """Refuse what does not say clearly whom it is for or where it ends. Whether there is a body."""
    said = dict(telling)
    if version not in ("1.1", "1.0"):
        raise Refusal(505, "HTTP other than 1.0 and 1.1")
    if len(said) < len(telling):
        raise Refusal(400, "two headers host, content-length, transfer-encoding or expect")
    if version == "1.1" and b"host" not in said:
        raise Refusal(400, "no header host")
    if not HOST.fullmatch(said.get(b"host", b"")):
        raise Refusal(400, "an invalid header host")
    coding = said.get(b"transfer-encoding")
    if coding is not None and (version == "1.0" or coding.strip().lower() != b"chunked"):
        raise Refusal(400, "a transfer-encoding other than chunked")
    length = int(said.get(b"content-length", 0))
    if 0 < body_max < length:
        raise Refusal(413, f"a body of more than {body_max} bytes")
    return bool(length or coding)


def check_target(method: bytes, url: bytes, host: bytes | None) -> None:
    """Refuse all but ``OPTIONS *`` and the address of this host with its scheme, as proxies send it."""
    if method == b"CONNECT":
        raise Refusal(501, "CONNECT is for proxies")
    absolute = ABSOLUTE.fullmatch(url)
    if absolute is None and (method, url) != (b"OPTIONS", b"*"):
        raise Refusal(400, "neither a path nor an address")
    if absolute is not None and host is not None and absolute[1].lower() != host.lower():
        raise Refusal(400, "an address of another host")


def piece_end(data: bytes, at: int, in_line: bool) -> int:
    """Where what is to be parsed next ends: with the line that has begun, or with one that names another protocol, or
    before that one."""
    named = at if in_line else data.find(FOREIGN, at)
    if named < 0:
        return len(data)
    begin = data.rfind(b"\n", at, named) + 1
    return begin if begin > at else data.find(b"\n", named) + 1 or len(data)


def check_protocol(method: bytes, url: bytes, line: bytes) -> None:
    """Refuse a request whose first line this is, after whatever a body ended with, if it names another protocol."""
    if re.search(rb"%b +%b +%b[^ ]*\n\Z" % (re.escape(method), re.escape(url), FOREIGN), line):
        raise Refusal(505, "another protocol than HTTP")


def without_offer(method: bytes, url: bytes, version: str, headers: Headers) -> bytes:
    """The head of a request without its offer to speak something else."""
    lines = b"".join([b"%b: %b\r\n" % header for header in headers if header[0] != b"upgrade"])
    return b"%b %b HTTP/%b\r\n%b\r\n" % (method, url, version.encode(), lines)
