"""Timers: what is refused of them, what a host says of their times, and what their jobs run."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import gunicorn_fastapi_times as times
import pytest
from gunicorn_fastapi_controller import timers
from jinja2 import Environment, FileSystemLoader

ROLE = Path(__file__).resolve().parent.parent / "roles/gunicorn_fastapi"
AT = {"command": "x", "on_calendar": "03:00"}


@pytest.mark.parametrize(
    ("name", "timer", "word"),
    [
        ("Night", AT, "small letters"),
        ("a-b", AT, "small letters"),
        ("run", AT, "something of the role's own is called so"),
        ("metrics", AT, "something of the role's own is called so"),
        ("worker", AT, "a process of gunicorn_fastapi_processes is called so"),
        ("night", "x", "not a mapping"),
        ("night", {"on_calendar": "03:00"}, "no command"),
        ("night", {"command": "x"}, "it has no time"),
        ("night", {"command": "x", "on_calendar": []}, "it has no time"),
        ("night", {"command": "x", "on_calendar": ["03:00", 4]}, "it has no time"),
        ("night", {"command": "x", "on_calendar": "03:00\nUnit=other.service"}, "is no time"),
        ("night", {"command": "x", "on_calendar": "%n"}, "is no time"),
        ("night", {"command": "x", "on_calendar": "-03:00"}, "is no time"),
        ("night", {**AT, "at": 3}, "at is unknown"),
        ("night", {**AT, "timeout": 0}, "timeout has to be"),
        ("night", {**AT, "timeout": "1h"}, "timeout has to be"),
        ("night", {**AT, "persistent": "sometimes"}, "persistent has to be"),
        ("night", {**AT, "spread": -1}, "spread has to be"),
        ("night", {**AT, "on_failure": [1]}, "on_failure has to be"),
        ("night", {**AT, "hosts": ""}, "hosts has to be"),
    ],
)
def test_what_cannot_be_meant_is_refused(name: str, timer: object, word: str) -> None:
    inputs = {timers.VARIABLE: {name: timer}, "gunicorn_fastapi_processes": {"worker": {"command": "x"}}}
    problem = timers.timers(inputs)
    assert problem.startswith("gunicorn_fastapi_timers: ")
    assert word in problem


@pytest.mark.parametrize(
    "calendar", ["03:00", "Mon,Tue *-*-* 04:30:00", "hourly", "*:0/15", ["Mon 03:00 Europe/Berlin", "*-*~1 00:00 UTC"]]
)
def test_what_can_be_meant_is_not(calendar: Any) -> None:
    given = {"night": {"command": ["x"], "on_calendar": calendar, "timeout": "60", "persistent": "yes", "spread": "5"}}
    assert not timers.timers({timers.VARIABLE: given})
    whole = timers.whole(given)["night"]
    assert (whole["timeout"], whole["persistent"], whole["spread"], whole["on_failure"]) == (60, True, 5, "")
    assert whole["on_calendar"] == (calendar if isinstance(calendar, list) else [calendar])


def test_a_host_says_which_times_are_none_and_which_never_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/systemd-analyze")
    said = {
        "03:00": (0, "Normalized form: *-*-* 03:00:00\n    Next elapse: Tue 2026-12-01 03:00:00 UTC\n", ""),
        "25:00": (1, "", "Failed to parse calendar specification '25:00': Invalid argument\n"),
        "2020-01-01": (0, "Normalized form: 2020-01-01 00:00:00\n    Next elapse: never\n", ""),
    }
    found = times.untimely(
        {"good": {"on_calendar": ["03:00"]}, "bad": {"on_calendar": list(said)}}, lambda c: said[c[3]]
    )
    assert found == {
        "bad": {
            "25:00": "is no time for systemd: Failed to parse calendar specification '25:00': Invalid argument",
            "2020-01-01": "never comes again",
        }
    }


def script(tmp_path: Path, **timer: object) -> list[str]:
    """The command line of a job."""
    jinja = Environment(
        loader=FileSystemLoader(ROLE / "templates/release/etc"), trim_blocks=True, keep_trailing_newline=True
    )
    jinja.filters["quote"] = shlex.quote
    path = tmp_path / "timer-night"
    path.write_text(jinja.get_template("timer.j2").render(timer={"on_failure": "", **timer}, instance="night"))
    return ["/bin/sh", str(path)]


@pytest.mark.parametrize(
    "command",
    ["echo \"a 'b'\"; exit 3", ["sh", "-c", 'echo "$1"; exit 3', "sh", "a 'b'"], "echo 'a '\\''b'\\'\nexit 3"],
)
def test_a_job_runs_its_command_and_another_one_when_it_failed(tmp_path: Path, command: object) -> None:
    command_line = script(tmp_path, command=command, on_failure=["sed", "s/^/last words: /"])
    done = subprocess.run(command_line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "a 'b'\n")
    told = subprocess.run([*command_line, "failed"], input="x y\n", capture_output=True, text=True, check=True)
    assert told.stdout == "last words: x y\n"


@pytest.mark.parametrize("result", ["success", "exit-code", "timeout"])
def test_what_runs_when_it_failed_does_so_with_its_environment_and_last_lines(tmp_path: Path, result: str) -> None:
    """The unit's own line, as /bin/sh gets it from systemd."""
    unit = (Path(__file__).parent / "units/golden/257/night.service").read_text()
    (line,) = [line for line in unit.split("\n") if line.startswith("ExecStopPost=-/bin/sh")]
    words = shlex.split(line.removeprefix("ExecStopPost=-").replace("$$", "$"))
    (tmp_path / "environment").write_text("WORD='of the application'\n")
    (tmp_path / "lines").write_text("its last line\n")
    job = script(tmp_path, command="false", on_failure='cat; echo "$WORD, $SERVICE_RESULT"')
    words[-4:] = [str(tmp_path / "environment"), "/nonexistent", job[1], str(tmp_path / "lines")]
    done = subprocess.run(
        words, env={**os.environ, "SERVICE_RESULT": result}, capture_output=True, text=True, check=True
    )
    assert done.stdout == ("" if result == "success" else f"its last line\nof the application, {result}\n")
