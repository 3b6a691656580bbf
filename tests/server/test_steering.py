"""Which generation takes a connection while a release is tried on a share of the traffic."""

import asyncio
import mmap
import socket
import struct
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from appctl import shares
from gunicorn_fastapi import accept, steering
from gunicorn_fastapi.accept import Acceptor
from gunicorn_fastapi.shared import Shares
from gunicorn_fastapi.steering import LEAVE, TAKE, WAIT, Steering
from wires import Witness, run, until
from wires import Worker as Server

LONG = 60
"""Seconds until a test gives up."""

Joined = Callable[[str, int], Shares]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file, as root makes it."""
    found = tmp_path / "shares"
    shares.make(found)
    return found


@pytest.fixture
def joined(path: Path) -> Joined:
    """Makes the worker of a generation."""

    def make(instance: str, number: int) -> Shares:
        made = Shares()
        made.steering.keep_in(path, instance)
        made.join(number)
        return made

    return make


class Worker(asyncio.Protocol):
    """What a worker has of it all."""

    def __init__(self, listener: socket.socket, table: Shares) -> None:
        self.table = table
        self.connections: set[Any] = set()
        self.taken = 0
        self.acceptor = Acceptor(listener, lambda: self, self.connections, table)

    def tick(self) -> None:
        self.table.steering.tell(serves=True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.taken += 1
        transport.close()


async def offered(workers: list[Shares], count: int, at_once: int) -> list[int]:
    """Offer so many connections, some at a time; how many each worker has taken."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        # Of its own each, because they share a loop, which knows each descriptor once.
        made = [Worker(listener.dup(), table) for table in workers]
        async with asyncio.timeout(LONG):
            for done in range(0, count, at_once):
                for worker in made:
                    worker.tick()
                clients = [socket.create_connection(listener.getsockname()) for _ in range(at_once)]
                while sum(worker.taken for worker in made) < done + at_once:  # noqa: ASYNC110 (of several)
                    await asyncio.sleep(0.0005)
                for client in clients:
                    client.close()
        for worker in made:
            worker.acceptor.close()
            worker.acceptor._listener.close()  # noqa: SLF001 (the test's own)
    return [worker.taken for worker in made]


@pytest.mark.parametrize("share", [10, 50])
@pytest.mark.parametrize("at_once", [1, 20])
@pytest.mark.parametrize(("old", "new"), [(1, 1), (2, 2), (4, 4), (4, 1)])
def test_the_candidate_gets_its_share(
    path: Path, joined: Joined, old: int, new: int, at_once: int, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "PAUSE", 0.02)
    shares.begin(path, share / 100, kept=2)
    workers = [joined("main", n) for n in range(old)] + [joined("candidate", n) for n in range(new)]
    taken = asyncio.run(offered(workers, 100, at_once))
    # Each of its workers may take one at the same moment. One that was late takes the next.
    assert share * 0.8 - 2 <= sum(taken[old:]) <= share + new


def test_nothing_is_steered_when_there_is_no_canary(path: Path, joined: Joined) -> None:
    workers = [joined("main", 1), joined("candidate", 1)]
    assert not any(one.steering.is_on() for one in workers)
    shares.begin(path, 0.5, kept=2)
    assert all(one.steering.is_on() for one in workers)
    shares.end(path)
    assert not any(one.steering.is_on() for one in workers)


def test_the_candidate_leaves_nothing_to_who_is_gone(
    path: Path, joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = joined("main", 1), joined("candidate", 1)
    shares.begin(path, 0.1, kept=2)
    assert new.steering.choose() == TAKE  # the other has not told that it takes part
    old.steering.tell(serves=True)
    assert new.steering.choose() == LEAVE
    old.leave()
    assert new.steering.choose() == TAKE
    old.steering.tell(serves=True)
    later = time.monotonic() + steering.STALE + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert new.steering.choose() == TAKE


def test_the_others_wait_once_for_a_candidate_that_lives(path: Path, joined: Joined) -> None:
    old, new = joined("main", 1), joined("candidate", 1)
    shares.begin(path, 0.5, kept=2)
    old.steering.tell(serves=True)
    for _ in range(9):  # there was nobody else
        assert old.steering.choose() == TAKE
        old.steering.took()
    new.steering.tell(serves=True)
    assert old.steering.choose() == TAKE
    old.steering.took()
    assert [old.steering.choose() for _ in range(3)] == [WAIT, TAKE, TAKE]
    new.steering.took()
    assert old.steering.choose() == TAKE  # it has its share
    old.steering.took()
    assert old.steering.choose() == WAIT


def test_another_canary_counts_anew(path: Path, joined: Joined) -> None:
    old, new = joined("main", 1), joined("candidate", 1)
    shares.begin(path, 0.5, kept=2)
    for one in (old, new):
        one.steering.tell(serves=True)
    for _ in range(9):
        new.steering.took()
    assert new.steering.choose() == LEAVE
    shares.begin(path, 0.5, kept=2)
    for one in (old, new):
        one.steering.tell(serves=True)
    old.steering.took()
    assert new.steering.choose() == TAKE


def test_the_control_command_knows_who_takes_part(path: Path, joined: Joined) -> None:
    old = joined("main", 3)
    shares.begin(path, 0.1, kept=2)
    assert not shares.takes_part(path, "main")
    old.steering.tell(serves=True)
    assert shares.takes_part(path, "main")
    assert not shares.takes_part(path, "candidate")
    for _ in range(5):
        old.steering.took()
    assert shares.taken(path) == {"main": 5, "candidate": 0}


def test_kept_connections_are_to_come_anew_but_not_all_at_a_time(path: Path, joined: Joined) -> None:
    made = joined("main", 1).steering
    connections = list(range(100))
    assert made.overdue(connections, 0) == []
    shares.begin(path, 0.1, kept=4)
    assert made.overdue(connections, 0) == []
    some = made.overdue(connections, 4)
    assert 20 < len(some) < 80
    assert set(made.overdue(connections, 6)) == set(connections)
    # One that has come since has a time of its own.
    assert made.overdue([*connections, 100], 6) == connections
    shares.end(path)
    assert made.overdue(connections, 60) == []


GET = b"GET /1 HTTP/1.1\r\nHost: shop\r\n\r\n"


def test_a_connection_that_is_to_leave_is_told_with_its_answer() -> None:
    async def test() -> None:
        async with Server(Witness()) as server:
            client = await server.connect()
            client.send(GET)
            assert b"connection: close" not in (await client.answer())[1]
            connection: Any = next(iter(server.connections))
            connection.leaves = True
            client.send(GET)
            status, head, body = await client.answer()
            assert (status, body) == (200, b"/1")
            assert b"connection: close" in head
            assert await client.rest() == b""

    run(test())


def test_one_that_has_asked_for_more_is_answered_first() -> None:
    async def test() -> None:
        async with Server(witness := Witness()) as server:
            client = await server.connect()
            await until(lambda: server.connections, "it is there")
            connection: Any = next(iter(server.connections))
            connection.leaves = True
            client.send(GET.replace(b"GET /1", b"GET /wait"))
            await until(lambda: witness.seen, "the first runs")
            client.send(GET)
            await until(lambda: bool(connection.pipeline), "the second waits")
            witness.go.set()
            assert [(await client.answer())[2] for _ in range(2)] == [b"/wait", b"/1"]
            client.send(GET)
            assert b"connection: close" in (await client.answer())[1]
            assert await client.rest() == b""

    run(test())


@pytest.mark.parametrize("size", [0, 8 * steering.CELLS - 8, 8 * steering.CELLS + 8])
def test_a_file_of_another_size_is_none(tmp_path: Path, size: int) -> None:
    path = tmp_path / "shares"
    path.write_bytes(bytes(size))
    with pytest.raises(OSError, match="has another size"):
        Steering().keep_in(path, "main")
    assert not shares.takes_part(path, "main")
    assert shares.taken(path) == {"main": 0, "candidate": 0}
    shares.make(path)
    Steering().keep_in(path, "main")


def test_what_the_application_writes_is_no_number_of_anything(path: Path) -> None:
    """Not a number, infinite, negative and future ones, in every cell."""
    for value in (float("nan"), float("inf"), -1.0, 1e308, 1.0):
        path.write_bytes(struct.pack(f"{steering.CELLS}d", steering.VERSION, *[value] * (steering.CELLS - 1)))
        assert all(number >= 0 for number in shares.taken(path).values())
        assert not shares.takes_part(path, "main")
        shares.begin(path, 0.1, 2)
        shares.end(path)


def test_a_file_of_another_form_steers_nothing(path: Path) -> None:
    shares.begin(path, 0.5, kept=2)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memoryview(memory).cast("d")[0] = steering.VERSION + 1
        made = Steering()
        made.keep_in(path, "main")
        assert not made.is_on()


def test_both_programs_know_the_form() -> None:
    for name in ("VERSION", "WORKERS", "GENERATIONS", "EPOCH", "SHARE", "KEPT", "USED", "HEAD", "COUNTS", "TOLD",
                 "TAKEN", "ROW", "CELLS", "STALE"):  # fmt: skip
        assert getattr(shares, name) == getattr(steering, name), name
