"""What clients and applications may say: in which form and of which length it reaches the journal."""

import asyncio
import json
import logging
import time
from typing import Any
from urllib.parse import quote

import pytest
from gunicorn_fastapi import handshake
from gunicorn_fastapi.log import Formatter, JournalHandler, JsonFormatter
from journals import FORMATTERS, SCOPE, SPECIFIED, Attach, FakeJournal, answer, served, take

LINE_MAX = 48 * 1024
"""Bytes at which journald splits a line."""


def test_the_access_line_is_exactly_that_of_the_specification(
    journal: FakeJournal, attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "localtime", time.gmtime)
    monkeypatch.setattr(time, "time", lambda: 1687343204.125)
    attach(JournalHandler("app"), Formatter(SPECIFIED))
    take("/")
    line = '<6>2023-06-21 10:26:44,125 - INFO - uvicorn.access - 127.0.0.1:12345 - "GET / HTTP/1.1" 200'
    assert journal.wait_for(1) == [{"line": line}]


@pytest.mark.parametrize("form", [lambda: Formatter(SPECIFIED), JsonFormatter])
@pytest.mark.parametrize("character", ["\udcff", "\U0001d11e", "\x1b", "\x85", '"', "\\", "\u202e", "a"])
@pytest.mark.parametrize("count", [1300, 8100, 8191, 20_000])
def test_journald_splits_no_record(journal: FakeJournal, attach: Attach, form: Any, character: str, count: int) -> None:
    attach(JournalHandler("app"), form())
    logging.getLogger("app").info("%s", character * count)
    logging.getLogger("app").info("the next")
    first, second = journal.wait_for(2)
    assert len(first.get("line", "").encode()) < LINE_MAX
    assert "the next" in second["line"]


@pytest.mark.parametrize(
    "host", ["x" * 49_152, "x" * 49_130 + "<3>forged", "\x9b2J", "a\x85<3>b", '1" 500 "', "\xff\xad"]
)
@pytest.mark.parametrize("fields", [False, True])
@pytest.mark.parametrize("form", FORMATTERS)
@pytest.mark.parametrize("early", [False, True])
def test_a_client_that_a_proxy_names_has_a_form_and_a_length(
    journal: FakeJournal, attach: Attach, form: str, fields: bool, host: str, early: bool
) -> None:
    handler = attach(JournalHandler("app", fields=fields), FORMATTERS[form]())
    asyncio.run(served({**SCOPE, "client": (host, 0)}, 200, early=early))
    handler.flush()
    (record,) = journal.wait_for(1)
    assert sum(map(len, record.values())) < 1000
    for text in record.values():
        assert text.isprintable()
        assert text.isascii()
        assert '" 500 "' not in text
    if form == "json":
        said = json.loads(record.get("line", "")[3:] or record["MESSAGE"])
        assert (said["status"], said["message"].count('"')) == (200, 2)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "fe80::1%eth0", "2001:db8::ffff:192.0.2.1", "unknown"])
def test_an_address_stays_as_it_is(journal: FakeJournal, attach: Attach, address: str) -> None:
    attach(JournalHandler("app", fields=True), Formatter("%(message)s"))
    take("/", client=(address, 1))
    (record,) = journal.wait_for(1)
    assert record["CLIENT"] == address
    assert record["MESSAGE"].startswith(f"{address}:1 - ")


@pytest.mark.parametrize("fields", [False, True])
@pytest.mark.parametrize("form", ["plain", "json"])
@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize(("path", "query"), [("/" + "a" * 8000, b""), ("/", b"a" * 8000), ("/" + "\xe4<" * 3000, b"")])
def test_a_long_path_is_cut(
    journal: FakeJournal, attach: Attach, form: str, fields: bool, early: bool, path: str, query: bytes
) -> None:
    handler = attach(JournalHandler("app", fields=fields), FORMATTERS[form]())
    asyncio.run(served({**SCOPE, "path": path, "query_string": query}, 404, early=early))
    handler.flush()
    (record,) = journal.wait_for(1)
    whole = f"{quote(path)}?{query.decode()}" if query else quote(path)
    assert f'"GET {whole[:1024]}...+{len(whole) - 1024} HTTP/1.1" 404' in str(record).replace('\\\\"', '"')
    assert len(str(record)) < 4000


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("form", ["plain", "json"])
def test_many_long_paths_are_cut_shorter(
    journal: FakeJournal, attach: Attach, monkeypatch: pytest.MonkeyPatch, early: bool, form: str
) -> None:
    """A client that wants the disk to itself writes little more than one with short addresses."""
    handler = attach(JournalHandler("app"), FORMATTERS[form]())
    now = 1687343204.125
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setattr(time, "time_ns", lambda: int(now * 1e9))

    async def flood() -> None:
        for _ in range(1000):
            await served({**SCOPE, "path": "/" + "a" * 1000}, 200, early=early)

    asyncio.run(flood())
    handler.flush()
    records = journal.wait_for(1000)
    copies = 2 if form == "json" else 1
    assert sum(len(record["line"]) for record in records) < copies * (64 * 1024 + 1000 * 270) + 1000 * 300
    assert "a" * 1000 in records[0]["line"]
    now += 1
    take("/" + "b" * 1000)
    assert "b" * 1000 in journal.wait_for(1001)[-1]["line"]


@pytest.mark.parametrize("form", ["plain", "json"])
@pytest.mark.parametrize("character", [*"\x00\x1b\x7f\x85\x9b\u2028\u2029\u061c\u200f\u202e\u2066\u2069\ufeff"])
def test_what_a_terminal_would_obey_is_made_visible(
    journal: FakeJournal, attach: Attach, form: str, character: str
) -> None:
    attach(JournalHandler("app"), FORMATTERS[form]())
    logging.getLogger("app").info("a%sb", character)
    (record,) = journal.wait_for(1)
    assert f"a\\u{ord(character):04x}b" in record["line"]
    if form == "json":
        assert json.loads(record["line"][3:])["message"] == f"a{character}b"


def test_words_of_clients_in_other_records_of_the_server_are_cut(journal: FakeJournal, attach: Attach) -> None:
    handler = attach(JournalHandler("app"), Formatter("%(message)s"))
    logger = logging.getLogger("uvicorn.error")
    logger.addHandler(handler)
    try:
        logger.error('%s - "WebSocket %s" 403', "127.0.0.1:1", "/" + "a" * 30_000)
    finally:
        logger.removeHandler(handler)
    (record,) = journal.wait_for(1)
    assert record["line"] == f'<3>127.0.0.1:1 - "WebSocket /{"a" * 1023}...+28977" 403'


def test_what_the_application_says_is_whole(journal: FakeJournal, attach: Attach) -> None:
    attach(JournalHandler("app"), Formatter("%(message)s"))
    logging.getLogger("app").info("%s", "a" * 2000)
    answer("/" + "b" * 2000)
    said, _ = journal.wait_for(2)
    assert said["line"] == "<6>" + "a" * 2000


def test_one_allowance_is_for_all_long_words_of_clients(
    journal: FakeJournal, attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those in the server's own records, too: handshakes of WebSockets, and what stands for many records."""
    handler = attach(JournalHandler("app"), Formatter("%(message)s"))
    monkeypatch.setattr(time, "time", lambda: 1687343204.125)
    monkeypatch.setattr(time, "time_ns", lambda: 1687343204125000000)
    logger = logging.getLogger("uvicorn.error")
    logger.addHandler(handler)
    try:
        for _ in range(1000):
            logger.warning('%s - "WebSocket %s" 403', "127.0.0.1:1", "/" + "a" * 30_000)
    finally:
        logger.removeHandler(handler)
    records = journal.wait_for(1000)
    assert "a" * 1000 in records[0]["line"]
    assert sum(len(record["line"]) for record in records) < 64 * 1024 + 1000 * 350


def test_who_a_proxy_names_in_a_handshake_has_a_form(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "uvicorn.error")
    asked = {"client": ('1" 500 "' + "x" * 49_152, 0), "path": "/ä b", "query_string": b"a=1"}
    handshake.log(asked, "[accepted]")
    (text,) = (record.getMessage() for record in caplog.records)
    assert text.endswith(':0 - "WebSocket /%C3%A4%20b?a=1" [accepted]')
    assert text.startswith("1%22%20500%20%22xxx")
    assert len(text) < 200
