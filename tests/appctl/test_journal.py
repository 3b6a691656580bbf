"""Reading whatever is in the journal."""

import os
import signal
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from appctl import journal, process
from appctl.journal import FIELDS, KEPT, Record, entries, records


def text(name: str, value: bytes) -> bytes:
    return name.encode() + b"=" + value + b"\n"


def binary(name: str, value: bytes, size: int | None = None) -> bytes:
    return name.encode() + b"\n" + (len(value) if size is None else size).to_bytes(8, "little") + value + b"\n"


def read(stream: bytes, size: int = 65536) -> list[Record]:
    return list(records((stream[at : at + size] for at in range(0, len(stream), size)), FIELDS))


WHOLE = (
    text("__CURSOR", b"s=1")
    + text("__REALTIME_TIMESTAMP", b"1700000000000000")
    + text("PRIORITY", b"3")
    + binary("MESSAGE", b"two\nlines, one \x1b[31mred, =\n\nMESSAGE=false")
    + text("_UID", b"998")
    + b"\n"
)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 65536])
def test_records_come_whole_whatever_the_pieces(size: int) -> None:
    assert (
        read(WHOLE * 3, size)
        == [
            {
                "__REALTIME_TIMESTAMP": "1700000000000000",
                "PRIORITY": "3",
                "MESSAGE": "two\nlines, one \x1b[31mred, =\n\nMESSAGE=false",
                "_UID": "998",
            }
        ]
        * 3
    )


@pytest.mark.parametrize("end", range(len(WHOLE)))
def test_a_record_that_is_cut_off_is_left_out(end: int) -> None:
    assert len(read(WHOLE + WHOLE[:end])) == 1


@pytest.mark.parametrize(
    ("fields", "record"),
    [
        (text("MESSAGE", b"first") + text("MESSAGE", b"second"), {"MESSAGE": "first"}),
        (text("_UID", b"998") + text("_UID", b"0"), {"_UID": "998"}),
        (binary("MESSAGE", bytes([104, 105, 255])), {"MESSAGE": "hi\ufffd"}),
        (text("LOGGER", b"shop"), {"LOGGER": "shop"}),
        (text("MESSAGE", "a\u2028_UID=0\x85b".encode()), {"MESSAGE": "a\u2028_UID=0\x85b"}),
        (binary("MESSAGE", b"a\n_UID=0\n\n_UID=0"), {"MESSAGE": "a\n_UID=0\n\n_UID=0"}),
        (text("MESSAGE", b"[" * 60_000), {"MESSAGE": "[" * 60_000}),
        (text("MESSAGE", b"") + text("UNIT", b"x"), {"MESSAGE": "", "UNIT": "x"}),
        (text("OTHER", b"x" * 100_000) + text("PRIORITY", b"3"), {"PRIORITY": "3"}),
        (binary("OTHER", b"x\n" * 100_000) + text("PRIORITY", b"3"), {"PRIORITY": "3"}),
        (text("\udcff".encode("utf-8", "surrogateescape").decode("latin-1"), b"x") + text("_UID", b"1"), {"_UID": "1"}),
        (b"=\n" + text("_UID", b"1"), {"_UID": "1"}),
        (text("PRIORITY", b"3" * 1000), {"PRIORITY": "3" * FIELDS["PRIORITY"]}),
    ],
)
def test_odd_records_are_read(fields: bytes, record: Record) -> None:
    assert read(fields + b"\n" + WHOLE)[0] == record
    assert len(read(fields + b"\n" + WHOLE)) == 2


def test_of_a_long_message_the_beginning_and_the_end_are_kept() -> None:
    (record,) = read(binary("MESSAGE", b"first\n" + b"x" * 1_000_000 + b"\nlast") + b"\n", 4096)
    assert record["MESSAGE"].startswith("first\nx")
    assert record["MESSAGE"].endswith("x\nlast")
    assert "x\n...\nx" in record["MESSAGE"]
    assert len(record["MESSAGE"]) == FIELDS["MESSAGE"] + 5


def test_a_length_without_its_bytes_is_the_end() -> None:
    assert read(WHOLE + binary("MESSAGE", b"x", 2**64 - 1) + WHOLE) == read(WHOLE)


def flood(kind: str) -> Iterator[bytes]:
    """20 records of 30 MB."""
    for _ in range(20):
        yield b"MESSAGE=" if kind == "line" else b"MESSAGE\n" + (30_000_000).to_bytes(8, "little")
        for _ in range(30_000_000 // 60_000):
            yield b"x" * 60_000
        yield b"\n\n"


@pytest.mark.parametrize("kind", ["line", "bytes"])
def test_a_flood_takes_little_memory(kind: str) -> None:
    tracemalloc.start()
    try:
        found = list(records(flood(kind), FIELDS))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found) == 20
    assert most < 4_000_000


# --- With a journalctl ------------------------------------------------------------------------------


@pytest.fixture
def journalctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A journalctl that notes how it was asked and prints what is in a file."""
    (tmp_path / "journalctl").write_text(
        f'#!/bin/sh\ncd {tmp_path}\n[ "$1" = --sync ] && exec sh ./sync\necho "$@" >>asked\nexec sh ./says\n'
    )
    (tmp_path / "journalctl").chmod(0o755)
    (tmp_path / "sync").write_text("")
    monkeypatch.setitem(process.ENVIRONMENT, "PATH", f"{tmp_path}:/usr/bin:/bin")
    yield tmp_path
    for pid in (tmp_path / "pid").read_text().split() if (tmp_path / "pid").exists() else ():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def says(directory: Path, stream: bytes, script: str = "cat {}") -> None:
    (directory / "stream").write_bytes(stream)
    (directory / "says").write_text(script.format(directory / "stream") + "\n")


def test_the_latest_are_asked_for_and_the_oldest_comes_first(journalctl: Path) -> None:
    says(journalctl, text("MESSAGE", b"later") + b"\n" + text("MESSAGE", b"earlier") + b"\n")
    found = entries("_SYSTEMD_UNIT=shop.service", "_UID=0", lines=7, since=12.5)
    assert [record["MESSAGE"] for record in found] == ["earlier", "later"]
    asked = (journalctl / "asked").read_text().split()
    assert asked[-4:] == ["--lines=7", "--since=@12.500000", "_SYSTEMD_UNIT=shop.service", "_UID=0"]
    assert {"--output=export", "--reverse"} < set(asked)


def test_what_is_kept_of_all_records_has_a_bound(journalctl: Path) -> None:
    says(journalctl, binary("MESSAGE", b"x" * 60_000) + b"\n", "while cat {}; do :; done")
    found = entries("_UID=0", lines=100_000)
    kept = sum(len(record["MESSAGE"]) for record in found)
    assert KEPT < kept <= KEPT + FIELDS["MESSAGE"]


def test_a_journal_without_an_end_is_left(journalctl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "READ", 1_000_000)
    says(journalctl, WHOLE, f"echo $$ >{journalctl}/pid; cat {{}}; exec cat /dev/zero")
    assert len(entries("_UID=0")) == 1


def test_a_journalctl_that_hangs_is_left(journalctl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SECONDS", 1.0)
    says(journalctl, WHOLE, f"echo $$ >{journalctl}/pid; cat {{}}; exec sleep 600")
    assert len(entries("_UID=0")) == 1


def test_a_journald_that_hangs_is_said_and_the_rest_is_read(
    journalctl: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(journal, "SYNCHRONIZED", 0.3)
    (journalctl / "sync").write_text("exec sleep 600\n")
    says(journalctl, WHOLE)
    assert len(entries("_UID=0")) == 1
    assert "journald does not answer" in capsys.readouterr().err


def test_without_a_journalctl_nothing_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(process.ENVIRONMENT, "PATH", str(tmp_path))
    assert entries("_UID=0") == []
