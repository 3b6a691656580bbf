"""How long a client may keep a worker waiting: each time from both sides, and for whom there is none."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from gunicorn_fastapi.connection import Answering
from gunicorn_fastapi.guard import LINGER
from gunicorn_fastapi.websocket import CLOSING
from malformed import SECOND, get, post
from wires import Client, Witness, Worker, frame, run, until

BOUNDS: dict[str, Any] = {"header_timeout": 10, "stall_timeout": 20}
LITTLE = 2**16
"""Bytes that a client reads by itself, and then no more."""


class Wait(NamedTuple):
    """``begin``: what the client does before it does nothing any more. ``reason``: why it is closed after so long."""

    begin: Callable[[Worker], Any]
    seconds: float
    reason: str


async def untaken(worker: Worker, **options: Any) -> Client:
    """A client that takes a little of its answer."""
    client = await worker.connect(get(b"/large"), limit=LITTLE, **options)
    await until(lambda: any(c.transport.get_write_buffer_size() for c in worker.connections), "an answer waits")
    return client


async def stopped(worker: Worker, path: bytes = b"/a", **options: Any) -> Client:
    """A client that sends a part of its body."""
    head = post(b"Content-Length: 9\r\n", b"a").replace(b" / ", b" %b " % path)
    client = await worker.connect(head, **options)
    if path == b"/early":
        await client.answer()
    return client


async def answered(worker: Worker) -> Client:
    """A client that has its answer, and sends a part of the next request."""
    client = await worker.connect(get())
    await client.answer()
    client.send(b"GET / HTTP/1.1\r\n")
    return client


async def talking(worker: Worker) -> Client:
    """The client of a WebSocket that talks, which takes a little."""
    client = await worker.websocket(b"/talk", limit=LITTLE)
    await until(lambda: any(c.transport.get_write_buffer_size() for c in worker.connections), "a message waits")
    return client


async def in_the_middle(worker: Worker) -> Client:
    """The client of a WebSocket that sends a part of a message."""
    client = await worker.websocket()
    client.send(frame(1, b"hello", is_last=False))
    return client


async def told_to_close(worker: Worker) -> Client:
    """The client of a WebSocket that has been told to close."""
    client = await worker.websocket()
    client.send(b"\x81\x00")
    assert (await client.frame())[0] == 8
    return client


NOTHING = "slow client, no progress for 20 s"

WAITS = {
    "silent": Wait(lambda worker: worker.connect(), 10, "no request within 10 s"),
    "a part of a head": Wait(lambda worker: worker.connect(b"GET / HT"), 10, "no request within 10 s"),
    "an empty line": Wait(lambda worker: worker.connect(b"\r\n"), 10, "no request within 10 s"),
    "a part of the next head": Wait(answered, 10, "no request within 10 s"),
    "refused": Wait(lambda worker: worker.connect(b"\x00"), 10, "no request within 10 s"),
    "a part of a body": Wait(stopped, 20, NOTHING),
    "a part of a body, answered": Wait(lambda worker: stopped(worker, b"/early"), 20, NOTHING),
    "a part of an answer": Wait(untaken, 20, NOTHING),
    "a part of a message": Wait(in_the_middle, 20, "no whole message within 20 s"),
    "a part of what a WebSocket says": Wait(talking, 20, NOTHING),
    "no end of a WebSocket": Wait(told_to_close, CLOSING, f"no end within {CLOSING} s after a close frame"),
}


@pytest.mark.parametrize("name", WAITS)
def test_a_time_from_both_sides(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """A second before it the connection is there; when it has been looked at after it, it is not, for a true reason."""
    wait = WAITS[name]

    async def test() -> None:
        # A WebSocket's client that reads nothing would not answer a ping.
        async with Worker(Witness(), **BOUNDS) as worker:
            worker.config.ws_ping_interval = None
            await wait.begin(worker)
            await until(lambda: len(worker.connections) == 1, "it is there")
            await asyncio.sleep(0.02)
            await worker.pass_time(wait.seconds - 1)
            assert len(worker.connections) == 1
            assert "Closed 1" not in caplog.text
            await worker.pass_time(6)
            await until(lambda: not worker.connections, "it is closed")
            assert f"Closed 1 connection(s), 1 of 127.0.0.1: {wait.reason}\n" in caplog.text

    run(test())


STALLS: dict[str, Callable[..., Any]] = {"a body": stopped, "an answer": untaken}
MAY: dict[str, dict[str, Any]] = {
    "no bound": {"stall_timeout": 0},
    "a proxy": {"trusted": "10.0.0.1, 127.0.0.1"},
    "a network": {"trusted": ["127.0.0.0/8"]},
    "anybody": {"trusted": "*"},
    "a unix socket": {"trusted": ""},
}


@pytest.mark.parametrize("who", MAY)
@pytest.mark.parametrize("what", STALLS)
def test_who_may_take_a_break(who: str, what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The client of a proxy has paused, for hours: when it goes on, it gets the rest."""

    async def test() -> None:
        async with Worker(Witness(), tmp_path, **BOUNDS | MAY[who]) as worker:
            client = await STALLS[what](worker, private=who == "a unix socket")
            await worker.pass_time(7200)
            if what == "a body":
                client.send(b"bcdefghi" + SECOND)
                assert [body for _, body in await client.answers()] == [b"/a", b"/second"]
            else:
                assert len((await client.answer())[2]) == 20_000_000
            assert "Closed" not in caplog.text

    run(test())


@pytest.mark.parametrize("trusted", ["", "127.0.0.2", "10.0.0.0/8,::1", "unix", "localhost"])
def test_others_may_not(trusted: str) -> None:
    """Who is believed about others is a matter of addresses alone."""

    async def test() -> None:
        async with Worker(Witness(), trusted=trusted, **BOUNDS) as worker:
            client = await stopped(worker)
            await worker.pass_time(33)
            assert await client.rest() == b""

    run(test())


@pytest.mark.parametrize("path", [b"/a", b"/early"])
def test_who_sends_steadily_is_not_cut(path: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Ten kilobytes a second, also to an application that has answered without reading them, for ten minutes."""
    size, count = 10_240, 600

    async def test() -> None:
        async with Worker(witness := Witness(), **BOUNDS) as worker:
            client = await worker.connect(
                b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (path, size * count)
            )
            for _ in range(count):
                client.send(bytes(size))
                await asyncio.sleep(0)
                await worker.pass_time(1)
            client.send(SECOND)
            assert await client.answers() == [(200, path), (200, b"/second")]
            assert len(witness.seen[0][2]) == (size * count if path == b"/a" else 0)
            assert "Closed" not in caplog.text

    run(test())


def test_who_is_answered_before_the_end_of_a_body_has_the_time_of_a_body() -> None:
    """Not that of a connection that nothing is awaited from, which is shorter by default."""

    async def test() -> None:
        async with Worker(Witness(), stall_timeout=100) as worker:
            client = await stopped(worker, b"/early")
            await worker.pass_time(worker.config.timeout_keep_alive + 10)
            client.send(b"b" * 8 + get())
            assert (await client.answer())[0] == 200
            await worker.pass_time(worker.config.timeout_keep_alive + 10)
            assert await client.rest() == b""
            assert not worker.connections

    run(test())


def test_a_request_that_came_in_time_is_answered_by_a_loop_that_was_held_up() -> None:
    """uvloop looks at its timers first: the time is over, and the request is not read yet."""

    async def test() -> None:
        async with Worker(Witness(), **BOUNDS) as worker:
            client = await worker.connect(get())
            await client.answer()
            (connection,) = worker.connections
            assert isinstance(connection, Answering)
            connection._idle -= worker.config.timeout_keep_alive + 1  # noqa: SLF001 (its time is over)
            client.send(get(b"/late"))
            connection._look_idle()  # noqa: SLF001 (as uvloop does before it reads)
            assert (await client.answer())[2] == b"/late"
            connection._idle -= worker.config.timeout_keep_alive + 1  # noqa: SLF001 (its time is over)
            connection._look_idle()  # noqa: SLF001 (as uvloop does before it reads)
            assert await client.rest() == b""

    run(test())


def test_a_connection_is_idle_from_its_last_answer_on() -> None:
    """Not from its first, when the timer was set; and what has ended leaves no timer behind that holds it."""

    async def test() -> None:
        async with Worker(Witness()) as worker:
            client = await worker.connect(get())
            await client.answer()
            for _ in range(4):
                await worker.pass_time(worker.config.timeout_keep_alive - 1)
                client.send(get())
                assert (await client.answer())[0] == 200
            (connection,) = worker.connections
            await worker.pass_time(worker.config.timeout_keep_alive - 1)
            assert worker.connections
            await worker.pass_time(2)
            assert await client.rest() == b""
            kept = weakref.ref(connection)
            del connection
            leaver = await worker.connect(get())
            await leaver.answer()
            (connection,) = worker.connections
            leaving = weakref.ref(connection)
            del connection
            leaver.close()
            await until(lambda: not worker.connections, "the client has left")
            gc.collect()
            assert kept() is None
            assert leaving() is None

    run(test())


def test_who_takes_steadily_is_not_cut(caplog: pytest.LogCaptureFixture) -> None:
    """A little every ten seconds."""

    async def test() -> None:
        async with Worker(Witness(), **BOUNDS) as worker:
            client = await untaken(worker)
            await client.head()
            taken = 0
            while taken < 20_000_000:
                taken += len(await client.reader.read(2_000_000))
                await asyncio.sleep(0.002)
                await worker.pass_time(10)
            assert taken == 20_000_000
            assert "Closed" not in caplog.text

    run(test())


def test_who_is_told_that_there_is_no_room_has_a_moment() -> None:
    """To read it; then it is closed, whether it has or not."""

    async def test() -> None:
        async with Worker(witness := Witness(), connections=1) as worker:
            await worker.connect(get(b"/wait"))
            await until(lambda: witness.seen, "the worker is full")
            await worker.connect(get())
            await until(lambda: len(worker.connections) == 2, "it is refused")
            await worker.pass_time(LINGER - 1)
            assert len(worker.connections) == 2
            await worker.pass_time(3)
            assert len(worker.connections) == 1

    run(test())
