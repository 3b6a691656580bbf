"""Records about clients are as many a second as an operator can read."""

import asyncio
import logging
import time

import pytest
from gunicorn_fastapi.log.bounded import Bounded

NAME = "uvicorn.error"

MOST = 10


def test_what_is_too_much_for_a_second_is_told_as_a_number(caplog: pytest.LogCaptureFixture) -> None:
    records = Bounded(logging.getLogger(NAME), logging.WARNING, MOST)

    async def attack() -> None:
        for number in range(1000):
            records.log(f"10.0.0.{number % 3 // 2}", "10.0.0.x:%d - Refused", number)
        records.tell()

    asyncio.run(attack())
    messages = [record.getMessage() for record in caplog.records]
    assert messages[:MOST] == [f"10.0.0.x:{number} - Refused" for number in range(MOST)]
    assert messages[MOST:] == [
        "990 more within a second, 660 of 10.0.0.0, the last: 10.0.0.x:999 - Refused",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_the_rest_is_told_without_another_one(caplog: pytest.LogCaptureFixture) -> None:
    records = Bounded(logging.getLogger(NAME), logging.WARNING, MOST)

    async def attack() -> None:
        for _ in range(MOST + 1):
            records.log("::1", "gone")
        while len(caplog.records) <= MOST:  # noqa: ASYNC110 (a timer of the loop)
            await asyncio.sleep(0.05)

    asyncio.run(attack())
    assert caplog.records[-1].getMessage() == "1 more within a second, 1 of ::1, the last: gone"


def test_a_second_later_they_are_told_again(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    records = Bounded(logging.getLogger(NAME), logging.WARNING, MOST)
    clock = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)

    async def attack() -> None:
        nonlocal clock
        for _ in range(3):
            for _ in range(MOST + 5):
                records.log("::1", "gone")
            clock += 1
        records.tell()

    asyncio.run(attack())
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ([*["gone"] * MOST, "5 more within a second, 5 of ::1, the last: gone"]) * 3
