"""What reaches the journal: which records, in which order, as how many, by which of its two ways."""

import asyncio
import logging
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from gunicorn_fastapi.log import Formatter, JournalHandler
from gunicorn_fastapi.log.handler import DELAY, LINE
from gunicorn_fastapi.log.journal import BATCH, Journal
from journals import SPECIFIED, Attach, FakeJournal, answer, fail


def test_the_access_line_is_that_of_the_specification(journal: FakeJournal, attach: Attach) -> None:
    attach(JournalHandler("app"), Formatter(SPECIFIED))
    answer()
    date, line = journal.wait_for(1)[0]["line"].split(" - ", 1)
    assert re.fullmatch(r"<6>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", date)
    assert line == 'INFO - uvicorn.access - 127.0.0.1:12345 - "GET / HTTP/1.1" 200'


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2), (35, 4)],
)
def test_each_level_has_its_priority_by_both_ways(
    journal: FakeJournal, attach: Attach, level: int, priority: int
) -> None:
    attach(JournalHandler("app"), Formatter("%(message)s"))
    logging.getLogger("app").log(level, "short")
    logging.getLogger("app").log(level, "two\nlines")
    line, entry = journal.wait_for(2)
    assert line == {"line": f"<{priority}>short"}
    assert (entry["PRIORITY"], entry["MESSAGE"]) == (str(priority), "two\nlines")


@pytest.mark.parametrize(("status", "line"), [(499, "<6>INFO"), (500, "<4>WARNING"), (599, "<4>WARNING")])
def test_requests_that_the_server_failed_have_a_level_of_their_own(
    journal: FakeJournal, attach: Attach, status: int, line: str
) -> None:
    attach(JournalHandler("app", server_errors="WARNING"), Formatter("%(levelname)s"))
    answer(status=status)
    assert journal.wait_for(1) == [{"line": line}]


def test_a_traceback_is_one_record_between_the_lines_around_it(journal: FakeJournal, attach: Attach) -> None:
    attach(JournalHandler("app"), Formatter("%(message)s"))

    async def log_in_a_loop() -> None:
        for number in range(20):
            answer(f"/{number}")
            fail(f"number {number}")

    asyncio.run(log_in_a_loop())
    records = journal.wait_for(40)
    assert [record["line"].split()[3] for record in records[::2]] == [f"/{number}" for number in range(20)]
    for number, record in enumerate(records[1::2]):
        assert record["PRIORITY"] == "3"
        assert record["MESSAGE"].startswith("An error\nTraceback (most recent call last):\n")
        assert record["MESSAGE"].endswith(f"LookupError: number {number}")
        assert record["EXCEPTION"] == "LookupError"
        assert record["SYSLOG_IDENTIFIER"] == "app"


def test_no_text_starts_a_record_or_a_field(journal: FakeJournal, attach: Attach) -> None:
    attach(JournalHandler("app"), Formatter("%(message)s"))
    forged = "a\nPRIORITY=0\n\n<0>b\r<0>c\x00\u2028d"
    logging.getLogger("app").info(forged)
    logging.getLogger("app").info("<0>e")
    entry, line = journal.wait_for(2)
    assert entry["MESSAGE"] == "a\nPRIORITY=0\n\n<0>b\\u000d<0>c\\u0000\\u2028d"
    assert entry["PRIORITY"] == "6"
    assert line == {"line": "<6><0>e"}


def test_terminals_get_no_orders_and_what_is_no_text_is_escaped(journal: FakeJournal, attach: Attach) -> None:
    attach(JournalHandler("app"), Formatter("%(message)s"))
    logging.getLogger("app").info("\x1b[2J\ttäb\udcff")
    assert journal.wait_for(1) == [{"line": "<6>\\u001b[2J\ttäb\\udcff"}]


@pytest.mark.parametrize("size", [LINE, 65536, 2**20])
def test_a_long_message_is_one_whole_record(journal: FakeJournal, attach: Attach, size: int) -> None:
    attach(JournalHandler("app"), Formatter("%(message)s"))
    logging.getLogger("app").info("ä" * size)
    assert journal.wait_for(1)[0]["MESSAGE"] == "ä" * size


def test_elsewhere_than_in_the_journal_further_lines_are_indented(
    capfd: pytest.CaptureFixture[str], attach: Attach
) -> None:
    attach(JournalHandler("app", fields=True), Formatter("%(message)s"))
    logging.getLogger("app").error("one\ntwo")
    assert capfd.readouterr().out == "one\n\ttwo\n"


def test_what_cannot_be_formatted_does_not_reach_the_caller(
    journal: FakeJournal, attach: Attach, capfd: pytest.CaptureFixture[str]
) -> None:
    attach(JournalHandler("app"), Formatter("%(message)s"))
    logging.getLogger("app").info("%d", "no number")
    logging.getLogger("app").info("the next")
    assert journal.wait_for(1) == [{"line": "<6>the next"}]
    assert "no number" in capfd.readouterr().err


@pytest.mark.parametrize("entry", [b"MESSAGE=short\n", b"MESSAGE=%s\n" % bytes(2**20)])
def test_a_journal_whose_socket_was_made_anew_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: bytes
) -> None:
    address = tmp_path / "journal"
    monkeypatch.setattr("gunicorn_fastapi.log.journal.ADDRESS", str(address))
    sender = Journal()
    for _ in range(3):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(str(address))
            sender.send(entry)
            received, descriptors, _, _ = socket.recv_fds(receiver, 2**18, 1)
        for descriptor in descriptors:
            received = os.pread(descriptor, 2**24, 0)
            os.close(descriptor)
        assert received == entry
        address.unlink()
    sender.close()


@pytest.mark.usefixtures("journal")
def test_access_lines_wait_for_others_and_not_for_ever(attach: Attach) -> None:
    handler = attach(JournalHandler("app"), Formatter("%(message)s"))
    written: list[bytes] = []

    async def log_in_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gunicorn_fastapi.log.journal.write", lambda _, lines: written.append(lines))
        for number in range(3):
            answer(f"/{number}")
        assert written == []
        while not written:  # noqa: ASYNC110 (the handler sets no event)
            await asyncio.sleep(DELAY)
        answer("/4")
        handler.flush()

    with pytest.MonkeyPatch.context() as monkeypatch:
        asyncio.run(log_in_a_loop(monkeypatch))
    assert [data.count(b"\n") for data in written] == [3, 1]


@pytest.mark.usefixtures("journal")
def test_no_access_line_waits_longer_than_50_ms(attach: Attach, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process that is killed can lose, without a look at any clock."""
    attach(JournalHandler("app"), Formatter("%(message)s"))
    written: list[bytes] = []
    due: list[tuple[float, Callable[[], None]]] = []

    class Loop:
        def call_later(self, delay: float, callback: Callable[[], None]) -> None:
            due.append((delay, callback))

    monkeypatch.setattr("gunicorn_fastapi.log.journal.write", lambda _, lines: written.append(lines))
    monkeypatch.setattr(asyncio, "get_running_loop", Loop)
    for _ in range(3):
        for number in range(3):
            answer(f"/{number}")
        ((delay, tick),) = due
        assert (delay, written) == (0.05, [])
        due.clear()
        tick()
        assert [data.count(b"\n") for data in written] == [3]
        written.clear()


@pytest.mark.usefixtures("journal")
def test_a_batch_has_a_limit(attach: Attach, monkeypatch: pytest.MonkeyPatch) -> None:
    attach(JournalHandler("app"), Formatter("%(message)s"))
    written: list[bytes] = []

    async def log_in_a_loop() -> None:
        for _ in range(1000):
            answer("/" + 300 * "x")

    monkeypatch.setattr("gunicorn_fastapi.log.journal.write", lambda _, lines: written.append(lines))
    asyncio.run(log_in_a_loop())
    logging.getLogger("app").info("the last")
    assert all(len(data) <= BATCH for data in written)
    assert [len(data) > BATCH - 400 for data in written[:2]] == [True, True]
    assert b"".join(written).count(b"\n") == 1001


def test_any_other_record_goes_at_once_after_those_before_it(journal: FakeJournal, attach: Attach) -> None:
    attach(JournalHandler("app"), Formatter("%(message)s"))

    async def log_in_a_loop() -> None:
        answer("/first")
        logging.getLogger("app").debug("second")
        journal.wait_for(2)

    asyncio.run(log_in_a_loop())
    assert ["/first" in journal.records[0]["line"], journal.records[1]] == [True, {"line": "<7>second"}]


def test_a_child_does_not_write_what_its_parent_will(capfd: pytest.CaptureFixture[str], attach: Attach) -> None:
    handler = attach(JournalHandler("app"), Formatter("%(message)s"))

    async def log_in_a_loop() -> int:
        answer("/parent")
        child = os.fork()
        if child == 0:
            logging.getLogger("app").info("child")
            handler.close()
            os._exit(0)
        return child

    assert os.waitpid(asyncio.run(log_in_a_loop()), 0)[1] == 0
    handler.flush()
    # Who is first depends on when the parent's turn comes, on a busy machine before the child's.
    assert sorted(capfd.readouterr().out.splitlines()) == ['127.0.0.1:12345 - "GET /parent HTTP/1.1" 200', "child"]
