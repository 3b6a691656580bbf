"""How many connections and bytes a worker keeps, whatever clients do: the bounds hold at once and count everything."""

import asyncio
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from gunicorn_fastapi.guard import LINGER, PRIVATE
from wires import Client, Witness, Worker, frame, handshake, run, until

GET = b"GET /a HTTP/1.1\r\nHost: shop\r\n\r\n"
WAIT = b"GET /wait HTTP/1.1\r\nHost: shop\r\n\r\n"
REFUSED_MOST = 8
"""Refused ones that stay beside the bound, when that is small."""


def descriptors() -> int:
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def busy(worker: Worker, witness: Witness, count: int) -> list[Client]:
    """So many clients whose requests the application works on."""
    clients = [await worker.connect(WAIT) for _ in range(count)]
    await until(lambda: len(witness.seen) == count, "the application has them")
    return clients


# --- The private address ------------------------------------------------------------------------------


def test_the_private_address_has_room_when_the_public_one_has_none(tmp_path: Path) -> None:
    """Full of work, full of those who stay after their 503, and full of silent ones."""

    async def test() -> None:
        async with Worker(witness := Witness(), tmp_path, connections=10) as worker:
            clients = await busy(worker, witness, 10)
            staying = [await worker.connect(WAIT) for _ in range(30)]
            await until(lambda: len(worker.guard._refused) == REFUSED_MOST, "they are refused")  # noqa: SLF001
            for _ in range(3):
                status, _, body = await (await worker.connect(GET, private=True)).answer()
                assert (status, body) == (200, b"/a")
            witness.go.set()
            for client in clients:
                assert (await client.answer())[0] == 200
            assert len(staying) == 30

    run(test())


def test_private_connections_take_no_room_of_the_public_ones(tmp_path: Path) -> None:
    """And have a bound of their own."""

    async def test() -> None:
        async with Worker(Witness(), tmp_path, connections=10) as worker:
            for _ in range(PRIVATE + 40):
                await worker.connect(private=True)
            await until(lambda: 0 < len(worker.connections) <= PRIVATE + 1, "they are there")
            public = [await worker.connect(GET) for _ in range(10)]
            for client in public:
                assert (await client.answer())[0] == 200
            assert len(worker.connections) <= PRIVATE + 10

    run(test())


# --- Descriptors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [30, 200])
def test_refused_ones_make_no_room(count: int) -> None:
    """Nobody is let in for one who was refused, and none of them stays for long."""

    async def test() -> None:
        async with Worker(witness := Witness(), connections=20) as worker:
            clients = await busy(worker, witness, 20)
            before = descriptors()
            most = 0
            refused = []
            for _ in range(count):
                refused.append(await worker.connect(WAIT))
                await asyncio.sleep(0)
                # Each client is a descriptor of this process, too.
                most = max(most, descriptors() - before - len(refused))
            await until(lambda: len(worker.connections) == 20 + REFUSED_MOST, "the others are closed")
            assert most <= REFUSED_MOST + 3
            assert len(witness.seen) == 20
            await worker.pass_time(LINGER + 2)
            await until(lambda: len(worker.connections) == 20, "all of the refused are closed")
            assert [status for status, _ in await refused[-1].answers()] == [503]
            witness.go.set()
            for client in clients:
                assert (await client.answer())[0] == 200

    run(test())


def test_who_lingers_after_a_refusal_is_counted() -> None:
    """Malformed requests whose clients stay: within the bound, and gone in time."""

    async def test() -> None:
        async with Worker(Witness(), connections=20, header_timeout=10) as worker:
            for _ in range(60):
                await worker.connect(b"nonsense\r\n\r\n")
                await asyncio.sleep(0)
                assert len(worker.connections) <= 20 + REFUSED_MOST
            assert (await (await worker.connect(GET)).answer())[0] == 200
            await worker.pass_time(12)
            await until(lambda: len(worker.connections) <= 1, "they have gone")

    run(test())


# --- Bytes --------------------------------------------------------------------------------------------

PARTS = {
    "a head": b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"a" * 60_000,
    "a name": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a" * 60_000,
    "many headers": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: bcd\r\n" * 90 + b"A: " + b"a" * 60_000,
    "a second head": GET + b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"a" * 60_000,
    "a trailer": b"POST /wait HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: " + b"a" * 60_000,
}


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("kind", PARTS)
def test_unfinished_heads_of_many(kind: str, pieces: int) -> None:
    """The bound for all together holds at once: no time passes here."""
    data = PARTS[kind]
    step = -(-len(data) // pieces)

    async def test() -> None:
        async with Worker(Witness()) as worker:
            worker.guard.heads.bound = bound = 1_000_000
            assert (await (await worker.connect(GET)).answer())[0] == 200
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(40):
                client = await worker.connect()
                for start in range(0, len(data), step):
                    client.send(data[start : start + step])
                    for _ in range(3):
                        await asyncio.sleep(0)
                    assert worker.guard.heads.total <= bound
            await until(lambda: len(worker.connections) < 20, "the oldest are closed")
            held = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()
            assert held < 2 * bound, held
            assert (await (await worker.connect(GET)).answer())[0] == 200

    run(test())


def test_what_comes_before_the_answer_to_a_handshake_is_counted() -> None:
    """With the messages of all WebSockets; the oldest go, and get no frame where an answer is due."""

    async def slow(_scope: Any, receive: Any, _send: Any) -> None:
        await receive()
        await asyncio.Event().wait()

    async def test() -> None:
        async with Worker(slow, messages_max=200_000) as worker:
            clients = []
            for _ in range(12):
                clients.append(await worker.connect(handshake() + frame(2, b"x" * 50_000)))
                for _ in range(4):
                    await asyncio.sleep(0)
                assert worker.guard.messages.total <= 200_000
            await until(lambda: len(worker.connections) == 3, "the oldest are closed")
            for client in clients[:9]:
                assert await client.rest() == b""

    run(test())
