"""Mutated requests against the class that reads them: nothing fails, nothing is read in two ways, nothing is left over.

Each stream is sent whole and in pieces, and followed by a good request. What reaches the application has to be what a
strict reader finds, which knows RFC 9112 and nothing of this code. ``MUTATIONS=100000`` sends more of them.
"""

import asyncio
import logging
import os
import random
import re
from collections.abc import Sequence
from typing import Any

from gunicorn_fastapi.guard import Guard
from gunicorn_fastapi.protocol import GuardedProtocol
from malformed import SECOND
from streams import Request, mutated, read, split
from uvicorn.config import Config
from uvicorn.server import ServerState

COUNT = int(os.environ.get("MUTATIONS", "2000"))
FINE = frozenset({200, 400, 413, 414, 426, 431, 501, 505})
HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")


class Wire(asyncio.Transport):
    """A connection whose client takes everything at once."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.ended = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """A peer and an address."""
        return {"peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 80)}.get(name, default)

    def write(self, data: Any) -> None:
        """Keep it; nothing may come after the end."""
        assert not self.ended, bytes(data)
        self.written += data

    def write_eof(self) -> None:
        """The last that this side says."""
        self.ended = True

    close = abort = write_eof

    def can_write_eof(self) -> bool:
        """As TCP."""
        return True

    def is_closing(self) -> bool:
        """Whether there is an end."""
        return self.ended

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0

    def pause_reading(self) -> None:
        """Whoever feeds looks by itself."""

    def resume_reading(self) -> None:
        """As above."""


class Bench:
    """One guard for all connections, as in a worker, and an application that notes what it has read."""

    def __init__(self) -> None:
        self.config = Config(self.application, log_config=None, lifespan="off", ws="none")
        self.config.load()
        self.config.loaded_app = self.application
        self.guard = Guard()
        self.state = ServerState()
        self.seen: list[Request] = []
        self.failed: list[str] = []

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        """Read all, note it, answer its number."""
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        self.seen.append(Request(scope["method"].encode(), scope["raw_path"] + query, scope["headers"], body))
        words = b"%d" % len(self.seen)
        headers = [(b"content-length", b"%d" % len(words))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": words})

    async def exchange(self, pieces: Sequence[bytes]) -> tuple[list[Request], list[int], bool]:
        """What reached the application, the statuses of the answers, and whether the connection has ended."""
        self.seen.clear()
        wire = Wire()
        connection = GuardedProtocol(
            self.guard, config=self.config, server_state=self.state, app_state={}, _loop=asyncio.get_running_loop()
        )
        connection.connection_made(wire)
        for piece in pieces:
            if not wire.ended:
                connection.data_received(piece)
            await self.settle()
        statuses, has_ended = read_answers(bytes(wire.written), self.seen), wire.ended
        connection.connection_lost(None)
        await self.settle()
        assert not self.state.connections
        assert not self.state.tasks
        assert self.guard.heads.total == 0
        return list(self.seen), statuses, has_ended

    async def settle(self) -> None:
        """Let the application do what it can."""
        for _ in range(200):
            await asyncio.sleep(0)
            if not self.state.tasks or not any(is_ready(task) for task in self.state.tasks):
                return


def is_ready(task: asyncio.Task[Any]) -> bool:
    """Whether a task goes on by itself."""
    waits_for = getattr(task, "_fut_waiter", None)
    return task.done() or waits_for is None or waits_for.done()


def read_answers(stream: bytes, seen: Sequence[Request]) -> list[int]:
    """The statuses; each answer is whole, and good ones come in order, before any other."""
    found: list[int] = []
    while stream:
        head = HEAD.match(stream)
        assert head, stream
        status, stream = int(head[1]), stream[head.end() :]
        if status == 100:
            continue
        length = re.search(rb"content-length: (\d+)\r\n", head[2])
        assert length, head[0]
        is_bodiless = status == 200 and seen[len(found)].method == b"HEAD"
        size = 0 if is_bodiless else int(length[1])
        body, stream = stream[:size], stream[size:]
        assert len(body) == size
        assert set(found) <= {200}, found
        found.append(status)
        if status == 200 and not is_bodiless:
            assert body == b"%d" % len(found)
        if status != 200:
            assert b"connection: close\r\n" in head[2]
    return found


def same(ours: Request, strict: Request) -> bool:
    """Whether both have read the same; an address of this host is given to the application as its path."""
    target = re.sub(rb"(?i)^http://[^/?]+", b"", strict.target)
    headers = [(name, value.strip(b" \t")) for name, value in ours.headers]  # a tab at the end may stay
    return (ours.method, ours.body, headers) == (strict.method, strict.body, strict.headers) and (
        ours.target in (target, target.removesuffix(b"?")) or strict.target == b"*"
    )


def judge(data: bytes, outcome: tuple[list[Request], list[int], bool]) -> None:
    """What has to hold of any stream."""
    seen, statuses, has_ended = outcome
    strict, _ = read(data)
    assert len(seen) <= len(strict)
    for ours, theirs in zip(seen, strict, strict=False):
        assert same(ours, theirs), (ours, theirs)
    assert set(statuses) <= FINE, statuses
    assert statuses[: len(seen)] == [200] * len(seen)
    assert len(statuses) <= len(seen) + 1
    assert has_ended or len(statuses) == len(seen)


def test_mutations() -> None:
    """Deterministic: the number of a stream that fails is in the message, and makes it again."""
    logging.getLogger("uvicorn.error").disabled = True
    try:
        asyncio.run(run())
    finally:
        logging.getLogger("uvicorn.error").disabled = False


async def run() -> None:
    bench = Bench()
    (alone,), _, _ = await bench.exchange([SECOND])
    answered = 0
    for number in range(COUNT):
        chance = random.Random(number)
        data = mutated(chance)
        try:
            whole = await bench.exchange([data])
            judge(data, whole)
            pieces = await bench.exchange(split(data, chance))
            judge(data, pieces)
            assert pieces == whole, (pieces, whole)
            pair = await bench.exchange([data, SECOND])
            judge(data + SECOND, pair)
            assert pair[0][: len(whole[0])] == whole[0]
            _, is_complete = read(data)
            if not whole[2] and is_complete:
                # Whatever came before: the next request is what it is alone.
                assert pair[0][-1] == alone, pair
                assert len(pair[0]) == len(whole[0]) + 1
                answered += 1
        except Exception as error:
            raise AssertionError(f"stream {number}: {data!r}") from error
    assert answered > COUNT // 20
