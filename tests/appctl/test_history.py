"""The history outlasts whatever happens to its file."""

import argparse
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from appctl import history, listing
from appctl.history import append, read
from ctl_host import Host


def handover(to: str) -> dict[str, Any]:
    return {"time": "2026-11-25", "from": "", "to": to, "outcome": "done", "reason": "ß\ud800\n", "seconds": 1.5}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.jsonl"


def test_what_was_added_is_read(path: Path) -> None:
    assert read(path) == ([], 0)
    for name in "ab":
        append(path, handover(name))
    assert read(path) == ([handover("a"), handover("b")], 0)


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
@pytest.mark.parametrize("former", [None, 0o644, 0o666])
def test_root_alone_reads_it(path: Path, umask: int, former: int | None) -> None:
    if former is not None:
        path.touch()
        path.chmod(former)
    before = os.umask(umask)
    try:
        append(path, handover("a"))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o7777 == 0o600


@pytest.mark.parametrize(
    "line",
    [
        b'{"time": "2026", "from": "a", "to',
        b"\xff\xfe",
        b"\0" * 512,
        json.dumps(handover("x") | {"reason": "y"}).encode().replace(b'"y"', b'"\xff"'),
        b"[" * 200_000,
        b"{}",
        b"[]",
        b"7",
        b"null",
        json.dumps({"to": "x", "outcome": "done"}).encode(),
        json.dumps(handover("x") | {"to": None}).encode(),
        b'{"time": ' + b"9" * 10_000 + b"}",
    ],
)
def test_a_damaged_line_is_left_out_and_counted(path: Path, line: bytes) -> None:
    append(path, handover("a"))
    with path.open("ab") as file:
        file.write(line)
    append(path, handover("b"))
    assert read(path) == ([handover("a"), handover("b")], 1)


def test_a_full_disk_leaves_no_half_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    append(path, handover("a"))
    before = path.read_bytes()
    with monkeypatch.context() as context:
        context.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            append(path, handover("b"))
    assert path.read_bytes() == before


def test_only_the_end_of_a_long_one_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100):
        append(path, handover(str(number)))
    monkeypatch.setattr(history, "LATEST", 1000)
    records, damaged = read(path)
    assert damaged == 0
    assert 0 < len(records) < 10
    assert records[-1] == handover("99")


def test_a_link_in_its_place_is_not_written_through(path: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").touch(0o644)
    path.symlink_to("victim")
    with pytest.raises(OSError, match="symbolic link"):
        append(path, handover("a"))
    assert (tmp_path / "victim").read_bytes() == b""


def test_who_changed_what(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.was("aaa1", "bbb3")
    host.was("bbb3", "ccc4", "failed")
    rows = listing.command_history(host, argparse.Namespace(lines=1))
    assert [(row["from"], row["to"], row["outcome"], row["seconds"]) for row in rows] == [
        ("bbb3", "ccc4", "failed", 1.0)
    ]
    assert re.search(r"bbb3 +-> ccc4 +failed in 1.0 s by \S+", capsys.readouterr().out)
