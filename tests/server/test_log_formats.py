"""Records as JSON, as fields of the journal, and their dates."""

import json
import logging
import os
import re
from collections.abc import Iterator

import pytest
from gunicorn_fastapi.log import Formatter, JournalHandler, JsonFormatter, Request, current
from journals import SPECIFIED, Attach, FakeJournal, answer, fail


@pytest.fixture
def request_in_progress() -> Iterator[Request]:
    """A request that is being answered."""
    request = Request("the-id")
    token = current.set(request)
    yield request
    current.reset(token)


@pytest.mark.usefixtures("request_in_progress")
def test_json_has_one_object_per_record(journal: FakeJournal, attach: Attach) -> None:
    attach(JournalHandler("app"), JsonFormatter('{"release": "abc"}'))
    answer("/a?b=c", 404)
    fail("two\nlines \x1b\x7f\udcff")
    access, error = (json.loads(record["line"][3:]) for record in journal.wait_for(2))
    assert access.pop("duration_ms") >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", access.pop("time"))
    assert access == {
        "level": "INFO",
        "logger": "uvicorn.access",
        "message": '127.0.0.1:12345 - "GET /a?b=c HTTP/1.1" 404',
        "request_id": "the-id",
        "client": "127.0.0.1",
        "method": "GET",
        "path": "/a",
        "status": 404,
        "pid": os.getpid(),
        "release": "abc",
    }
    assert (error["message"], error["level"], error["request_id"]) == ("An error", "ERROR", "the-id")
    assert error["exception"].endswith("LookupError: two\nlines \x1b\x7f\udcff")


@pytest.mark.usefixtures("request_in_progress")
def test_fields_of_the_journal(journal: FakeJournal, attach: Attach) -> None:
    attach(JournalHandler("shop", fields=True), Formatter("%(message)s"))
    answer("/a%0Ab?b=c", 500, client="::1:99")
    logging.getLogger("app").warning("careful")
    access, warning = journal.wait_for(2)
    assert float(access.pop("DURATION_MS")) >= 0
    assert access == {
        "SYSLOG_IDENTIFIER": "shop",
        "PRIORITY": "6",
        "LOGGER": "uvicorn.access",
        "MESSAGE": '::1:99 - "GET /a%0Ab?b=c HTTP/1.1" 500',
        "REQUEST_ID": "the-id",
        "CLIENT": "::1",
        "HTTP_METHOD": "GET",
        "HTTP_PATH": "/a%0Ab",
        "HTTP_STATUS": "500",
    }
    assert (warning["REQUEST_ID"], warning["LOGGER"], warning["PRIORITY"]) == ("the-id", "app", "4")
    assert (warning["CODE_FILE"], warning["CODE_FUNC"]) == (__file__, "test_fields_of_the_journal")


def test_dates_are_those_of_the_standard_library() -> None:
    ours, theirs = Formatter(SPECIFIED), logging.Formatter(SPECIFIED)
    for created in (0.0, 1.999, 1.9999999, 2.0, 1687343204.125, 1687343204.9996):
        record = logging.makeLogRecord({"created": created, "msecs": int((created % 1) * 1000) + 0.0, "name": "x"})
        assert ours.format(record) == theirs.format(record)
