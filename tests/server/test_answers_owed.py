"""What was received whole is answered, in order, before the connection ends, whatever comes after it."""

import asyncio

import pytest
from gunicorn_fastapi.protocol import PIPELINED
from wires import Witness, Worker, run, until

HOST = b"Host: shop\r\n"
BROKEN = {
    "nonsense": b"\x00\x01\x02\r\n\r\n",
    "no host": b"GET /broken HTTP/1.1\r\n\r\n",
    "two lengths": b"POST /broken HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a huge header": b"GET /broken HTTP/1.1\r\nHost: a\r\nA: %b\r\n\r\n" % (b"a" * 70_000),
    "a bad chunk": b"POST /broken HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    "a trailer that closes": b"POST /broken HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"0\r\nConnection: close\r\n\r\n",
    "another protocol": b"GET /broken RTSP/1.0\r\nHost: a\r\n\r\n",
    "another protocol, else as before it": b"GET /2 RTSP/1.0\r\nHost: a\r\n\r\n",
    "another protocol, and a body": b"POST /broken RTSP/1.1\r\nHost: a\r\nContent-Length: 23\r\n\r\n"
    b"POST /broken HTTP/1.1\r\n",
}
ANSWERED = [(200, b"/wait"), (200, b"/2")]


def get(path: bytes, more: bytes = b"") -> bytes:
    """A good request."""
    return b"GET %b HTTP/1.1\r\n%b%b\r\n" % (path, HOST, more)


@pytest.mark.parametrize("cut", ["whole", "after the good ones", "bytes"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_request_after_good_ones(name: str, cut: str) -> None:
    """The good ones are answered first, one of which takes its time; the broken one last."""
    good, broken = get(b"/wait") + get(b"/2"), BROKEN[name]
    parts = {
        "whole": [good + broken],
        "after the good ones": [good, broken],
        "bytes": [bytes([byte]) for byte in good + broken[:200]] + [broken[200:]],
    }[cut]

    async def test() -> None:
        async with Worker(witness := Witness()) as worker:
            client = await worker.connect()
            for part in parts:
                client.send(part)
                await asyncio.sleep(0)
            await until(lambda: witness.seen and len(worker.connections) == 1, "the first runs")
            await asyncio.sleep(0.02)
            witness.go.set()
            answers = await client.answers()
            assert answers[:2] == ANSWERED
            (last,) = answers[2:]
            assert last[0] in (400, 431, 505)
            assert [path for _, path, _ in witness.seen] == ["/wait", "/2"]

    run(test())


@pytest.mark.parametrize("size", [1, 5, 20, 70, 1000])
def test_a_body_that_speaks_of_another_protocol(size: int) -> None:
    """In lines like the first one of its own request, and of the next: in any pieces, both are answered."""
    body = b"POST /a RTSP/1.0\r\n\nGET /2 RTSP/1.0\r\n"
    data = b"POST /a HTTP/1.1\r\n%bX: POST /a RTSP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (HOST, len(body), body)
    data += get(b"/2", b"X: RTSP/1.0\r\n")

    async def test() -> None:
        async with Worker(Witness()) as worker:
            client = await worker.connect()
            for at in range(0, len(data), size):
                client.send(data[at : at + size])
                await asyncio.sleep(0)
            client.writer.write_eof()
            assert await client.answers() == [(200, b"/a"), (200, b"/2")]

    run(test())


@pytest.mark.parametrize("count", [1, 2, 20])
def test_a_client_that_has_said_its_last(count: int) -> None:
    """By its FIN, with all requests before it, while the first is being worked on."""

    async def test() -> None:
        async with Worker(witness := Witness()) as worker:
            client = await worker.connect(get(b"/wait") * count)
            client.writer.write_eof()
            await until(lambda: witness.seen, "the first runs")
            await asyncio.sleep(0.02)
            await worker.pass_time(60)
            witness.go.set()
            assert await client.answers() == [(200, b"/wait")] * count
            await until(lambda: not worker.connections, "the connection has ended")

    run(test())


def test_a_body_and_then_the_last() -> None:
    """A POST in chunks, its end and FIN at once; and one that is not whole, which is not answered."""
    head = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"

    async def test() -> None:
        async with Worker(witness := Witness()) as worker:
            client = await worker.connect(head + b"0\r\n\r\n")
            client.writer.write_eof()
            assert await client.answers() == [(200, b"/a")]
            client = await worker.connect(get(b"/wait") + head)
            client.writer.write_eof()
            await until(lambda: len(witness.seen) == 2, "the first runs")
            witness.go.set()
            assert await client.answers() == [(200, b"/wait")]
            assert [path for _, path, _ in witness.seen] == ["/a", "/wait"]

    run(test())


def test_after_a_last_word_nothing_is_left() -> None:
    """Who has gone for good after it is noticed: the answer is not taken, the request ends."""

    async def test() -> None:
        async with Worker(witness := Witness()) as worker:
            client = await worker.connect(get(b"/wait"))
            client.writer.write_eof()
            await until(lambda: witness.seen, "it runs")
            client.close(reset=True)
            witness.go.set()
            await until(lambda: not worker.connections, "the connection has ended")

    run(test())


def test_headers_that_arrive_during_a_stop() -> None:
    """Slowly, but in time: answered, with the word that the connection ends."""

    async def test() -> None:
        async with Worker(Witness()) as worker:
            client = await worker.connect(b"GET /slow HTTP/1.1\r\n")
            fresh = await worker.connect()
            again = await worker.connect(get(b"/first"))
            await again.answer()
            again.send(b"GET /again HTTP/1.1\r\n")
            await until(lambda: len(worker.connections) == 3 and worker.guard.heads.total, "they are there")
            stop = asyncio.create_task(worker.server.shutdown())
            for _ in range(30):
                await asyncio.sleep(0.05)
                client.send(b"A: b\r\n")
                again.send(b"A: b\r\n")
            assert not stop.done()
            for each in (client, again):
                each.send(HOST + b"\r\n")
                status, head, _ = await each.answer()
                assert (status, b"connection: close" in head.lower()) == (200, True)
                assert await each.rest() == b""
            assert await fresh.rest() == b""
            await stop

    run(test())


OFFERS = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n",
    "TLS": b"Connection: upgrade\r\nUpgrade: TLS/1.0\r\n",
    "two": b"Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
}


@pytest.mark.parametrize("size", [None, 1, 7])
@pytest.mark.parametrize("name", OFFERS)
def test_an_offer_is_answered_and_the_connection_goes_on(name: str, size: int | None) -> None:
    """Before, after and beside other requests, with and without a body."""
    body = b"POST /2 HTTP/1.1\r\nHost: a\r\n%bContent-Length: 5\r\n\r\nhello" % OFFERS[name]
    data = (
        get(b"/1", OFFERS[name]) + body + get(b"/3") + get(b"/4", OFFERS[name]) + get(b"/5", b"Connection: close\r\n")
    )

    async def test() -> None:
        async with Worker(witness := Witness()) as worker:
            client = await worker.connect()
            for start in range(0, len(data), size or len(data)):
                client.send(data[start : start + (size or len(data))])
                await asyncio.sleep(0)
            assert await client.answers() == [(200, b"/%d" % number) for number in range(1, 6)]
            assert witness.seen[1] == ("POST", "/2", b"hello")
            assert (b"upgrade", OFFERS[name].split(b"Upgrade: ")[-1].split(b"\r\n")[0]) in witness.headers[0]

    run(test())


def test_a_get_that_offered_alone_may_ask_again() -> None:
    """Nothing closes without a word."""

    async def test() -> None:
        async with Worker(Witness()) as worker:
            client = await worker.connect(get(b"/1", OFFERS["h2c"]))
            for number in (1, 2, 3):
                status, head, body = await client.answer()
                assert (status, body) == (200, b"/%d" % number)
                assert b"connection: close" not in head.lower()
                client.send(get(b"/%d" % (number + 1)))

    run(test())


def test_too_many_at_once_are_answered_as_far_as_they_are_taken() -> None:
    """And the one too many is refused after them."""

    async def test() -> None:
        async with Worker(witness := Witness()) as worker:
            client = await worker.connect(get(b"/wait") * (PIPELINED + 50))
            await until(lambda: witness.seen, "the first runs")
            await asyncio.sleep(0.02)
            witness.go.set()
            answers = [status for status, _ in await client.answers()]
            assert answers == [200] * (PIPELINED + 1) + [400]
            assert len(witness.seen) == PIPELINED + 1

    run(test())


def test_a_body_that_breaks_while_it_is_read() -> None:
    """The application is told, and the client gets the refusal instead of silence."""

    async def test() -> None:
        async with Worker(witness := Witness()) as worker:
            client = await worker.connect(
                b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
            )
            await until(lambda: witness.scopes, "it runs")
            client.send(b"nonsense\r\n")
            assert [status for status, _ in await client.answers()] == [400]
            await until(lambda: witness.left, "the application is told")

    run(test())
