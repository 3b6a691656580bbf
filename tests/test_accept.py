"""Who takes a connection: several acceptors on one socket, as the workers of one gunicorn have them."""

import asyncio
import copy
import errno
import itertools
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any

import pytest
from gunicorn_fastapi import accept, shared
from gunicorn_fastapi.accept import Acceptor
from gunicorn_fastapi.counts import WORKERS
from gunicorn_fastapi.shared import Shares

LONG = 60
"""Seconds until a test gives up."""


class Worker(asyncio.Protocol):
    """What a worker has of it all: its connections, its part of the shares, its acceptor."""

    def __init__(self, listener: Any, shares: Shares, before: int) -> None:
        self.listener = listener
        self.shares = shares
        self.connections: set[Any] = set(range(before))
        self.shares.tell(before)

    def begin(self) -> None:
        self.shares.look()
        self.acceptor = Acceptor(self.listener, lambda: self, self.connections, self.shares)

    def end(self) -> None:
        self.acceptor.close()
        for connection in self.connections:
            if isinstance(connection, asyncio.Transport):
                connection.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.connections.add(transport)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with closing(socket.create_server(("127.0.0.1", 0))) as made:
        yield made


Start = Callable[..., Worker]


@pytest.fixture
def start(listener: socket.socket) -> Iterator[Start]:
    """Starts workers on the listener, which have so many connections before."""
    table = Shares()
    with ExitStack() as stack:
        numbers = itertools.count()

        def make(before: int = 0) -> Worker:
            shares = copy.copy(table)  # the same memory
            shares.join(next(numbers))
            # Of its own, because they share a loop, which knows each descriptor once.
            return Worker(stack.enter_context(closing(listener.dup())), shares, before)

        yield make


async def connect(listener: socket.socket, workers: list[Worker], count: int) -> list[int]:
    """Connect so often, at once; how many each worker has in the end."""
    for worker in workers:
        worker.begin()
    before = sum(len(worker.connections) for worker in workers)
    clients = []
    for _ in range(count):
        client = socket.socket()
        client.setblocking(False)
        with suppress(BlockingIOError):
            client.connect(listener.getsockname())
        clients.append(client)
    async with asyncio.timeout(LONG):
        while sum(len(worker.connections) for worker in workers) < before + count:  # noqa: ASYNC110 (of several)
            await asyncio.sleep(0.01)
    for worker in workers:
        worker.end()
    for client in clients:
        client.close()
    return [len(worker.connections) for worker in workers]


def test_all_take_as_many(listener: socket.socket, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accept, "PAUSE", 0.5)
    counts = asyncio.run(connect(listener, [start() for _ in range(4)], 64))
    assert max(counts) - min(counts) <= 2


def test_who_has_more_lets_the_others_catch_up(
    listener: socket.socket, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "PAUSE", LONG)
    assert asyncio.run(connect(listener, [start(before=20), start(), start()], 20))[0] == 20


def test_nobody_waits_for_long_for_one_who_takes_none(listener: socket.socket, start: Start) -> None:
    start()
    assert asyncio.run(connect(listener, [start(before=20)], 20)) == [40]


@pytest.mark.parametrize("gone", ["left", "dead"])
def test_one_who_is_gone_is_not_waited_for(gone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Shares()
    table.join(1)
    other = copy.copy(table)
    other.join(2)
    other.tell(0)
    table.look()
    assert table.are_ahead(2)
    if gone == "left":
        other.leave()
    else:
        later = time.monotonic() + shared.STALE + 1
        monkeypatch.setattr(time, "monotonic", lambda: later)
    table.look()
    assert not table.are_ahead(2)


def test_one_more_than_another_is_even() -> None:
    table = Shares()
    table.join(1)
    other = copy.copy(table)
    other.join(1 + WORKERS // 2)
    other.tell(3)
    table.tell(3)
    table.look()
    assert [table.are_ahead(count) for count in (3, 4, 5)] == [False, False, True]


def test_a_closed_one_takes_no_more_and_leaves_the_queue_alone(listener: socket.socket, start: Start) -> None:
    async def run() -> None:
        worker = start()
        worker.begin()
        worker.end()
        worker.end()
        with closing(socket.create_connection(listener.getsockname())):
            await asyncio.sleep(0.05)
            await worker.acceptor.wait_closed()
            assert not worker.connections
            listener.accept()[0].close()

    asyncio.run(run())


def test_one_that_is_closed_during_a_pause_stays_closed(
    listener: socket.socket, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "PAUSE", 0.1)

    async def run() -> None:
        start()
        ahead = start(before=9)
        ahead.begin()
        with closing(socket.create_connection(listener.getsockname())):
            await asyncio.sleep(accept.PAUSE / 2)
            ahead.end()
            await asyncio.sleep(accept.PAUSE)
            assert len(ahead.connections) == 9

    asyncio.run(run())


class Exhausted:
    """The listener of a process that has no descriptor left, the first time."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.tries = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)

    def _accept(self) -> Any:
        self.tries += 1
        if self.tries == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return self._listener._accept()  # type: ignore[attr-defined] # noqa: SLF001


def test_without_descriptors_it_says_so_and_tries_again(
    listener: socket.socket, start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accept, "RETRY", 0.01)
    caplog.set_level(logging.ERROR, "uvicorn.error")
    worker = start()
    worker.listener = Exhausted(worker.listener)
    assert asyncio.run(connect(listener, [worker], 1)) == [1]
    assert "No connection can be accepted: [Errno 24] Too many open files" in caplog.text
