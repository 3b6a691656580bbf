"""Odd records, status texts and answers, made at random: nothing fails, and little memory is taken.

ODD=100000 pytest tests/appctl/test_odd.py reads that many records; a few thousand are read otherwise.
"""

import json
import os
import random
import tracemalloc
from collections.abc import Iterator

import pytest
from appctl import reason, systemd
from appctl.exchange import Answer, details
from appctl.hints import sandbox_hint
from appctl.journal import FIELDS, Record, records
from appctl.reason import access_status, is_ours, readable, reason_in
from appctl.text import UNSEEN, visible

NUMBER = int(os.environ.get("ODD", "3000"))

WORDS = [
    b"", b"\n", b"\r\n", b"\0", b"\x1b[31m", b"\xff\xfe", b"\xed\xa0\x80", b"\xc3", "\u2028".encode(), "\x85".encode(),
    "\u202e".encode(), b"[" * 3000, b'{"a":' * 3000, b"=", b"_UID=0", b"MESSAGE=x", b"\n\n_PID=1\n", b" - ", b"ERROR",
    b"INFO", b"2026-11-25 10:00:00,123 - INFO - shop - x", b" - uvicorn.access - ", b'"GET / HTTP/1.1" 500',
    b"9" * 5000,
    b"Traceback (most recent call last):", b"RuntimeError: x", b"Invalid value for x: ", b"SIGSYS", b"[Errno 1]",
    b"(" * 3000, b"A." * 3000, b"a" * 3000 + b" - " * 3000, b"/proc/stat", b"if_nameindex", b"level=info", b"-", b"\\",
    json.dumps({"level": "ERROR", "logger": "x", "message": "y", "exception": "z\nKeyError"}).encode(),
    json.dumps({"level": ["ERROR"], "logger": {}, "message": None}).encode(), b'{"level":"x","message":"\\ud800"}',
    json.dumps({"event": "x", "severity": "info"}).encode(), b"shopctl: lies", b"Main process exited, code=killed",
]  # fmt: skip


class Odd:
    """Makes what nobody expects, the same each time."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def value(self) -> bytes:
        picked = self.random.choices(WORDS, k=self.random.randint(0, 4))
        return b"".join(picked) + self.random.randbytes(self.random.choice([0, 0, 0, 3, 40]))

    def field(self) -> bytes:
        name = self.random.choice(
            [*(name.encode() for name in FIELDS), b"OTHER", b"", b"\xff", b"_UID", self.value()[:9]]
        )
        value = self.value()
        if b"\n" not in value and self.random.random() < 0.5:
            return name + b"=" + value + b"\n"
        length = len(value) if self.random.random() < 0.999 else self.random.getrandbits(self.random.choice([4, 64]))
        return name + b"\n" + length.to_bytes(8, "little") + value + b"\n"

    def record(self) -> bytes:
        return b"".join(self.field() for _ in range(self.random.randint(0, 6))) + b"\n"

    def stream(self, number: int) -> Iterator[bytes]:
        """Records in pieces of any size."""
        for _ in range(number):
            whole = self.record()
            size = self.random.choice([1, 7, 100, 4096, 65536]) if len(whole) < 2000 else 65536
            for at in range(0, len(whole), size):
                yield whole[at : at + size]


def told(found: list[Record]) -> str:
    """All that is done with records before something is shown."""
    lines = reason.lines_of([entry for entry in found if not is_ours(entry)])
    for entry in found:
        assert access_status(readable(entry)) in range(600)
    said = reason_in(lines)
    return visible(f"{said}{sandbox_hint(said, lines, 'shop')}")


def test_odd_records_are_read_and_their_reason_is_told_safely() -> None:
    done = 0
    seed = 0
    while done < NUMBER:
        found: list[Record] = []
        # A length that lies ends a stream; the next one has other oddities.
        for record in records(Odd(seed).stream(200), FIELDS):
            assert set(record) <= set(FIELDS)
            found.append(record)
        seed += 1
        done += len(found)
        for at in range(0, len(found), 20):
            assert not UNSEEN.search(told(found[at : at + 20]))


def test_odd_records_take_little_memory() -> None:
    tracemalloc.start()
    try:
        for seed in range(max(3, NUMBER // 2000)):
            for record in records(Odd(seed).stream(200), FIELDS):
                told([record])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4_000_000


def test_odd_status_texts_forge_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = Odd(7)
    said = ""

    def run(*command: str, **_: object) -> str:
        wanted = command[2].removeprefix("--property=").split(",")
        if "--value" in command:
            return f"{said}\n"
        return "".join(f"{name}={'7' if name == 'MainPID' else 'active'}\n" for name in wanted)

    monkeypatch.setattr(systemd, "run", run)
    for _ in range(NUMBER):
        # systemd takes no newline in a status.
        said = odd.value().replace(b"\n", b"").decode(errors="replace") + "\u2028MainPID=1\x85ActiveState=failed"
        shown = systemd.show("shop.service", "MainPID", "StatusText", "ActiveState")
        assert (shown["MainPID"], shown["ActiveState"]) == ("7", "active")
        assert shown["StatusText"] == said
        assert not UNSEEN.search(visible(said, one_line=True))
        assert systemd.number(said) >= 0


def test_odd_answers_are_read_and_shown_safely() -> None:
    odd = Odd(8)
    for number in range(NUMBER):
        head = (
            odd.random.choice([b"", b"HTTP/1.1 302 X\r\n", b"HTTP/1.1 200 OK\r\nX-Workers: ", b"HTTP/1.1 "])
            + odd.value()
        )
        answer = Answer(head.replace(b"\n", b"\r\nLocation: ") if number % 2 else head, odd.value())
        assert answer.status == 0 or 100 <= answer.status <= 999
        assert answer.all_ready in (True, False)
        assert not UNSEEN.search(details(answer, "/healthz", "localhost"))
