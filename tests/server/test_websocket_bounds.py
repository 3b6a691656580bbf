"""What the client of a WebSocket can take up: by a handshake, messages, their pieces, pings, and when it has gone."""

import asyncio
import gc
import logging
import re
import tracemalloc
import zlib
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn_fastapi import frames
from gunicorn_fastapi import handshake as handshakes
from gunicorn_fastapi.log import bounded
from gunicorn_fastapi.websocket import CLOSING, CONTROLS, EARLY
from wires import Client, Witness, Worker, frame, handshake, run, until

DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def deflated(size: int) -> bytes:
    """A compressed message of so many bytes, a thousandth of it on the wire."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = compressor.compress(bytes(size)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return frame(BINARY, data[:-4], is_compressed=True)


def warnings(caplog: pytest.LogCaptureFixture, client: Client) -> list[str]:
    """What was said of a client."""
    return [record.getMessage() for record in caplog.records if client.name in record.getMessage()]


# --- Handshakes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8_100, 8_190, 8_200, 16_000, 60_000])
def test_a_long_line_in_a_handshake(size: int) -> None:
    """It is accepted like any other, and the socket works."""

    async def test() -> None:
        async with Worker(witness := Witness()) as worker:
            client = await worker.websocket(offer=b"A: %b\r\n" % (b"a" * (size - 3)))
            client.send(frame(TEXT, b"hello"))
            assert await client.frame() == (TEXT, b"5")
            assert dict(witness.scopes[0]["headers"])[b"a"] == b"a" * (size - 3)

    run(test())


@pytest.mark.parametrize(
    ("more", "status"),
    [(b"A: %b\r\n" % (b"a" * 66_000), 431), (b"A: b\r\n" * 200, 431), (b"Sec-WebSocket-Key: x\r\n", 400)],
)
def test_a_handshake_has_the_bounds_of_a_request(more: bytes, status: int) -> None:
    """And the application is not asked."""

    async def test() -> None:
        async with Worker(witness := Witness()) as worker:
            client = await worker.connect(handshake(more=more))
            assert [answer[0] for answer in await client.answers()] == [status]
            assert not witness.scopes

    run(test())


def test_an_unfinished_handshake_has_the_time_of_a_request() -> None:
    """Whatever the length of its lines; the bound against slow requests sees it."""

    async def test() -> None:
        async with Worker(Witness(), header_timeout=10) as worker:
            client = await worker.connect(handshake(more=b"A: %b" % (b"a" * 8_190))[:-4])
            await until(lambda: worker.guard.heads.total > 8_190, "it is counted")
            await worker.pass_time(8)
            assert not client.reader.at_eof()
            await worker.pass_time(3)
            assert await client.rest() == b""
            assert worker.guard.heads.total == 0

    run(test())


def test_handshakes_do_not_hold_up_a_stop() -> None:
    """Neither those that are not complete, nor those that the application answers meanwhile, nor those it refuses."""
    go = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await go.wait()
        await send({"type": "websocket.close" if scope["path"] == "/refuse" else "websocket.accept"})
        await receive()

    async def test() -> None:
        long = b"A: %b\r\n" % (b"a" * 8_187)
        async with Worker(slow, header_timeout=1) as worker:
            asked = [await worker.connect(handshake(more=long)) for _ in range(4)]
            refused = await worker.connect(handshake(b"/refuse", more=long))
            begun = await worker.connect(handshake(more=long)[:-2])
            await until(lambda: len(worker.guard.websockets) == 5 and worker.guard.heads.total, "all are there")
            stop = asyncio.create_task(worker.server.shutdown())
            assert await begun.rest() == b""
            assert not stop.done()
            go.set()
            for client in asked:
                assert (await client.head()).startswith(b"HTTP/1.1 101 ")
                assert await client.close_code() == 1012
            assert [answer[0] for answer in await refused.answers()] == [403]
            await stop
            assert not worker.connections

    run(test())


def test_what_is_refused_is_told_with_its_client(caplog: pytest.LogCaptureFixture) -> None:
    """By the server and by the application."""
    caplog.set_level(logging.INFO)

    async def test() -> None:
        async with Worker(Witness()) as worker:
            client = await worker.connect(handshake(b"/refuse"))
            assert [answer[0] for answer in await client.answers()] == [403]
            (words,) = warnings(caplog, client)
            assert words.endswith('"WebSocket /refuse" 403')
            client = await worker.connect(handshake().replace(b"13", b"8"))
            status, head, _ = await client.answer()
            assert (status, b"sec-websocket-version: 13" in head) == (426, True)
            (words,) = warnings(caplog, client)
            assert words.endswith("Refused with 426: a version of WebSockets other than 13")

    run(test())


@pytest.mark.parametrize(
    ("path", "words", "most"),
    [
        (b"/", '"WebSocket /" [accepted]', handshakes.MOST),
        (b"/refuse", '"WebSocket /refuse" 403', handshakes.MOST),
        (b"/nothing", "ASGI callable returned without completing handshake.", handshakes.UNANSWERED),
    ],
)
def test_of_many_handshakes_the_rest_is_a_number(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, path: bytes, words: str, most: int
) -> None:
    """Those that are accepted, that the application refuses, and that it leaves without an answer."""
    caplog.set_level(logging.INFO, "uvicorn.error")
    monkeypatch.setattr(bounded, "time", SimpleNamespace(monotonic=lambda: 7.0))
    logger = logging.getLogger("uvicorn.error")
    monkeypatch.setattr(handshakes, "_records", bounded.Bounded(logger, logging.INFO, handshakes.MOST))
    monkeypatch.setattr(handshakes, "_unanswered", bounded.Bounded(logger, logging.ERROR, handshakes.UNANSWERED))

    def told() -> list[str]:
        return [record.getMessage() for record in caplog.records]

    def rest() -> int:
        numbers = [re.match(r"(\d+) more within a second, \1 of 127.0.0.1, the last: ", text) for text in told()]
        return sum(int(number[1]) for number in numbers if number and number.string.endswith(words))

    async def test() -> None:
        async with Worker(Witness()) as worker:
            for _ in range(most + 50):
                client = await worker.connect(handshake(path))
                await client.head()
                client.close(reset=True)
            await until(lambda: rest() == 50, "the rest is told")
            assert sum(words in text and "more within" not in text for text in told()) == most

    run(test())


def test_a_client_that_sends_thousands_of_messages_at_once_leaves_the_others_their_turn() -> None:
    """Nobody waits longer than for one of them, though the application never waits for the next."""
    count = 5000

    async def test() -> None:
        async with Worker(witness := Witness()) as worker:
            client = await worker.websocket()
            client.send(frame(TEXT, b"a") * count)
            turns = set()
            while len(witness.messages) < count:
                turns.add(len(witness.messages))
                await asyncio.sleep(0)
            assert len(turns) > count / 2

    run(test())


def test_before_the_answer_to_the_handshake_little_is_kept() -> None:
    """A client that does not wait for the application's word."""

    async def slow(_scope: Any, receive: Any, _send: Any) -> None:
        await receive()
        await asyncio.Event().wait()

    async def test() -> None:
        async with Worker(slow) as worker:
            client = await worker.connect(handshake() + frame(BINARY, b"x" * (EARLY + 1)))
            assert await client.rest() == b""
            await until(lambda: not worker.connections, "it is closed")

    run(test())


def test_a_quarter_of_the_room_is_for_those_who_ask_once() -> None:
    """The others get 503."""

    async def test() -> None:
        async with Worker(Witness(), connections=8) as worker:
            for _ in range(6):
                await worker.websocket()
            assert [answer[0] for answer in await (await worker.connect(handshake())).answers()] == [503]
            assert (await (await worker.connect(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")).answer())[0] == 200

    run(test())


# --- Messages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["whole", "announced", "pieces", "compressed", "compressed in pieces"])
def test_a_message_above_the_bound(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """1009 and one warning with the address, however it comes; nothing of it reaches the application."""
    size = 1_000_001
    piece = frame(0, b"x" * 10_000, is_last=False)
    data = {
        "whole": frame(BINARY, b"x" * size),
        "announced": frame(BINARY, b"x" * size)[:20],
        "pieces": frame(BINARY, b"x" * 10_000, is_last=False) + piece * 100,
        "compressed": deflated(size),
        "compressed in pieces": _in_pieces(deflated(size)),
    }[kind]

    async def test() -> None:
        async with Worker(witness := Witness(), message_max=1_000_000) as worker:
            client = await worker.websocket(offer=DEFLATE)
            client.send(data)
            assert await client.close_code() == 1009
            assert witness.messages == []
            assert warnings(caplog, client) == [
                f"{client.name} - Closed with 1009: a message of more than 1000000 bytes"
            ]
            assert worker.guard.messages.total == 0

    run(test())


def _is_kept(worker: Worker, least: int) -> bool:
    return worker.guard.messages.total >= least


def _in_pieces(whole: bytes) -> bytes:
    """The same message in fragments of 100 bytes."""
    payload = whole[8:]
    pieces = [payload[start : start + 100] for start in range(0, len(payload), 100)]
    return b"".join(
        frame(0 if number else BINARY, piece, is_last=number == len(pieces) - 1, is_compressed=not number)
        for number, piece in enumerate(pieces)
    )


@pytest.mark.parametrize("kind", ["whole", "compressed"])
def test_a_message_at_the_bound(kind: str) -> None:
    """Is taken."""

    async def test() -> None:
        async with Worker(witness := Witness(), message_max=1_000_000) as worker:
            client = await worker.websocket(offer=DEFLATE)
            client.send(frame(BINARY, b"x" * 1_000_000) if kind == "whole" else deflated(1_000_000))
            await client.frame()
            assert witness.messages == [1_000_000]

    run(test())


@pytest.mark.parametrize("kind", ["whole", "compressed", "unfinished", "pieces"])
def test_all_messages_together(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """The oldest go when the application does not take them, or when their end is awaited."""
    size = 900_000
    data = {
        "whole": frame(BINARY, b"x" * size),
        "compressed": deflated(size),
        "unfinished": frame(BINARY, b"x" * size)[:-1],
        "pieces": frame(BINARY, b"x" * size, is_last=False),
    }[kind]

    async def test() -> None:
        async with Worker(witness := Witness(), message_max=1_000_000, messages_max=5_000_000) as worker:
            clients = []
            for number in range(12):
                clients.append(await worker.websocket(b"/busy", offer=DEFLATE))
                clients[-1].send(data)
                least = min(number + 1, 5) * size
                await until(partial(_is_kept, worker, least), "it is kept")
                assert worker.guard.messages.total <= 5_000_000
            for client in clients[:7]:
                assert await client.close_code() == 1009
                assert "messages of all clients of more than 5000000 bytes" in warnings(caplog, client)[0]
            witness.go.set()
            for client in clients[7:]:
                client.send(b"x" if kind == "unfinished" else frame(0) if kind == "pieces" else b"")
                assert await client.frame() == (TEXT, b"%d" % size)
            await until(lambda: worker.guard.messages.total == 0, "nothing is kept")

    run(test())


def test_many_messages_wait_on_the_wire() -> None:
    """One at a time is taken apart; who sends a thousand while the application is busy has one and a read kept."""

    async def test() -> None:
        async with Worker(witness := Witness()) as worker:
            client = await worker.websocket(b"/busy", offer=DEFLATE)
            client.send(deflated(900_000) * 300)
            await until(lambda: worker.guard.messages.total, "the first is there")
            for _ in range(20):
                await asyncio.sleep(0.005)
                assert worker.guard.messages.total < 900_000 + 600_000
            witness.go.set()
            await until(lambda: len(witness.messages) == 300, "all of them arrive")

    run(test())


def test_what_a_client_held_is_free_when_it_has_gone() -> None:
    """Without Python's collector: unfinished, in pieces, waiting for the application, compressed."""

    async def test() -> None:
        async with Worker(witness := Witness()) as worker:
            tracemalloc.start()
            gc.collect()
            gc.disable()
            try:
                before = tracemalloc.get_traced_memory()[0]
                clients = [await worker.websocket(b"/busy", offer=DEFLATE) for _ in range(16)]
                for number, client in enumerate(clients):
                    client.send(
                        (
                            frame(BINARY, b"x" * 900_000)[:-1],
                            frame(BINARY, b"x" * 900_000, is_last=False),
                            frame(BINARY, b"x" * 900_000),
                            deflated(900_000),
                        )[number % 4]
                    )
                await until(lambda: worker.guard.messages.total >= 16 * 900_000, "all are kept")
                assert tracemalloc.get_traced_memory()[0] - before > 14_000_000
                for number, client in enumerate(clients):
                    client.close(reset=number % 4 > 1)
                await worker.pass_time(2)
                await until(lambda: not worker.connections, "all have gone")
                assert worker.guard.messages.total == 0
                held = tracemalloc.get_traced_memory()[0] - before
                assert held < 3_000_000, held
                witness.go.set()
                await until(lambda: len(witness.left) == 16, "the application is told")
                assert [message["code"] for message in witness.left] == [1006] * 16
            finally:
                gc.enable()
                tracemalloc.stop()

    run(test())


# --- Pieces and control frames ------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [b"", b"x"])
def test_pieces_have_a_number(piece: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Empty ones and those of one byte."""

    async def test() -> None:
        async with Worker(Witness()) as worker:
            client = await worker.websocket()
            client.send(frame(TEXT, piece, is_last=False) + frame(0, piece, is_last=False) * frames.FRAGMENTS)
            assert await client.close_code() == 1008
            assert f"a message in more than {frames.FRAGMENTS} pieces" in warnings(caplog, client)[0]
            client = await worker.websocket()
            most = frame(0, piece, is_last=False) * (frames.FRAGMENTS - 2)
            client.send(frame(TEXT, piece, is_last=False) + most + frame(0, piece))
            assert await client.frame() == (TEXT, b"%d" % (frames.FRAGMENTS * len(piece)))

    run(test())


@pytest.mark.parametrize("begun", [frame(TEXT, b"a", is_last=False), frame(TEXT, b"abc")[:-1], frame(TEXT, b"abc")[:1]])
def test_an_unfinished_message_ends_in_time(begun: bytes) -> None:
    """Even when pings or further pieces come all the time."""

    async def test() -> None:
        async with Worker(Witness(), stall_timeout=30) as worker:
            client = await worker.websocket()
            client.send(begun)
            for _ in range(6):
                await worker.pass_time(4)
                if begun.endswith(b"a"):
                    client.send(frame(PING) + frame(0, b"b", is_last=False))
                await asyncio.sleep(0.01)
            assert len(worker.connections) == 1
            await worker.pass_time(8)
            await client.rest()
            await until(lambda: not worker.connections, "it is closed")

    run(test())


def test_a_flood_of_pings(caplog: pytest.LogCaptureFixture) -> None:
    """Has a number for each second, which starts anew."""

    async def test() -> None:
        async with Worker(Witness()) as worker:
            client = await worker.websocket()
            await worker.pass_time(1)
            for _ in range(2):
                client.send(frame(PING, b"a") * CONTROLS)
                for _ in range(CONTROLS):
                    assert await client.frame() == (PONG, b"a")
                await worker.pass_time(1)
            client.send(frame(PONG) * (CONTROLS + 1))
            assert await client.close_code() == 1008
            assert f"more than {CONTROLS} control frames in a second" in warnings(caplog, client)[0]

    run(test())


def test_pings_of_a_client_that_reads_no_pongs() -> None:
    """What waits for it does not grow, and it does not stay."""

    async def test() -> None:
        async with Worker(Witness(), stall_timeout=60) as worker:
            client = await worker.websocket()
            (server,) = worker.guard.websockets
            server.transport.set_write_buffer_limits(1000)
            client.reader._transport.pause_reading()  # type: ignore[attr-defined] # noqa: SLF001
            largest = 0
            for _ in range(70):
                client.send(frame(PING, b"a" * 125) * CONTROLS)
                await asyncio.sleep(0.002)
                largest = max(largest, server.transport.get_write_buffer_size())
                await worker.pass_time(1)
                if not worker.connections:
                    break
            assert largest < 200_000

    run(test())


def test_who_takes_nothing_does_not_stay() -> None:
    """The application waits, nothing grows, the time ends it."""

    async def test() -> None:
        async with Worker(Witness(), stall_timeout=60) as worker:
            client = await worker.websocket(b"/talk")
            client.reader._transport.pause_reading()  # type: ignore[attr-defined] # noqa: SLF001
            (server,) = worker.guard.websockets
            await until(lambda: server.transport.get_write_buffer_size() > 0, "it is full")
            seconds = 0
            while worker.connections:
                assert server.transport.get_write_buffer_size() < 200_000
                assert seconds < 300
                await worker.pass_time(1)
                await asyncio.sleep(0.005)
                seconds += 1
            assert seconds >= 60

    run(test())


def test_idle_clients_are_pinged() -> None:
    """Who answers stays, who does not goes."""

    async def test() -> None:
        async with Worker(Witness()) as worker:
            good, bad = await worker.websocket(), await worker.websocket()
            for _ in range(3):
                await worker.pass_time(22)
                assert await good.frame() == (PING, b"")
                good.send(frame(PONG))
                await asyncio.sleep(0.01)
                await worker.pass_time(10)
            await until(lambda: len(worker.connections) == 1, "the silent one is closed")
            assert await bad.rest()
            good.send(frame(TEXT, b"hello"))
            assert await good.frame() == (TEXT, b"5")

    run(test())


def test_who_does_not_close_is_closed() -> None:
    """After a close frame of the server's, and more of what it sends is not taken."""

    async def test() -> None:
        async with Worker(Witness(), message_max=10) as worker:
            client = await worker.websocket()
            client.send(frame(TEXT, b"x" * 11))
            await client.frame()
            await worker.pass_time(CLOSING - 2)
            client.send(frame(TEXT, b"x" * 10) * 1000)
            await asyncio.sleep(0.02)
            assert len(worker.connections) == 1
            await worker.pass_time(4)
            await until(lambda: not worker.connections, "it is closed")

    run(test())


# --- What a client does wrong -------------------------------------------------------------------------

WRONG = {
    "bad UTF-8": (frame(TEXT, b"\xff"), 1007),
    "bad UTF-8 in pieces": (frame(TEXT, b"\xc3", is_last=False) + frame(0, b"\xff"), 1007),
    "half a character": (frame(TEXT, b"\xe2\x82"), 1007),
    "a surrogate": (frame(TEXT, b"\xed\xa0\x80"), 1007),
    "bad UTF-8 in a close frame": (frame(CLOSE, b"\x03\xe8\xff"), 1007),
    "a close frame of one byte": (frame(CLOSE, b"\x03"), 1002),
    "a close frame with 1005": (frame(CLOSE, b"\x03\xed"), 1002),
    "no mask": (b"\x81\x01a", 1002),
    "an unknown kind": (frame(3, b"a"), 1002),
    "an unknown control frame": (frame(11), 1002),
    "reserved bits": (b"\xa1" + frame(TEXT, b"a")[1:], 1002),
    "compressed without an agreement": (frame(TEXT, b"a", is_compressed=True), 1002),
    "a piece of nothing": (frame(0, b"a"), 1002),
    "a message in a message": (frame(TEXT, b"a", is_last=False) + frame(TEXT, b"b"), 1002),
    "a long ping": (frame(PING, b"a" * 126), 1002),
    "a ping in pieces": (frame(PING, b"a", is_last=False), 1002),
    "a length of 2^63": (b"\x82\xff" + b"\x80" + bytes(7), 1009),
}


@pytest.mark.parametrize("step", [None, 1], ids=["whole", "bytes"])
@pytest.mark.parametrize("name", WRONG)
def test_what_no_client_may_send(name: str, step: int | None, caplog: pytest.LogCaptureFixture) -> None:
    """One warning with its address, no traceback, and the code of RFC 6455."""
    caplog.set_level(logging.INFO)
    data, code = WRONG[name]

    async def test() -> None:
        async with Worker(witness := Witness()) as worker:
            client = await worker.websocket()
            for start in range(0, len(data), step or len(data)):
                client.send(data[start : start + (step or len(data))])
                await asyncio.sleep(0)
            assert await client.close_code() == code
            assert witness.messages == []
            await until(lambda: witness.left, "the application is told")
        records = [record for record in caplog.records if record.levelno > logging.INFO]
        assert len(records) == 1
        assert records[0].levelno == logging.WARNING
        assert records[0].exc_info is None
        assert re.fullmatch(rf"{client.name} - Closed with {code}: [^\n]+", records[0].getMessage())

    run(test())


def test_what_many_do_wrong_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """Of more than 200 in a second the rest is one record."""

    async def test() -> None:
        async with Worker(Witness()) as worker:
            worker.guard.refused._most = 20  # noqa: SLF001
            clients = [await worker.websocket() for _ in range(60)]
            for client in clients:
                client.send(frame(TEXT, b"\xff"))
            for client in clients:
                assert await client.close_code() == 1007
            records = [record for record in caplog.records if "a text that is no UTF-8" in record.getMessage()]
            assert 20 <= len(records) <= 42  # the seconds may change in the midst of it

    run(test())


def test_compressed_nonsense() -> None:
    """1007, as for bad text."""

    async def test() -> None:
        async with Worker(Witness()) as worker:
            client = await worker.websocket(offer=DEFLATE)
            client.send(frame(TEXT, b"\xff" * 10, is_compressed=True))
            assert await client.close_code() == 1007

    run(test())


def test_a_stop_ends_sockets_with_1012() -> None:
    """Also one whose message is not complete, and one whose client reads nothing."""

    async def test() -> None:
        async with Worker(Witness()) as worker:
            idle, begun, deaf = [await worker.websocket() for _ in range(3)]
            begun.send(frame(TEXT, b"a", is_last=False))
            await until(lambda: worker.guard.messages.total, "it is begun")
            stop = asyncio.create_task(worker.server.shutdown())
            assert await idle.close_code() == 1012
            assert await begun.close_code() == 1012
            await stop
            assert await deaf.close_code() == 1012

    run(test())
