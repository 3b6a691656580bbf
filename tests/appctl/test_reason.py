"""Which of an application's words are its reason, in each format of the log."""

import json

import pytest
from appctl.reason import readable, reason_in

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
        ({"MESSAGE": [104, 105, 255], "PRIORITY": "6"}, "hi\ufffd"),
        ({"MESSAGE": None, "PRIORITY": "6"}, ""),
    ],
)
def test_a_record_reads_the_same_in_each_format(entry: dict[str, object], text: str) -> None:
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
