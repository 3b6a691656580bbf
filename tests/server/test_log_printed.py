"""What an application prints with a level of its own has that priority, and is one record."""

import io
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, cast

import gunicorn_fastapi.log.journal
import pytest
from gunicorn_fastapi.log import JournalHandler
from gunicorn_fastapi.log.printed import Printed, level_of
from journals import FILES, FakeJournal

FORMS = {
    "{level}:root:it failed": "logging.basicConfig",
    "{level}:     it failed": "uvicorn",
    "[{level}] it failed": "brackets",
    "{level} - it failed": "a dash",
    "[2026-11-25 10:00:00 +0000] [7] [{level}] it failed": "gunicorn",
    "2026-11-25 10:00:00,123 - shop.orders - {level} - it failed": "the specification's",
    "2026-11-25 10:00:00,123 - {level} - shop - it failed": "ours",
    "2026-11-25 10:00:00,123 {level} shop it failed": "a date and spaces",
    "2026-11-25 10:00:00.123 | {level}    | shop:say:12 - it failed": "loguru",
    "2026-11-25T10:00:00.123456Z | {level} | it failed": "loguru, in UTC",
    "level={level} msg=failed": "logfmt",
    'time="2026-11-25T10:00:00Z" level={level} msg=failed': "logfmt with a time",
    '{{"level": "{level}", "event": "it failed"}}': "structlog",
    '{{"event": "it failed", "time": 1.5, "severity": "{level}"}}': "Google's",
    '{{"text": "x", "record": {{"level": {{"no": 40, "name": "{level}"}}, "line": 1}}}}': "loguru, serialized",
}


@pytest.mark.parametrize("form", FORMS, ids=FORMS.values())
def test_usual_forms_are_known(form: str) -> None:
    for name in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
        assert level_of(form.format(level=name)) == logging.getLevelName(name)
    if form.startswith(("{{", "level", "time")):
        assert level_of(form.format(level="error")) == logging.ERROR
    assert level_of(form.format(level="FAILED")) is None


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("2026-11-25 10:00:00 [error    ] it failed   [shop]", logging.ERROR),
        ("2026-11-25 10:00:00 [info     ] it ran", logging.INFO),
        ("[warning  ] it will", logging.WARNING),
        ("\x1b[2m2026-11-25 10:00:00\x1b[0m [\x1b[31m\x1b[1merror    \x1b[0m] \x1b[1mit failed\x1b[0m", logging.ERROR),
        (
            "\x1b[32m2026-11-25 10:00:00.123\x1b[0m | \x1b[31m\x1b[1mERROR   \x1b[0m | \x1b[36mshop\x1b[0m - no",
            logging.ERROR,
        ),
        ("2026-11-25 10:00:00.1 | SUCCESS  | m:f:1 - done", logging.INFO),
        ("2026-11-25 10:00:00.1 | TRACE    | m:f:1 - here", logging.DEBUG),
    ],
)
def test_words_of_libraries_are_known(text: str, level: int) -> None:
    assert level_of(text) == level


ORDINARY = [
    *(
        "",
        "\n",
        "it failed",
        "ERROR",
        "ERROR correction is on",
        "INFO desk",
        "errors: 7",
        "error: it failed",
        "10 ERROR x",
    ),
    *(
        "user said ERROR: no",
        " ERROR: no",
        "\x1b[31m ERROR: no",
        "\x1b[2JERROR: no",
        "<3>ERROR: no",
        "ERRORS: 7",
        "[ERROR",
        "2026-11-25 10:00:00 it said ERROR: no",
    ),
    *(
        "msg=x level=error",
        "{",
        "{}",
        "[]",
        '{"level": 40}',
        '{"level": null}',
        '{"level": ["ERROR"]}',
        '{"record": 1}',
    ),
    *(
        '{"record": {"level": "x"}}',
        '{"event": "\\"level\\": \\"error\\""}',
        '{"user": {"level": "error"}}',
        '{"level": "no',
    ),
    *("{" * 9000, '{"level": "error", "x": "' + "x" * 300_000 + '"}', "1" * 9000, "2026-" * 2000, "[" * 9000),
]


@pytest.mark.parametrize("text", ORDINARY, ids=lambda text: text[:40] or "empty")
def test_what_has_no_level_at_its_beginning_has_none(text: str) -> None:
    assert level_of(text) is None


@pytest.fixture
def printed(journal: FakeJournal) -> Iterator[Printed]:
    """Standard output, as PYTHONUNBUFFERED has it."""
    assert journal
    handler = JournalHandler("app")
    with open(gunicorn_fastapi.log.journal.STDOUT, "wb", buffering=0, closefd=False) as raw:
        stream = io.TextIOWrapper(cast(Any, raw), encoding="utf-8", write_through=True)
        made = Printed(stream, handler)
        yield made
        made.detach()
        stream.detach()
    handler.close()


WRITES: list[tuple[Callable[[Any], object], list[dict[str, str]]]] = [
    (lambda to: print("plain", file=to), [{"line": "plain"}]),
    (lambda to: print("two\nlines", file=to), [{"line": "two"}, {"line": "lines"}]),
    (lambda to: print("ERROR: no", file=to), [{"line": "<3>ERROR: no"}]),
    (lambda to: print("ERROR:", "no", 7, file=to), [{"line": "<3>ERROR: no 7"}]),
    (lambda to: print("it", "ERROR: no", sep="\t", file=to), [{"line": "it\tERROR: no"}]),
    (
        lambda to: print("ERROR: a\nb", file=to),
        [{"PRIORITY": "3", "MESSAGE": "ERROR: a\nb", "LOGGER": "", "CODE_FUNC": ""}],
    ),
    (lambda to: print("ERROR: a\nb", 7, file=to), [{"PRIORITY": "3", "MESSAGE": "ERROR: a\nb"}, {"line": " 7"}]),
    (lambda to: print("ERROR: a\n", file=to), [{"line": "<3>ERROR: a"}, {"line": ""}]),
    (lambda to: print(f"ERROR: {'x' * 60_000}", file=to), [{"PRIORITY": "3", "MESSAGE": f"ERROR: {'x' * 60_000}"}]),
    (lambda to: to.write("INFO: yes\n"), [{"line": "<6>INFO: yes"}]),
    (lambda to: to.write("DEBUG: \xe4\n"), [{"line": "<7>DEBUG: \xe4"}]),
    (lambda to: to.write("CRITICAL: a\nb\n"), [{"PRIORITY": "2", "MESSAGE": "CRITICAL: a\nb"}]),
    (lambda to: to.write(f"ERROR: {'x' * 60_000}\n"), [{"PRIORITY": "3", "MESSAGE": f"ERROR: {'x' * 60_000}"}]),
    (lambda to: to.writelines(["ERROR: a\n", "WARNING: b\n"]), [{"line": "<3>ERROR: a"}, {"line": "<4>WARNING: b"}]),
    (lambda to: to.buffer.write(b"ERROR: raw\n") and to.buffer.flush(), [{"line": "ERROR: raw"}]),
    (lambda to: to.write("ERROR: \x1b[2J\n"), [{"line": "<3>ERROR: \\u001b[2J"}]),
]


@pytest.mark.parametrize(("write", "records"), WRITES)
def test_a_record_is_whole_and_in_its_place(
    journal: FakeJournal, printed: Printed, write: Callable[[Any], object], records: list[dict[str, str]]
) -> None:
    for _ in range(2):
        write(printed)
        print("then", file=printed)
    expected = 2 * [*records, {"line": "then"}]
    seen = journal.wait_for(len(expected))
    for found, wanted in zip(seen, expected, strict=True):
        assert wanted.items() <= found.items()


def test_a_line_in_pieces_has_nothing_of_others_in_it(journal: FakeJournal, printed: Printed) -> None:
    handler = JournalHandler("app")
    for text in ("a", " line"):
        printed.write(text)
        handler.handle(logging.makeLogRecord({"levelno": logging.ERROR, "msg": "other"}))
    printed.write("\n")
    handler.close()
    assert [record["line"] for record in journal.wait_for(3)] == ["<3>other", "<3>other", "a line"]


def test_what_is_written_is_counted(printed: Printed) -> None:
    for text in ("plain", "\n", "ERROR: no\n", "ERROR: no", "\n", ""):
        assert printed.write(text) == len(text)


PROGRAM = """
import io, sys
from gunicorn_fastapi.log import log_printed

log_printed("app")
log_printed("app")
print("ERROR: out")
print("ERROR: err", file=sys.stderr)
sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", line_buffering=True)
print("taken over")
sys.stderr = io.TextIOWrapper(sys.stderr.detach(), encoding="utf-8", line_buffering=True)
print("taken away", file=sys.stderr)
print("as ever", file=sys.__stdout__, flush=True)
"""


@pytest.mark.parametrize("to_journal", [True, False])
def test_an_application_may_take_the_streams_over(to_journal: bool) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = os.fstat(theirs.fileno())
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={
                "PYTHONPATH": str(FILES),
                "PYTHONUNBUFFERED": "1",
                "JOURNAL_STREAM": f"{stream.st_dev}:{stream.st_ino}" if to_journal else "1:1",
            },
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=theirs.fileno(),
            stderr=theirs.fileno(),
        )
        level = "<3>" if to_journal else ""
        told = f"{level}ERROR: out\n{level}ERROR: err\ntaken over\ntaken away\nas ever\n"
        assert ours.recv(4096).decode() == told
