"""The table of counts is read as what it is: a file in which the application can write anything."""

import math
import os
import random
import struct
import time
from pathlib import Path

import pytest
from appctl import table
from gunicorn_fastapi import counts
from gunicorn_fastapi.counts import Counts

RUNS = int(os.environ.get("TABLES", "20000"))
NAMES = (
    "VERSION", "WORKERS", "PERIOD", "SUMS", "METHODS", "CLASSES", "BOUNDS", "REQUESTS", "DURATIONS", "SECONDS", "BYTES",
    "HEALTH", "REFUSED", "CLOSED", "WEBSOCKETS", "LATE", "LOOKS", "TOTALS", "TOLD", "SERVING", "CONNECTIONS", "RUNNING",
    "ROW", "TAKEN", "SUM", "FORM", "BEGUN", "USED", "WANTED", "REPLACED", "CRASHED", "HEAD", "ROWS", "CELLS",
)  # fmt: skip


def test_who_writes_and_who_reads_have_the_same_form() -> None:
    assert {name: getattr(table, name) for name in NAMES} == {name: getattr(counts, name) for name in NAMES}
    both = {name for name in vars(table) if name.isupper()} & {name for name in vars(counts) if name.isupper()}
    assert both == set(NAMES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file for a table."""
    (tmp_path / "table").write_bytes(bytes(table.SIZE))
    return tmp_path / "table"


def written_to(path: Path) -> Counts:
    """A table in it."""
    counts = Counts()
    counts.keep_in(path)
    return counts


def test_what_was_counted_is_read(path: Path) -> None:
    written = written_to(path)
    written.want(2)
    for number in (1, 2):
        written.join(number)
        written.tell(True, 5, 3)
        written.count("GET", 200)
        written.count("BREW", 418)
        written.count("POST", 599)
        written.count("GET", 999)
        written.sent(1000)
        written.end(0.0011)
        written.add(counts.REFUSED)
        written.upgraded()
    written.replaced()
    read = table.parse(path.read_bytes(), time.monotonic())
    assert read
    assert (read.wanted, read.serving, read.connections, read.running, read.replaced) == (2, 2, 10, 6, 1)
    assert table.requests(read.totals) == table.requests(read.lately) == 8
    assert table.failed(read.totals) == 4
    assert read.totals[table.BYTES] == 2000
    assert read.totals[table.DURATIONS + 1] == 2
    assert read.totals[table.SECONDS] == pytest.approx(0.0022)
    assert read.totals[table.REFUSED] == read.totals[table.WEBSOCKETS] == 2
    other = table.REQUESTS + table.CLASSES * table.METHODS.index("other")
    assert read.totals[other + 3] == 2
    written.forget(1)
    read = table.parse(path.read_bytes(), time.monotonic())
    assert read
    assert (read.serving, read.connections, table.requests(read.totals)) == (1, 5, 8)


def test_what_was_told_long_ago_is_not_so_now(path: Path) -> None:
    written = written_to(path)
    written.join(1)
    written.tell(True, 5, 3)
    read = table.parse(path.read_bytes(), time.monotonic() + table.FRESH + 1)
    assert read
    assert not read.is_live


def test_the_last_minutes_are_those_since_a_sum(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 5000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    written = written_to(path)
    for _ in range(2 * table.SUMS):
        written.count("GET", 200)
        now += table.PERIOD
        written.sum_up()
    read = table.parse(path.read_bytes(), now)
    assert read
    assert table.requests(read.totals) == 2 * table.SUMS
    assert table.requests(read.lately) == table.SUMS - 1 == read.seconds / table.PERIOD


@pytest.mark.parametrize(
    ("numbers", "share", "seconds"),
    [
        ({}, 0.5, None),
        ({0: 10}, 0.5, 0.0005),
        ({0: 50, 3: 50}, 0.75, 0.0075),
        ({0: 99, len(table.BOUNDS): 1}, 0.999, table.BOUNDS[-1]),
        ({len(table.BOUNDS): 1}, 0.5, table.BOUNDS[-1]),
    ],
)
def test_a_percentile_is_within_its_interval(numbers: dict[int, int], share: float, seconds: float | None) -> None:
    totals = [0.0] * table.TOTALS
    for interval, number in numbers.items():
        totals[table.DURATIONS + interval] = number
    found = table.percentile(totals, share)
    assert found == (seconds if seconds is None else pytest.approx(seconds))


ODD = (math.nan, math.inf, -math.inf, -1.0, -0.0, 5e-324, 1e308, 2.0**53, 2.0**63, 0.5, 1.0, 7.0, 1024.0, 1e6)


def is_sane(read: table.Table | None) -> bool:
    """Whether what was read can be shown, stored and reckoned with."""
    if read is None:
        return True
    numbers = [*read.totals, *read.lately, read.replaced]
    whole = [read.wanted, read.serving, read.connections, read.running]
    return (
        len(read.totals) == len(read.lately) == table.TOTALS
        and all(0.0 <= number <= table.LARGEST for number in numbers)
        and all(type(number) is int and 0 <= number <= table.LARGEST for number in whole)
        and 0.0 <= read.seconds < 1e9
        and read.wanted <= table.WORKERS >= read.serving
        and all(0.0 <= (table.percentile(read.lately, share) or 0) <= table.BOUNDS[-1] for share in (0.5, 0.99))
    )


def test_whatever_is_in_it_is_read_as_counts() -> None:
    """Random bytes, odd numbers, and tables that are cut off; with the seed that fails. TABLES=100000 for more."""
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    now = 1000.0
    read = 0
    for number in range(RUNS):
        rows = dice.choice((0, 1, 1, 2))
        cells = bytearray(8 * (table.ROWS + rows * table.ROW))
        struct.pack_into("d", cells, 8 * table.FORM, dice.choice((table.VERSION,) * 9 + ODD))
        struct.pack_into("d", cells, 8 * table.USED, dice.choice((*ODD, 1.0, 2.0)))
        for _ in range(dice.choice((1, 5, 30))):
            at = dice.randrange(len(cells) // 8) * 8
            if dice.random() < 0.5:
                struct.pack_into("d", cells, at, dice.choice((*ODD, now, now - 1, now + 1)))
            else:
                cells[at : at + 8] = dice.randbytes(8)
        if dice.random() < 0.1:
            del cells[dice.randrange(len(cells)) :]
        found = table.parse(bytes(cells), now)
        assert is_sane(found), f"seed {seed}, table {number}"
        read += found is not None
    assert read > RUNS / 3


def test_a_full_table_of_anything_is_read() -> None:
    for _ in range(3):
        cells = bytearray(os.urandom(table.SIZE))
        struct.pack_into("d", cells, 8 * table.FORM, table.VERSION)
        struct.pack_into("d", cells, 8 * table.USED, 1e9)
        assert is_sane(table.parse(bytes(cells), 1000.0))
