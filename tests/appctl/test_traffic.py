"""Both generations are shown side by side: once, or live on a terminal until q."""

import argparse
import json
import os
import pty
import re
import select
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from appctl import measuring, table, talk, totals, traffic
from ctl_host import Host
from gunicorn_fastapi.counts import Counts

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def both(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Counts]:
    """A table of each generation, with a worker."""
    monkeypatch.setattr(measuring, "NETWORK", tmp_path)
    monkeypatch.setattr(talk, "said", [])
    monkeypatch.setattr(talk, "quiet", True)
    host.tables.mkdir()
    found = {}
    for number, (instance, release) in enumerate((("main", OLD), ("candidate", NEW))):
        name = f"{instance}-{number:032x}-{release}"
        totals.begin(host, name, os.getegid())
        found[instance] = counts = Counts()
        counts.keep_in(host.tables / name)
        counts.want(2)
        counts.join(1)
        counts.tell(True, 5, 3)
    return found


def answer(counts: Counts, number: int, status: int = 200, seconds: float = 0.004) -> None:
    for _ in range(number):
        counts.count("GET", status)
        counts.sent(2**20)
        counts.end(seconds)


def test_both_are_shown_side_by_side(host: Host, both: dict[str, Counts]) -> None:
    answer(both["main"], 90)
    answer(both["candidate"], 6)
    answer(both["candidate"], 2, 503, 2.0)
    told = traffic.command_traffic(host, argparse.Namespace(json=True))
    new, old = told["generations"]
    assert [(one["generation"], one["release"], one["requests"], one["failed"]) for one in (old, new)] == [
        ("main", OLD, 90, 0),
        ("candidate", NEW, 8, 2),
    ]
    assert 0.0025 < old["percentiles"]["p99"] <= 0.005
    assert 1 < new["percentiles"]["p95"] <= 2.5
    assert (new["workers"], new["workers_wanted"], new["connections"], new["in_progress"]) == (1, 2, 5, 3)
    json.dumps(told)
    lines = "\n".join(talk.said)
    assert re.search(r"^ +candidate +main$", lines, re.MULTILINE)
    assert re.search(rf"^  release +{NEW[:12]} +{OLD[:12]}$", lines, re.MULTILINE)
    assert re.search(r"^  failed \(5xx\) +25\.00% +0\.00%$", lines, re.MULTILINE)
    assert re.search(r"^  p50 +\d\.\d ms +\d\.\d ms$", lines, re.MULTILINE)


def test_what_has_ended_is_not_shown(host: Host, both: dict[str, Counts]) -> None:
    answer(both["candidate"], 5)
    both["candidate"].forget(1)
    assert [
        one["generation"] for one in traffic.command_traffic(host, argparse.Namespace(json=True))["generations"]
    ] == ["main"]
    both["main"].forget(1)
    told = traffic.command_traffic(host, argparse.Namespace(json=True))
    assert told["generations"] == []
    assert talk.said[-1] == "fastapi: no generation counts requests just now (fastapictl status)"


def test_a_rate_is_over_two_looks(host: Host, both: dict[str, Counts]) -> None:
    answer(both["main"], 50)
    before = totals.look(host)
    answer(both["main"], 30, 500)
    shown = {one.name: one.as_json() for one in traffic.between(before, totals.look(host), 10.0)}
    assert (shown["main"]["requests_per_second"], shown["main"]["failed"]) == (3.0, 30)
    assert shown["candidate"]["requests"] == 0
    assert shown["candidate"]["percentiles"] == {"p50": None, "p95": None, "p99": None}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.0004, "0.4 ms"), (0.25, "250.0 ms"), (2.5, "2.50 s"), (table.BOUNDS[-1], "> 30 s")],
)
def test_a_duration_is_shown(seconds: float | None, text: str) -> None:
    assert traffic.duration(seconds) == text


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("key", [b"q", b"Q", b"\x04"])
def test_on_a_terminal_it_is_live_until_q(
    host: Host, both: dict[str, Counts], monkeypatch: pytest.MonkeyPatch, key: bytes
) -> None:
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, 100))
    before = termios.tcgetattr(slave)
    seen = bytearray()

    def sees(pattern: bytes) -> bool:
        while select.select([master], [], [], 0)[0]:
            seen.extend(os.read(master, 65536))
        return bool(re.search(pattern, seen))

    with os.fdopen(slave, "r", closefd=False) as stdin, os.fdopen(os.dup(slave), "w") as stdout:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(traffic, "PERIOD", 0.05)
        live = threading.Thread(
            target=traffic.command_traffic, args=(host, argparse.Namespace(json=False)), daemon=True
        )
        live.start()
        until(lambda: sees(rb"failed \(5xx\) +- +-"))
        answer(both["candidate"], 1, 500)
        until(lambda: sees(rb"failed \(5xx\) +100\.00% +-"))
        os.write(master, b"x")
        seen.clear()
        until(lambda: sees(rb"failed"))
        os.write(master, key)
        live.join(60)
        assert not live.is_alive()
        assert termios.tcgetattr(slave) == before
        assert sees(rb"\x1b\[\?1049l$")
    os.close(slave)
    os.close(master)
