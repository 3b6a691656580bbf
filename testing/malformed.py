"""Requests that no client should send, and what comes of each: the table for the unit tests and for Molecule.

Each is followed by a good request on the same connection. So one that hides in the body of another one,
or a body that is taken for a request, shows in what the application has seen.
"""

from typing import NamedTuple

HOST = b"Host: shop\r\n"
SECOND = b"GET /second HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n"


class Case(NamedTuple):
    """``status``: of the first answer. ``seen``: method, path and body length of what reaches the application."""

    name: str
    data: bytes
    status: int = 400
    seen: tuple[str, ...] = ()


def get(target: bytes = b"/", headers: bytes = HOST, version: bytes = b"HTTP/1.1") -> bytes:
    """A GET with that target, headers and version."""
    return b"GET %b %b\r\n%b\r\n" % (target, version, headers)


def post(headers: bytes, body: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    """A POST with those headers and that body."""
    return b"POST / %b\r\n%b%b\r\n%b" % (version, HOST, headers, body)


def chunked(body: bytes) -> bytes:
    """A POST with that body in chunks."""
    return post(b"Transfer-Encoding: chunked\r\n", body)


def coded(*codings: bytes) -> bytes:
    """A POST in chunks with those headers Transfer-Encoding."""
    return post(b"".join(b"Transfer-Encoding:%b\r\n" % coding for coding in codings), b"5\r\nhello\r\n0\r\n\r\n")


def length(*lengths: bytes) -> bytes:
    """A POST of five bytes with those headers Content-Length."""
    return post(b"".join(b"Content-Length:%b\r\n" % number for number in lengths), b"hello")


def offer(protocol: bytes, body: bytes) -> bytes:
    """A POST with that body that offers to speak something else."""
    length = b"Content-Length: %d\r\n" % len(body)
    return post(
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %b\r\nHTTP2-Settings: AAMA\r\n" % protocol + length, body
    )


def trailing(trailers: bytes) -> bytes:
    """A POST in chunks with those trailers."""
    return chunked(b"5\r\nhello\r\n0\r\n%b\r\n" % trailers)


OFFER = b"Connection: upgrade\r\nUpgrade: h2c\r\n"
WEBSOCKET = (
    b"Host: shop\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
EMPTY = ("POST / 0", "GET /second 0")
BOTH = ("POST / 5", "GET /second 0")

CASES = (
    # Methods
    Case("unknown method", b"BREW / HTTP/1.1\r\n%b\r\n" % HOST),
    Case("lower-case method", b"get / HTTP/1.1\r\n%b\r\n" % HOST),
    Case("no method", b" / HTTP/1.1\r\n%b\r\n" % HOST),
    Case("method with a control byte", b"GE\x01T / HTTP/1.1\r\n%b\r\n" % HOST),
    Case("method followed by a tab", b"GET\t/ HTTP/1.1\r\n%b\r\n" % HOST),
    Case("tunnel", b"CONNECT shop:80 HTTP/1.1\r\n%b\r\n" % HOST, 501),
    Case("preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    Case("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    # Versions
    Case("HTTP/0.9", b"GET /\r\n\r\n", 505),
    Case("HTTP/0.9 by name", get(version=b"HTTP/0.9"), 505),
    Case("HTTP/1.2", get(version=b"HTTP/1.2")),
    Case("HTTP/2.0", get(version=b"HTTP/2.0"), 505),
    Case("HTTP/1.10", get(version=b"HTTP/1.10")),
    Case("lower-case protocol", get(version=b"http/1.1")),
    Case("version followed by a space", get(version=b"HTTP/1.1 ")),
    Case("RTSP/1.0", get(version=b"RTSP/1.0"), 505),
    Case("RTSP/1.1", get(version=b"RTSP/1.1"), 505),
    Case("RTSP/1.0 after two spaces", get(version=b" RTSP/1.0"), 505),
    Case("ICE/1.0", b"SOURCE / ICE/1.0\r\n%b\r\n" % HOST, 501),
    Case("ICE's method", b"SOURCE / HTTP/1.1\r\n%b\r\n" % HOST, 501),
    # Targets
    Case("path with a space", get(b"/a b")),
    Case("path with a control byte", get(b"/\x01")),
    Case("path with NUL", get(b"/\x00")),
    Case("path with DEL", get(b"/\x7f")),
    Case("path beyond ASCII", get(b"/\xff")),
    Case("path with a fragment", get(b"/a#b")),
    Case("no path", get(b"shop")),
    Case("query alone", get(b"?a=b")),
    Case("asterisk", get(b"*")),
    Case("address of this host", get(b"http://SHOP/a"), 200, ("GET /a 0", "GET /second 0")),
    Case("address of another host", get(b"http://bank/a")),
    Case("address with a user", get(b"http://shop@bank/a")),
    Case("address with a port", get(b"http://shop:80/a")),
    Case("address of another scheme", get(b"https://shop/a")),
    Case("address without a path", get(b"http://shop")),
    # Hosts
    Case("no host", get(headers=b"")),
    Case("two hosts", get(headers=b"Host: shop\r\nHost: bank\r\n")),
    Case("the same host twice", get(headers=HOST + HOST)),
    Case("list of hosts", get(headers=b"Host: shop, bank\r\n")),
    Case("host with a path", get(headers=b"Host: shop/a\r\n")),
    Case("host with a user", get(headers=b"Host: bank@shop\r\n")),
    # Headers
    Case("space before the colon", get(headers=b"Host : shop\r\n")),
    Case("space before the name", get(headers=b" Host: shop\r\n")),
    Case("folded header", get(headers=HOST + b"A: b\r\n c\r\n")),
    Case("no colon", get(headers=HOST + b"A\r\n")),
    Case("no name", get(headers=HOST + b": b\r\n")),
    Case("name with a space", get(headers=HOST + b"A b: c\r\n")),
    Case("name with a bracket", get(headers=HOST + b"A(: b\r\n")),
    Case("name with NUL", get(headers=HOST + b"A\x00: b\r\n")),
    Case("name beyond ASCII", get(headers=HOST + b"A\xff: b\r\n")),
    Case("value with NUL", get(headers=HOST + b"A: b\x00c\r\n")),
    Case("value with a control byte", get(headers=HOST + b"A: b\x01c\r\n")),
    Case("value with DEL", get(headers=HOST + b"A: b\x7fc\r\n")),
    Case("bare LF after a header", get(headers=b"Host: shop\nA: b\r\n")),
    Case("bare CR after a header", get(headers=b"Host: shop\rA: b\r\n")),
    Case("bare LF everywhere", b"GET / HTTP/1.1\nHost: shop\n\n"),
    Case("bare CR everywhere", b"GET / HTTP/1.1\rHost: shop\r\r"),
    # Lengths
    Case("length with a plus", length(b" +5")),
    Case("negative length", length(b" -5")),
    Case("hexadecimal length", length(b" 0x5")),
    Case("length with an exponent", length(b" 5e0")),
    Case("empty length", length(b" ")),
    Case("list of lengths", length(b" 5, 5")),
    Case("length of 2^64", length(b" 18446744073709551616")),
    Case("two lengths", length(b" 5", b" 6")),
    Case("the same length twice", length(b" 5", b" 5")),
    # Chunks
    Case("chunk size with a prefix", chunked(b"0x5\r\nhello\r\n0\r\n\r\n")),
    Case("chunk size with a sign", chunked(b"+5\r\nhello\r\n0\r\n\r\n")),
    Case("chunk size with a space", chunked(b"5 \r\nhello\r\n0\r\n\r\n")),
    Case("chunk size of no number", chunked(b"five\r\nhello\r\n0\r\n\r\n")),
    Case("chunk size of 2^64", chunked(b"10000000000000000\r\nhello\r\n0\r\n\r\n")),
    Case("chunk longer than said", chunked(b"5\r\nhello!\r\n0\r\n\r\n")),
    Case("chunk without an end", chunked(b"5\r\nhello0\r\n\r\n")),
    Case("bare LF after a chunk size", chunked(b"5\nhello\r\n0\r\n\r\n")),
    Case("bare LF after a chunk", chunked(b"5\r\nhello\n0\r\n\r\n")),
    Case("bare LF in a chunk extension", chunked(b"5;a\nhello\r\n0\r\n\r\n")),
    Case("bare CR in a chunk extension", chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n")),
    Case("chunk extension with NUL", chunked(b"5;\x00\r\nhello\r\n0\r\n\r\n")),
    Case("length among the trailers", chunked(b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n")),
    Case("trailer without a colon", chunked(b"5\r\nhello\r\n0\r\nA\r\n\r\n")),
    Case("chunk extension", chunked(b"5;a=b\r\nhello\r\n0\r\n\r\n"), 200, BOTH),
    Case("trailer", chunked(b"5\r\nhello\r\n0\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"), 200, BOTH),
    Case("host among the trailers", trailing(b"Host: bank\r\n"), 200, BOTH),
    Case("expectation among the trailers", trailing(b"Expect: 100-continue\r\n"), 200, BOTH),
    Case("close among the trailers", trailing(b"Connection: close\r\n")),
    Case("close for proxies among the trailers", trailing(b"Proxy-Connection: close\r\n")),
    Case("upgrade among the trailers", trailing(b"Connection: upgrade\r\nUpgrade: websocket\r\n")),
    Case("coding among the trailers", trailing(CHUNKED)),
    Case("folded trailer", trailing(b"A: b\r\n c\r\n")),
    Case("trailer without a name", trailing(b": b\r\n")),
    Case("100 trailers", trailing(b"A: b\r\n" * 100), 200, BOTH),
    Case("101 trailers", trailing(b"A: b\r\n" * 101), 431),
    Case("trailers of 66 KB", trailing(b"A: %b\r\n" % (b"b" * 33_000) * 2), 431),
    # A length and a coding
    Case("length before chunked", post(b"Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n" + SMUGGLED)),
    Case("chunked before length", post(CHUNKED + b"Content-Length: 5\r\n", b"0\r\n\r\n" + SMUGGLED)),
    Case("length zero and chunked", post(b"Content-Length: 0\r\n" + CHUNKED, b"5\r\nhello\r\n0\r\n\r\n")),
    Case("identity", coded(b" identity")),
    Case("chunked, then identity", coded(b" chunked, identity")),
    Case("identity, then chunked", coded(b" identity, chunked")),
    Case("gzip, then chunked", coded(b" gzip, chunked")),
    Case("chunked twice in one", coded(b" chunked, chunked")),
    Case("chunked twice", coded(b" chunked", b" chunked")),
    Case("identity beside chunked", coded(b" identity", b" chunked")),
    Case("chunked beside identity", coded(b" chunked", b" identity")),
    Case("nothing, then chunked", coded(b" , chunked")),
    Case("chunked with a parameter", coded(b" chunked;q=1")),
    Case("chunked in quotes", coded(b' "chunked"')),
    Case("almost chunked", coded(b" xchunked")),
    Case("chunked after a control byte", coded(b" \x0bchunked")),
    Case("folded chunked", coded(b"\r\n chunked")),
    Case("space before the colon of a coding", post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n")),
    Case("chunked in HTTP/1.0", post(CHUNKED, b"5\r\nhello\r\n0\r\n\r\n", b"HTTP/1.0")),
    Case("chunked in capitals", coded(b" CHUNKED"), 200, BOTH),
    # What follows
    Case("offer of HTTP/2 with a body", offer(b"h2c", SMUGGLED), 200, ("POST / 38", BOTH[1])),
    Case("offer of something with a body", offer(b"x", SMUGGLED), 200, ("POST / 38", BOTH[1])),
    Case("offer of two", offer(b"websocket, h2c", SMUGGLED), 200, ("POST / 38", BOTH[1])),
    Case("offer of a WebSocket with a body", offer(b"websocket", SMUGGLED), 200, ("POST / 38", BOTH[1])),
    Case("offer beside chunks", post(b"Connection: upgrade\r\nUpgrade: x\r\n" + CHUNKED, b"0\r\n\r\n"), 200, EMPTY),
    Case("offer beside two lengths", post(OFFER + b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello")),
    Case("offer", get(headers=HOST + OFFER), 200, ("GET / 0", "GET /second 0")),
    Case("offer without a host", get(headers=OFFER)),
    Case("offer in HTTP/1.0", get(headers=HOST + OFFER, version=b"HTTP/1.0"), 200, ("GET / 0",)),
    Case("address of another host beside an offer", get(b"http://bank/a", HOST + OFFER)),
    Case("WebSocket with a body", get(headers=WEBSOCKET + b"Content-Length: 38\r\n") + SMUGGLED),
    Case("WebSocket with chunks", get(headers=WEBSOCKET + CHUNKED) + b"0\r\n\r\n"),
    Case("WebSocket at an address of another host", get(b"http://bank/a", WEBSOCKET)),
    Case("WebSocket without a path", get(b"shop", WEBSOCKET)),
    Case("WebSocket without a host", get(headers=WEBSOCKET.replace(HOST, b""))),
    Case("WebSocket without a key", get(headers=WEBSOCKET.replace(b"Key", b"Kay"))),
    Case("WebSocket with a short key", get(headers=WEBSOCKET.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhl"))),
    Case("WebSocket with two keys", get(headers=WEBSOCKET + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")),
    Case("WebSocket of an old version", get(headers=WEBSOCKET.replace(b"13", b"8")), 426),
    Case("body longer than said", post(b"Content-Length: 5\r\n", b"hello, world"), 200, ("POST / 5",)),
    Case("body that nobody announced", get() + b"hello", 200, ("GET / 0",)),
    Case("request in a body", post(b"Content-Length: %d\r\n" % len(SMUGGLED), SMUGGLED), 200, ("POST / 38", BOTH[1])),
    Case("empty lines before a request", b"\r\n\r\n" + get(), 200, ("GET / 0", "GET /second 0")),
)
