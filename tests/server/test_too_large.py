"""A body that is too large, of a client behind a proxy: who is answered before it is read may never see the answer."""

import asyncio
from typing import Any

import pytest
from gunicorn_fastapi import protocol
from malformed import chunked, get, post
from wires import Witness, Worker, run, until

BODY_MAX = 50_000
BOUNDS: dict[str, Any] = {"body_max": BODY_MAX, "trusted": "127.0.0.1"}
WORDS = b"a body of more than 50000 bytes"


def announced(size: int, sent: int, more: bytes = b"") -> bytes:
    """A POST that announces so much, and the beginning of its body."""
    return post(b"Content-Length: %d\r\n%b" % (size, more), b"x" * sent)


async def read(worker: Worker, size: int) -> None:
    """Wait until the worker has read so much of a body."""
    connections: set[Any] = worker.connections
    await until(lambda: [each._body for each in connections] == [size], "the body so far is read")  # noqa: SLF001


@pytest.mark.parametrize("size", [BODY_MAX + 1, 3_000_000], ids=["a little", "much"])
def test_it_is_refused_when_it_is_read(caplog: pytest.LogCaptureFixture, size: int) -> None:
    """The application gets nothing of it, and what it is told once is why."""

    async def test() -> None:
        async with Worker(witness := Witness(), **BOUNDS) as worker:
            client = await worker.connect(announced(size, BODY_MAX))
            answers = asyncio.create_task(client.answers())
            await read(worker, BODY_MAX)
            assert not answers.done()
            client.send(b"x" * (size - BODY_MAX))
            assert await answers == [(413, WORDS)]
            assert not witness.seen
            assert not witness.scopes
        assert [record.message for record in caplog.records if "Refused" in record.message] == [
            f"{client.name} - Refused with 413: {WORDS.decode()}"
        ]

    run(test())


def test_one_in_chunks(caplog: pytest.LogCaptureFixture) -> None:
    """The application has begun, and is told that its client has left."""

    async def test() -> None:
        async with Worker(witness := Witness(), **BOUNDS) as worker:
            whole = chunked(b"%x\r\n%b\r\n" % (400_000, b"x" * 400_000) + b"0\r\n\r\n")
            client = await worker.connect(whole[:-4])
            answers = asyncio.create_task(client.answers())
            await read(worker, 400_000)
            await until(lambda: witness.left, "the application is told")
            assert not answers.done()
            client.send(whole[-4:])
            assert await answers == [(413, WORDS)]
            assert not witness.seen
        assert caplog.text.count("Refused with 413") == 1

    run(test())


def test_the_connection_was_a_good_one_before() -> None:
    async def test() -> None:
        async with Worker(witness := Witness(), **BOUNDS) as worker:
            client = await worker.connect(get())
            assert (await client.answer())[0] == 200
            client.send(announced(60_000, 60_000))
            assert [status for status, _ in await client.answers()] == [413]
            assert [method for method, _, _ in witness.seen] == ["GET"]

    run(test())


@pytest.mark.parametrize(
    ("bounds", "data"),
    [
        ({"body_max": BODY_MAX}, announced(60_000, 10)),
        (BOUNDS, announced(60_000, 0, b"Expect: 100-continue\r\n")),
        (BOUNDS, announced(BODY_MAX + 100_001, 10)),
        (BOUNDS, chunked(b"%x\r\n%b\r\n" % (150_001, b"x" * 150_001))),
        (BOUNDS, announced(100, 100).replace(b"POST /", b"POST /wait", 1) + announced(60_000, 10)),
    ],
    ids=["of a client itself", "that is not sent yet", "far too large", "far too large in chunks", "behind another"],
)
def test_it_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, bounds: dict[str, Any], data: bytes) -> None:
    """Where nothing is on its way, or too much."""
    monkeypatch.setattr(protocol, "REST", 100_000)

    async def test() -> None:
        async with Worker(witness := Witness(), **bounds) as worker:
            client = await worker.connect(data)
            if b"/wait" in data:
                await until(lambda: witness.seen, "the other one is asked")
                witness.go.set()
            assert (await client.answers())[-1] == (413, WORDS)

    run(test())


def test_a_client_that_leaves_meanwhile_is_forgotten() -> None:
    async def test() -> None:
        async with Worker(Witness(), **BOUNDS) as worker:
            client = await worker.connect(announced(60_000, 10))
            await read(worker, 10)
            client.close()
            await until(lambda: not worker.connections, "it is gone")

    run(test())
