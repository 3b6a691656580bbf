"""Access lines: which are logged, and the short cut that they take."""

import asyncio
import logging
import time
from typing import Any

import pytest
from gunicorn_fastapi.log import Formatter, JournalHandler, JsonFormatter, Request, RequestContext
from gunicorn_fastapi.log.request import answered
from gunicorn_fastapi.log.words import TARGET
from journals import FORMATTERS, Attach, Cycle, FakeJournal, answer, served, take


def test_quiet_paths_are_logged_when_they_fail(journal: FakeJournal, attach: Attach) -> None:
    attach(JournalHandler("app", quiet=["/healthz", "/static/*"]), Formatter("%(message)s"))
    for status in (200, 204, 302, 404, 503):
        for path in ("/healthz", "/static/a/b.css?v=1", "/healthz/deep", "/"):
            answer(path, status, client="")
    logged = [tuple(record["line"].split('"')[1:]) for record in journal.wait_for(14)]
    shown = [(line.split()[1], int(status)) for line, status in logged]
    assert [s for p, s in shown if p == "/healthz"] == [404, 503]
    assert [s for p, s in shown if p.startswith("/static")] == [404, 503]
    assert [s for p, s in shown if p in ("/healthz/deep", "/")] == [200, 200, 204, 204, 302, 302, 404, 404, 503, 503]


CLIENTS: list[Any] = [("127.0.0.1", 12345), ("::1", 1), None]

TARGETS = [("/", b""), ("/a b", b"c=d&e"), ("/\n<0>x\x1b", b""), ("/x", b"\x1b"), ("/\xe4", b"")]
TARGETS += [("/" + "x" * TARGET, b""), ("/", b"x" * TARGET), ("/healthz", b""), ("/healthz", b"a")]


@pytest.mark.parametrize("fields", [False, True])
@pytest.mark.parametrize("form", FORMATTERS)
def test_a_line_that_is_taken_before_uvicorn_tells_it_is_the_same(
    journal: FakeJournal, attach: Attach, monkeypatch: pytest.MonkeyPatch, fields: bool, form: str
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1687343204.125)
    monkeypatch.setattr(time, "time_ns", lambda: 1687343204125000000)
    monkeypatch.setattr(Request, "milliseconds", lambda _, now: 1.5 if now else 0)
    handler = attach(
        JournalHandler("app", fields=fields, quiet=["/healthz"], server_errors="ERROR"), FORMATTERS[form]()
    )
    expected = 0
    for client in CLIENTS:
        for path, query in TARGETS:
            for status in (200, 404, 500):
                about = {"client": client, "method": "GET", "path": path, "query_string": query, "http_version": "1.1"}
                scope = {"type": "http", "headers": [(b"x-request-id", b"the-id")], **about}
                early = asyncio.run(served(scope, status, early=True))
                asyncio.run(served(scope, status, early=False))
                handler.flush()
                plain = path.isprintable() and query.isascii() and query.decode().isprintable()
                short = len(path) + len(query) <= TARGET
                cuts = isinstance(handler.formatter, Formatter | JsonFormatter) and handler.formatter.short_cut
                assert early == (plain and short and status < 500 and cuts)
                if (path, query, status) != ("/healthz", b"", 200):
                    expected += 2
                    taken, ordinary = journal.wait_for(expected)[-2:]
                    assert taken == ordinary
    assert len(journal.records) == expected


@pytest.mark.parametrize("type_", ["lifespan", "websocket"])
def test_what_is_no_request_is_left_to_uvicorn(attach: Attach, type_: str) -> None:
    attach(JournalHandler("app"), Formatter("%(message)s"))
    cycle = Cycle({"type": type_, "headers": []})

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": f"{type_}.accept"})

    asyncio.run(RequestContext(app)(cycle.scope, None, cycle.send))
    assert cycle.access_log


@pytest.mark.parametrize("fields", [False, True])
@pytest.mark.parametrize("form", ["plain", "json", "json with members"])
def test_the_short_cut_makes_no_record(
    journal: FakeJournal, attach: Attach, monkeypatch: pytest.MonkeyPatch, fields: bool, form: str
) -> None:
    attach(JournalHandler("app", fields=fields), FORMATTERS[form]())
    monkeypatch.delattr(logging.Logger, "makeRecord")
    take("/a")
    assert "/a" in str(journal.wait_for(1)[0])


def test_the_short_cut_heeds_filters_levels_and_other_handlers(journal: FakeJournal, attach: Attach) -> None:
    handler = attach(JournalHandler("app"), Formatter("%(message)s"))
    logger = logging.getLogger("uvicorn.access")
    for filterer in (handler, logger):
        filterer.addFilter(_is_odd)
        take("/2")
        take("/3")
        filterer.removeFilter(_is_odd)
    for leveled in (handler, logger):
        leveled.setLevel(logging.WARNING)
        take("/4")
        leveled.setLevel(logging.INFO)
    second = JournalHandler("second")
    second.setFormatter(Formatter("also %(message)s"))
    logger.addHandler(second)
    take("/5")
    logger.removeHandler(second)
    second.close()
    lines = [record["line"].split() for record in journal.wait_for(4)]
    assert [(line[0], line[-3]) for line in lines] == [
        ("<6>127.0.0.1:12345", "/3"),
        ("<6>127.0.0.1:12345", "/3"),
        ("<6>127.0.0.1:12345", "/5"),
        ("<6>also", "/5"),
    ]


def _is_odd(record: logging.LogRecord) -> bool:
    """Whether the path of an access record ends with an odd number."""
    access = answered(record)
    return access is not None and int(access[2][-1]) % 2 == 1
