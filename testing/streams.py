"""Streams of requests as nobody should send them, from a seed, and what a strict reader makes of them."""

import itertools
import random
import re
from typing import NamedTuple

from malformed import CASES, CHUNKED, OFFER, SMUGGLED, get, post

MORE = (
    get(b"/a?b=c", b"Host: shop\r\nA: b\r\nC: d e\r\n"),
    get(b"http://shop/a"),
    get(headers=b"Host: shop\r\nConnection: keep-alive\r\n", version=b"HTTP/1.0"),
    get(headers=b"Host: shop\r\nConnection: close\r\n"),
    post(b"Content-Length: 5\r\n", b"hello"),
    post(b"Content-Length: 5\r\nExpect: 100-continue\r\n", b"hello"),
    post(CHUNKED, b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nA: b\r\n\r\n"),
    post(CHUNKED, b"1\r\na\r\n0\r\n\r\n" + SMUGGLED),
    get(headers=b"Host: shop\r\n" + OFFER),
    b"HEAD / HTTP/1.1\r\nHost: shop\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: shop\r\n\r\n",
)
SEEDS = tuple(case.data for case in CASES if len(case.data) < 1000) + MORE * 6

PIECES = (
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b";", b",", b"\x00", b"\x0b", b"\x7f", b"\xff", b"\r\n ", b"\r\n\r\n"),
    *(b"0", b"5", b"-1", b"+5", b"0x5", b"ffffffffffffffff", b"0\r\n\r\n", b"5\r\nhello\r\n", b"chunked", b"close"),
    *(b"Host: bank\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n"),
    *(b"Transfer-Encoding: identity\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: h2c\r\n"),
    *(b"Expect: 100-continue\r\n", b"Upgrade: websocket\r\n", b"HTTP/1.0", b"HTTP/1.1", b"HTTP/0.9", b"RTSP/1.0"),
    *(b"GET ", b"POST ", b"CONNECT ", b"SOURCE ", b"#", b"http://bank/", SMUGGLED),
)


def mutated(chance: random.Random) -> bytes:
    """One or two requests with up to four changes."""
    data = bytearray(chance.choice(SEEDS))
    if chance.random() < 0.3:
        data += chance.choice(SEEDS)
    for _ in range(chance.randrange(5)):
        at = chance.randrange(len(data) + 1)
        end = min(at + chance.choice((1, 1, 2, 4, 16)), len(data))
        match chance.randrange(6):
            case 0:
                data[at:at] = chance.choice(PIECES)
            case 1:
                del data[at:end]
            case 2:
                data[at:end] = chance.choice(PIECES)
            case 3:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 4:
                lines = bytes(data).split(b"\r\n")
                lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
                data = bytearray(b"\r\n".join(lines))
            case 5:
                data[at:at] = data[at:end]
    return bytes(data)


def split(data: bytes, chance: random.Random) -> list[bytes]:
    """The same in pieces."""
    if chance.random() < 0.2:
        return [data[at : at + 1] for at in range(len(data))]
    cuts = sorted({0, len(data), *(chance.randrange(len(data) + 1) for _ in range(chance.randrange(1, 5)))})
    return [data[start:end] for start, end in itertools.pairwise(cuts)]


class Request(NamedTuple):
    """What is read: method, target as it came, headers in lower case, body."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
LINE = re.compile(rb"(%b) +([\x21-\x7e]+) +HTTP/1\.([01])\r\n" % TOKEN)
FIELD = re.compile(rb"(%b):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*\r\n" % TOKEN)
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")


def read(data: bytes) -> tuple[list[Request], bool]:
    """The requests that stand at the beginning of a stream, by RFC 9112 alone, and whether all of it was read."""
    found: list[Request] = []
    at = 0
    while True:
        # A robust reader ignores empty lines before a request, whatever ends them.
        while data[at : at + 1] in (b"\r", b"\n"):
            at += 1
        if at == len(data):
            return found, True
        line = LINE.match(data, at)
        if line is None:
            return found, False
        fields = _fields(data, line.end())
        if fields is None:
            return found, False
        headers, at = fields
        names = [name for name, _ in headers]
        lengths = [value for name, value in headers if name == b"content-length"]
        codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
        hosts = names.count(b"host")
        if (lengths and codings) or len(lengths) > 1 or hosts > 1 or (line[3] == b"1" and not hosts):
            return found, False
        body = b""
        if codings:
            if codings != [b"chunked"] or line[3] == b"0":
                return found, False
            chunks = _chunks(data, at)
            if chunks is None:
                return found, False
            body, at = chunks
        elif lengths:
            if not re.fullmatch(rb"[0-9]{1,19}", lengths[0]) or len(data) - at < int(lengths[0]):
                return found, False
            body = data[at : at + int(lengths[0])]
            at += len(body)
        found.append(Request(line[1], line[2], headers, body))


def _fields(data: bytes, at: int) -> tuple[list[tuple[bytes, bytes]], int] | None:
    """Lines of fields up to the empty one, and where it ends."""
    fields = []
    while not data.startswith(b"\r\n", at):
        field = FIELD.match(data, at)
        if field is None:
            return None
        fields.append((field[1].lower(), field[2]))
        at = field.end()
    return fields, at + 2


def _chunks(data: bytes, at: int) -> tuple[bytes, int] | None:
    """A body in chunks without its trailers, and where it ends."""
    body = b""
    while (chunk := CHUNK.match(data, at)) is not None:
        size, at = int(chunk[1], 16), chunk.end()
        if size == 0:
            fields = _fields(data, at)
            return None if fields is None else (body, fields[1])
        if data[at + size : at + size + 2] != b"\r\n":
            return None
        body += data[at : at + size]
        at += size + 2
    return None
