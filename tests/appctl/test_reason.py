"""Which of an application's words are its reason, in each format of the log."""

import json

import pytest
from appctl import reason
from appctl.journal import Record
from appctl.reason import access_status, last_words, manager_words, readable, reason_in, verdict, why_it_ended

LINE = "2026-11-23 00:17:57,733 - ERROR - shop - it failed"
JSON = {"level": "ERROR", "logger": "shop", "message": "it failed"}


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"MESSAGE": LINE, "PRIORITY": "3"}, LINE),
        ({"MESSAGE": f"{LINE}\nTraceback", "PRIORITY": "3", "LOGGER": "shop"}, f"{LINE}\nTraceback"),
        ({"MESSAGE": json.dumps(JSON), "PRIORITY": "3"}, "ERROR - shop - it failed"),
        ({"MESSAGE": json.dumps(JSON | {"exception": "a\nb"}), "PRIORITY": "3"}, "ERROR - shop - it failed\na\nb"),
        ({"MESSAGE": "it failed", "PRIORITY": "3", "LOGGER": "shop"}, "ERROR - shop - it failed"),
        ({"MESSAGE": "printed", "PRIORITY": "6"}, "printed"),
        ({"MESSAGE": '{"level": 1}', "PRIORITY": "6"}, '{"level": 1}'),
        ({"PRIORITY": "6"}, ""),
        ({"MESSAGE": "it failed", "LOGGER": "shop"}, "NOTICE - shop - it failed"),
        ({"MESSAGE": '{"levelname": "info", "name": "x", "msg": "y"}'}, "INFO - x - y"),
        ({"MESSAGE": '{"event": "y", "level": "error"}'}, "ERROR - - - y"),
        ({"MESSAGE": "[" * 200_000}, "[" * 200_000),
        ({"MESSAGE": '{"a":' * 50_000}, '{"a":' * 50_000),
        ({"MESSAGE": '{"level": ' + "9" * 60_000 + "}"}, '{"level": ' + "9" * 60_000 + "}"),
        ({"MESSAGE": json.dumps(JSON | {"message": ["a"]})}, json.dumps(JSON | {"message": ["a"]})),
    ],
)
def test_a_record_reads_the_same_in_each_format(entry: dict[str, str], text: str) -> None:
    assert readable(entry) == text


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (
            ["Traceback (most recent call last):", '  File "x"', "ModuleNotFoundError: No module named 'x'", "Bye"],
            "ModuleNotFoundError: No module named 'x'",
        ),
        (["2026 - INFO - x - a", "2026 - WARNING - x - Worker was sent SIGSYS!", "2026 - INFO - x - b"], None),
        (["asyncpg.exceptions.CannotConnectNowError: starting up", "done"], None),
        (["one", "two"], "two"),
        ([], ""),
        # What gunicorn says when it ends because of a worker.
        (
            [
                "No attribute 'x'",
                "2026 - ERROR - gunicorn.error - Reason: y",
                "2026 - CRITICAL - root - Uncaught exception",
                "gunicorn.errors.HaltServer: <HaltServer 'y' 4>",
            ],
            "No attribute 'x'",
        ),
        (["2026 1 - INFO - x - a", "waiting for b", "2026 1 - INFO - x - c"], "waiting for b"),
    ],
)
def test_the_line_that_tells_most_is_found(lines: list[str], reason: str | None) -> None:
    expected = next(line for line in lines if "WARNING" in line or "Error" in line) if reason is None else reason
    assert reason_in(lines) == expected


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-23 00:17:57,733 - INFO - uvicorn.error - Application startup complete.",
        "2026-11-23 00:17:57,733 - DEBUG - asyncio - Using selector: EpollSelector",
        "INFO - shop - all is well",
        "INFO:     Application startup complete.",
        'INFO:     127.0.0.1:1 - "GET /healthz HTTP/1.1" 400 Bad Request',
        "[2026-11-23 00:17:57 +0000] [7] [INFO] Booting worker with pid: 7",
        "2026-11-23 00:17:57.733 | INFO     | shop:start:7 - all is well",
        "2026-11-23 00:17:57.733 | SUCCESS  | shop:start:7 - all is well",
        "2026-11-23T00:17:57Z [info     ] all is well                    key=1",
        "2026-11-23T00:17:57.733+01:00 - INFO - shop - all is well",
        "shop - INFO - all is well",
        'time="2026-11-23T00:17:57Z" level=info msg="all is well"',
        '10.0.0.1:52114 - "GET / HTTP/1.1" 200',
        "NOTICE - shop - all is well",
    ],
)
def test_what_goes_well_is_no_reason(line: str) -> None:
    assert reason_in([line]) == ""
    assert reason_in(["waiting for the database", line]) == "waiting for the database"
    assert reason_in([line, "2026-11-23T00:17:57Z [error    ] it failed", line]).endswith("it failed")


@pytest.mark.parametrize(
    "line", ["ERROR:    it failed", "[2026] [7] [ERROR] it failed", "2026 | ERROR | x - it failed"]
)
def test_an_error_in_any_format_is_a_better_reason_than_a_print(line: str) -> None:
    assert reason_in([line, "bye"]) == line


def test_our_verdict_goes_before_a_warning_and_behind_an_exception() -> None:
    warning, error = "2026 - WARNING - shop - deprecated", "RuntimeError: no database"
    assert reason_in([warning, "print"], "GET /healthz answered 404") == "GET /healthz answered 404"
    assert reason_in([warning, error], "GET /healthz answered 500") == error
    assert reason_in([], "GET /healthz answered 404") == "GET /healthz answered 404"


def said(message: str, uid: str = "998", **fields: str) -> Record:
    return {"MESSAGE": message, "_UID": uid, **fields}


class Journal:
    """Records by what journald itself says of them."""

    def __init__(self, *found: Record) -> None:
        self.found = found

    def entries(self, *matches: str, **_: float) -> list[Record]:
        wanted = dict(match.split("=", 1) for match in matches)
        return [record for record in self.found if wanted.items() <= record.items()]


UNIT = {"_SYSTEMD_UNIT": "shop.service"}
MATCH = "_SYSTEMD_UNIT=shop.service"
LIE = "shop.service: Main process exited, code=killed, status=9/KILL"
TRUTH = "shop.service: Main process exited, code=dumped, status=11/SEGV"


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> Journal:
    journal = Journal(
        said("RuntimeError: no database", **UNIT),
        # The application in our name, and in systemd's.
        said("shopctl: GET /healthz answered 200, all is well", **UNIT),
        said(LIE, **UNIT, UNIT="shop.service"),
        said(LIE, **UNIT, UNIT="shop.service", _PID="7"),
        # A neighbour in systemd's name.
        said(LIE, "997", _SYSTEMD_UNIT="other.service", UNIT="shop.service", _PID="8"),
        # systemd, on its way to execute the application, and afterwards.
        said("Failed at step CHDIR spawning gunicorn: No such file", "0", **UNIT, UNIT="shop.service", _PID="9"),
        said(TRUTH, "0", UNIT="shop.service", _PID="1", _SYSTEMD_UNIT="init.scope"),
        # Our own probe, and ctl.
        said("shopctl: GET /healthz answered 404, and only 2xx counts as healthy", "0", **UNIT, _PID="10"),
        said("shop.service has failed once. Restarting now. ", "0", **UNIT, _PID="11"),
        said(LIE, **UNIT, UNIT="shop.service"),
    )
    monkeypatch.setattr(reason, "entries", journal.entries)
    return journal


@pytest.mark.usefixtures("journal")
def test_who_speaks_is_known_from_the_journal_alone() -> None:
    assert "Failed at step CHDIR spawning gunicorn: No such file" in last_words(MATCH)
    assert not any("404" in line or "has failed once" in line for line in last_words(MATCH))
    assert verdict(MATCH) == "GET /healthz answered 404, and only 2xx counts as healthy"
    assert manager_words("shop.service") == [TRUTH]


@pytest.mark.usefixtures("journal")
def test_only_systemd_tells_how_a_process_ended() -> None:
    assert why_it_ended("shop.service", 0, came_up=True) == TRUTH
    assert why_it_ended("shop.service", 0, came_up=False) == "RuntimeError: no database"


def test_a_neighbour_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    lies = [said(LIE, uid, UNIT="shop.service", _SYSTEMD_UNIT="other.service", _PID="8") for uid in ("997", "998")]
    monkeypatch.setattr(reason, "entries", Journal(*lies).entries)
    assert why_it_ended("shop.service", 0, came_up=True) == ""
    assert verdict(MATCH) == ""


def test_of_what_went_well_only_the_first_line_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    many = said("2026-11-23 00:17:57,733 - INFO - shop - settings:\nValueError: an example\n  more", **UNIT)
    monkeypatch.setattr(reason, "entries", Journal(said("waiting", **UNIT), many).entries)
    assert last_words(MATCH) == ["waiting", "2026-11-23 00:17:57,733 - INFO - shop - settings:"]
    assert reason_in(last_words(MATCH)) == "waiting"


def test_colours_are_no_part_of_a_line_and_only_newlines_end_one(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "\x1b[32mINFO\x1b[0m:     ready\u2028RuntimeError: no\x85KeyError"
    monkeypatch.setattr(reason, "entries", Journal(said(line, **UNIT)).entries)
    assert last_words(MATCH) == ["INFO:     ready\u2028RuntimeError: no\x85KeyError"]
    assert reason_in(last_words(MATCH)) == ""


def test_lines_have_a_bound_in_number_and_length(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [said("\n" * 60_000, **UNIT), said("x" * 60_000 + "\nlast", **UNIT)]
    monkeypatch.setattr(reason, "entries", Journal(*found).entries)
    lines = last_words(MATCH)
    assert len(lines) == reason.LINES
    assert lines[-2:] == ["x" * reason.LONG, "last"]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ('2026 - INFO - uvicorn.access - 1.2.3.4:5 - "GET / HTTP/1.1" 404', 404),
        ('INFO - uvicorn.access - - "GET / HTTP/1.1" 503', 503),
        ('2026 - INFO - shop - "GET / HTTP/1.1" 404', 0),
        (" - uvicorn.access - " * 3000, 0),
        (" - uvicorn.access - 999", 0),
        (" - uvicorn.access - ٣٣٣", 0),
        ("", 0),
    ],
)
def test_the_status_of_an_access_line_is_read(text: str, status: int) -> None:
    assert access_status(text) == status
