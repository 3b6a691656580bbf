"""Log records of several hosts as one stream, in order of time."""

from __future__ import annotations

import heapq
import json
import os
import selectors
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, Any, cast

HOLD = 0.7
"""Seconds that a record waits for earlier ones of other hosts: they come by different ways."""

TICK = 0.1

WAITING = 20000
"""Records that wait at most; then they go on at once."""

LINE = 1024 * 1024
"""Bytes of one record. A host that sends more without an end is not read any more."""

Record = dict[str, Any]


def text(host: str, record: Record, width: int) -> str:
    """A record for a terminal."""
    unit = str(record.get("unit", "")).removesuffix(".service")
    return f"{str(record.get('time', ''))[:23]}Z {host:{width}} {unit}: {record.get('message', '')}"


def ordered(rows: Mapping[str, Sequence[Record]]) -> list[tuple[str, Record]]:
    """Records of hosts in order of time."""
    return sorted(
        ((host, record) for host, records in rows.items() for record in records),
        key=lambda found: (str(found[1].get("time", "")), found[0]),
    )


class Waiting:
    """Records that wait for earlier ones."""

    def __init__(self) -> None:
        self._heap: list[tuple[str, int, float, str, Record]] = []
        self._count = 0
        self._arrivals: dict[int, float] = {}

    def add(self, host: str, record: Record, now: float) -> None:
        """Take a record that has arrived."""
        self._count += 1
        self._arrivals[self._count] = now
        heapq.heappush(self._heap, (str(record.get("time", "")), self._count, now, host, record))

    def due(self, now: float) -> Iterable[tuple[str, Record]]:
        """Those that have waited long enough, and all that were before them."""
        while self._heap and (len(self._heap) > WAITING or min(self._arrivals.values()) <= now - HOLD):
            _time, number, _arrived, host, record = heapq.heappop(self._heap)
            del self._arrivals[number]
            yield host, record


def follow(streams: Mapping[str, list[str]], show: Callable[[str, Record], None]) -> dict[str, str]:
    """Show what programs print as JSON, a record a line, until all have ended; why each did, in words.

    Their standard input stays open as long as this process lives, by which they know that somebody reads. Its parent
    may end without a word to it, and nobody reads then either.
    """
    parent = os.getppid()
    waiting, buffers, ends = Waiting(), dict.fromkeys(streams, b""), dict.fromkeys(streams, "")
    processes: dict[str, subprocess.Popen[bytes]] = {}
    with selectors.DefaultSelector() as selector:
        try:
            for host, words in streams.items():
                pipe = subprocess.PIPE
                processes[host] = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe)
                for stream in (processes[host].stdout, processes[host].stderr):
                    selector.register(cast(IO[bytes], stream), selectors.EVENT_READ, host)
            while selector.get_map() and os.getppid() == parent:
                for key, _ in selector.select(TICK):
                    host = key.data
                    piece = os.read(key.fd, 65536)
                    if not piece:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is processes[host].stderr:
                        ends[host] = (ends[host] + piece.decode(errors="replace"))[-500:]
                    else:
                        *lines, buffers[host] = (buffers[host] + piece).split(b"\n")
                        for line in lines:
                            if record := parsed(line):
                                waiting.add(host, record, time.monotonic())
                        if len(buffers[host]) > LINE:
                            selector.unregister(key.fileobj)
                for host, record in waiting.due(time.monotonic()):
                    show(host, record)
            for host, record in waiting.due(float("inf")):
                show(host, record)
        finally:
            for process in processes.values():
                process.kill()
                for end in (process.stdin, process.stdout, process.stderr):
                    if end:
                        end.close()
                process.wait()
    return {host: " ".join(said.split()) for host, said in ends.items()}


def parsed(line: bytes) -> Record:
    """The record of a line, an empty one of what is none: a login may print, too."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and "time" in found else {}
