"""Each rule of the guard for HTTP has two requests: one just inside, which is served, and one just outside.

What a refusal says has nothing in it that the client said.
"""

import ast
import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gunicorn_fastapi
import pytest
from malformed import CASES, CHUNKED, HOST, WEBSOCKET, Case, chunked, get, post, trailing
from wires import Client, Witness, Worker, run, until

BOUNDS: dict[str, Any] = {"target_max": 100, "headers_max": 10, "header_max": 1000, "body_max": 50}
PIPELINED = 100
ADDRESS = get(b"http://%b/a")


class Rule(NamedTuple):
    """``words``: what the client is told that sends what is outside. ``served``: the status of what is inside."""

    words: str
    inside: bytes
    outside: bytes
    status: int = 400
    served: int = 200


def header(value: bytes) -> bytes:
    """A GET with one header beside its host; with the four that each counts for a line, so many bytes of headers."""
    return get(headers=HOST + b"A: %b\r\n" % value)


def twice(line: bytes, body: bytes = b"") -> tuple[bytes, bytes]:
    """A POST with a line once, and twice."""
    return post(line, body), post(line + line, body)


def socket(more: bytes = b"", **replaced: bytes) -> bytes:
    """A handshake, with values of its headers replaced."""
    head = WEBSOCKET
    for name, value in replaced.items():
        head = re.sub(rb"(?m)^Sec-WebSocket-%b: .*\r\n" % name.encode(), value, head)
    return get(headers=head + more)


TWO = "two headers host, content-length, transfer-encoding or expect"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
OTHER_CODING = "a transfer-encoding other than chunked"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"

RULES = (
    # Versions and protocols
    Rule("HTTP other than 1.0 and 1.1", get(version=b"HTTP/1.0"), get(version=b"HTTP/2.0"), 505),
    Rule("HTTP other than 1.0 and 1.1", get(version=b"HTTP/1.1"), get(version=b"HTTP/0.9"), 505),
    Rule("another protocol than HTTP", header(b"GET / RTSP/1.0"), get(version=b"RTSP/1.0"), 505),
    Rule("SOURCE is for streams", b"SEARCH / HTTP/1.1\r\n%b\r\n" % HOST, b"SOURCE / HTTP/1.1\r\n%b\r\n" % HOST, 501),
    Rule("a malformed request", header(b"\t\x80\xff~"), header(b"\x01")),
    # Whom it is for
    Rule("CONNECT is for proxies", b"TRACE / HTTP/1.1\r\n%b\r\n" % HOST, b"CONNECT a:1 HTTP/1.1\r\n%b\r\n" % HOST, 501),
    Rule("neither a path nor an address", b"OPTIONS * HTTP/1.1\r\n%b\r\n" % HOST, get(b"*")),
    Rule("neither a path nor an address", get(b"/?a:b//c"), get(b"/#")),
    Rule("an address of another host", get(b"http://SHOP/"), get(b"http://shop:80/")),
    Rule("no header host", get(headers=b"", version=b"HTTP/1.0"), get(headers=b"")),
    Rule("an invalid header host", get(headers=b"Host: [::1]:80\r\n"), get(headers=b"Host: [::1\r\n")),
    Rule("an invalid header host", get(headers=b"Host:\r\n"), get(headers=b"Host: shop:80a\r\n")),
    Rule(TWO, get(headers=HOST), get(headers=HOST + HOST)),
    Rule(TWO, *twice(b"Expect: nothing\r\n")),
    Rule("a malformed request", *twice(CHUNKED, HELLO)),
    # Where it ends
    Rule("a malformed request", *twice(b"Content-Length: 5\r\n", b"hello")),
    Rule(OTHER_CODING, chunked(HELLO), post(b"Transfer-Encoding: gzip, chunked\r\n", HELLO)),
    Rule(OTHER_CODING, post(b"Transfer-Encoding: CHUNKED\r\n", HELLO), post(CHUNKED, HELLO, b"HTTP/1.0")),
    Rule("a trailer that says how a message ends", trailing(b"Host: a\r\n"), trailing(b"Connection: close\r\n")),
    # Sizes
    Rule("an address of more than 100 bytes", get(b"/" + b"a" * 99), get(b"/" + b"a" * 100), 414),
    Rule("more than 10 headers", get(headers=HOST + b"A: b\r\n" * 9), get(headers=HOST + b"A: b\r\n" * 10), 431),
    Rule("headers of more than 1000 bytes", header(b"a" * 983), header(b"a" * 984), 431),
    Rule("headers of more than 1000 bytes", get(b"/" + b"a" * 99, HOST + b"A: %b\r\n" % (b"a" * 983)),
         get(b"/" + b"a" * 99, HOST + b"A: %b\r\n" % (b"a" * 984)), 431),
    Rule("more than 10 trailers", trailing(b"A: b\r\n" * 10), trailing(b"A: b\r\n" * 11), 431),
    Rule("trailers of more than 1000 bytes", trailing(b"A: %b\r\n" % (b"a" * 495) * 2),
         trailing(b"A: %b\r\n" % (b"a" * 495) + b"A: %b\r\n" % (b"a" * 496)), 431),
    Rule("a body of more than 50 bytes", post(b"Content-Length: 50\r\n", b"a" * 50),
         post(b"Content-Length: 51\r\n", b"a" * 51), 413),
    Rule("a body of more than 50 bytes", chunked(b"19\r\n%b\r\n" % (b"a" * 25) * 2 + b"0\r\n\r\n"),
         chunked(b"19\r\n%b\r\n" % (b"a" * 25) * 2 + b"1\r\na\r\n0\r\n\r\n"), 413),
    # WebSockets
    Rule("a body beside an upgrade", socket(b"Content-Length: 0\r\n"), socket(b"Content-Length: 1\r\n"), served=101),
    Rule("a version of WebSockets other than 13", socket(), socket(Version=b"Sec-WebSocket-Version: 12\r\n"), 426, 101),
    Rule("a handshake without a valid key", socket(), socket(KEY), served=101),
    Rule("a handshake without a valid key", socket(Key=KEY), socket(Key=KEY.replace(b"==", b"=")), served=101),
)  # fmt: skip

# What takes more than one request: in tests of their own below.
APART = {
    "more than 100 requests before the first is answered",
    "an upgrade before the last request is answered",
    "more than three quarters of the connections are WebSockets",
    "more than 4 connections",
}

NAMES = [f"{rule.words}, {number}".replace(" ", "-") for number, rule in enumerate(RULES)]


def reasons() -> Iterator[str]:
    """What the source can say of a refusal, as a pattern: numbers alone are filled in."""
    for path in Path(gunicorn_fastapi.__file__).parent.glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call) or getattr(call.func, "id", "") != "Refusal":
                continue
            text = call.args[1]
            if isinstance(text, ast.Constant):
                yield re.escape(str(text.value))
            elif isinstance(text, ast.JoinedStr):
                yield "".join(re.escape(str(p.value)) if isinstance(p, ast.Constant) else "[0-9]+" for p in text.values)
            else:
                # guard.admit() says why there is no room.
                assert ast.unparse(text) == "reason", ast.unparse(call)
                yield "more than [0-9]+ connections"


REASONS = sorted(set(reasons()))


async def send(client: Client, data: bytes, size: int) -> None:
    """In pieces of that size, with a turn of the loop after each."""
    for at in range(0, len(data), size):
        client.send(data[at : at + size])
        await asyncio.sleep(0)
    client.writer.write_eof()


@pytest.mark.parametrize("words", REASONS)
def test_each_rule_has_its_pair(words: str) -> None:
    """Who adds a rule adds what is inside and what is outside of it."""
    assert [known for known in {*APART, *(rule.words for rule in RULES)} if re.fullmatch(words, known)]


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_a_rule_from_both_sides(rule: Rule, size: int) -> None:
    """However it comes in: what is inside is served, of what is outside the application hears nothing."""

    async def test() -> None:
        async with Worker(witness := Witness(), **BOUNDS) as worker:
            client = await worker.connect()
            await send(client, rule.inside, size)
            assert int((await client.head()).split()[1]) == rule.served
            assert len(witness.scopes) == 1
            client = await worker.connect()
            await send(client, rule.outside, size)
            (answer,) = await client.answers()
            assert answer == (rule.status, rule.words.encode())
            await until(lambda: not worker.connections, "the connection has ended")
            # A body that breaks off was being read; nobody got it whole.
            assert len(witness.seen) == (0 if rule.served == 101 else 1)

    run(test())


@pytest.mark.parametrize(("count", "refused"), [(PIPELINED + 1, 0), (PIPELINED + 2, 1)])
def test_so_many_may_wait_for_an_answer(count: int, refused: int) -> None:
    """One that the application has, and a hundred behind it."""

    async def test() -> None:
        async with Worker(witness := Witness()) as worker:
            client = await worker.connect(get(b"/wait") * (count - 1) + get(b"/wait", HOST + b"Connection: close\r\n"))
            await until(lambda: witness.seen, "the first runs")
            witness.go.set()
            answers = [status for status, _ in await client.answers()]
            assert answers == [200] * (PIPELINED + 1) + [400] * refused

    run(test())


@pytest.mark.parametrize("is_answered", [True, False])
def test_an_upgrade_waits_for_the_answer_before_it(is_answered: bool) -> None:
    """The client may ask for it when it has read that; sent at once, it is refused after it."""

    async def test() -> None:
        async with Worker(witness := Witness()) as worker:
            client = await worker.connect(get(b"/wait"))
            await until(lambda: witness.seen, "it runs")
            if is_answered:
                witness.go.set()
                await client.answer()
                client.send(socket())
                assert (await client.head()).startswith(b"HTTP/1.1 101 ")
            else:
                client.send(socket())
                await asyncio.sleep(0.02)
                witness.go.set()
                refusal = b"an upgrade before the last request is answered"
                assert await client.answers() == [(200, b"/wait"), (400, refusal)]

    run(test())


def test_three_quarters_are_for_websockets() -> None:
    """Of four connections three; the fourth is for who asks once."""

    async def test() -> None:
        async with Worker(Witness(), connections=4) as worker:
            for _ in range(3):
                await worker.websocket()
            client = await worker.connect(socket())
            refusal = b"more than three quarters of the connections are WebSockets"
            assert await client.answers() == [(503, refusal)]
            assert (await (await worker.connect(get())).answer())[0] == 200

    run(test())


@pytest.mark.parametrize("is_busy", [True, False])
def test_so_many_connections(is_busy: bool) -> None:
    """The last one that there is room for is served; one more is refused if nobody can be closed for it."""

    async def test() -> None:
        async with Worker(witness := Witness(), connections=4) as worker:
            clients = [await worker.connect(get(b"/wait")) for _ in range(4)]
            await until(lambda: len(witness.seen) == 4, "the application has them")
            if is_busy:
                refused = await worker.connect(get())
                assert await refused.answers() == [(503, b"more than 4 connections")]
            witness.go.set()
            assert [(await client.answer())[0] for client in clients] == [200] * 4
            if not is_busy:
                assert (await (await worker.connect(get())).answer())[0] == 200

    run(test())


# --- What a refusal says ------------------------------------------------------------------------------

MINE = b"Zq7xWv"
"""A word that only the client says."""

WORDS = {
    "method": b"%b / HTTP/1.1\r\nHost: shop\r\n\r\n",
    "path": b"GET %b HTTP/1.1\r\nHost: shop\r\n\r\n",
    "path with a space": b"GET /%b b HTTP/1.1\r\nHost: shop\r\n\r\n",
    "address": b"GET http://%b/ HTTP/1.1\r\nHost: shop\r\n\r\n",
    "version": b"GET / HTTP/%b\r\nHost: shop\r\n\r\n",
    "protocol": b"GET /%b RTSP/1.0\r\nHost: shop\r\n\r\n",
    "host": b"GET / HTTP/1.1\r\nHost: %b/\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: shop\r\nHost: %b\r\n\r\n",
    "name": b"GET / HTTP/1.1\r\nHost: shop\r\n%b (: b\r\n\r\n",
    "value": b"GET / HTTP/1.1\r\nHost: shop\r\nA: %b\x01\r\n\r\n",
    "long value": b"GET / HTTP/1.1\r\nHost: shop\r\nA: %b" + b"a" * 1000 + b"\r\n\r\n",
    "length": b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: %b\r\n\r\n",
    "coding": b"POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: %b\r\n\r\n",
    "expectation": b"POST / HTTP/1.1\r\nHost: shop\r\nExpect: %b\r\nExpect: b\r\n\r\n",
    "chunk": b"POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n%b\r\n",
    "trailer": b"POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nUpgrade: %b\r\n\r\n",
    "body": b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 51\r\n\r\n%b",
    "key": socket(Key=b"Sec-WebSocket-Key: %b\r\n"),
    "version of WebSockets": socket(Version=b"Sec-WebSocket-Version: %b\r\n"),
    "id": b"GET / HTTP/1.1\r\nX-Request-ID: %b\r\n\r\n",
}


@pytest.mark.parametrize("where", WORDS)
def test_a_refusal_reflects_nothing(where: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither to the client nor in the log, wherever its word stands."""

    async def test() -> None:
        async with Worker(Witness(), **BOUNDS) as worker:
            client = await worker.connect(WORDS[where] % MINE)
            stream = await client.rest()
            assert stream.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")), stream
            assert MINE.lower() not in stream.lower()

    run(test())
    assert "Refused with" in caplog.text
    assert MINE.decode().lower() not in caplog.text.lower()


@pytest.mark.parametrize("case", [case for case in CASES if case.status != 200], ids=lambda case: case.name)
def test_a_refusal_has_words_of_the_server_alone(case: Case) -> None:
    """Whatever is wrong with a request: one of the reasons above, with numbers that the operator has set."""

    async def test() -> None:
        async with Worker(Witness()) as worker:
            client = await worker.connect()
            await send(client, case.data, len(case.data))
            status, body = (await client.answers())[0]
            assert status == case.status
            assert [reason for reason in REASONS if re.fullmatch(reason, body.decode())]

    run(test())


# --- What HTTP/1.0 knows nothing of -------------------------------------------------------------------

EXPECTING = b"Content-Length: 5\r\nExpect: 100-continue\r\n"


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize(("version", "is_told"), [(b"HTTP/1.1", True), (b"HTTP/1.0", False)])
def test_only_http_1_1_is_told_to_continue(version: bytes, is_told: bool, size: int) -> None:
    """An older client would take that for the answer (RFC 9110, 10.1.1). Its body is read all the same."""

    async def test() -> None:
        async with Worker(witness := Witness()) as worker:
            client = await worker.connect()
            data = post(EXPECTING, b"", version)
            for at in range(0, len(data), size):
                client.send(data[at : at + size])
                await asyncio.sleep(0)
            if is_told:
                assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
            else:
                await until(lambda: witness.scopes, "the application waits for the body")
                await asyncio.sleep(0.02)
            client.send(b"hello")
            assert (await client.answer())[::2] == (200, b"/")
            assert witness.seen == [("POST", "/", b"hello")]

    run(test())
