"""What operators run in releases: who, what and with which outcome, and what a lost one leaves."""

import argparse
import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest
from appctl import ending, lock, oneoff, runs, systemd
from appctl.ending import Ending
from appctl.process import CtlError
from appctl.prune import running
from ctl_host import Host


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, str]]:
    """What systemd says of units; nothing of those that are not there."""
    known: dict[str, dict[str, str]] = {}
    monkeypatch.setattr(systemd, "show", lambda unit, *names: {n: known.get(unit, {}).get(n, "") for n in names})
    return known


@pytest.fixture
def forgotten(host: Host, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The units that were stopped and forgotten."""
    units: list[str] = []

    def forget(_: Host, unit: str) -> None:
        units.append(unit)
        (host.transient / unit).unlink()

    monkeypatch.setattr(runs, "forget", forget)
    return units


def begin(host: Host, run: str, release: str = "aaa1", program: str = "alembic") -> str:
    lock.private(host)
    runs.directory(host, run).mkdir()
    runs.note(host, run, program)
    unit = runs.unit_of(host, run)
    (host.transient / unit).write_text(f"WorkingDirectory={host.releases}/{release}/app\n")
    return unit


def test_a_run_keeps_its_release(host: Host, states: dict[str, dict[str, str]]) -> None:
    begin(host, "0123abcd")
    assert not states
    assert running(host) == {"", "aaa1"}


def test_units_of_others_are_no_runs(host: Host) -> None:
    for name in ("shop-run-0123abcd.service", "fastapi-run-0123abcd.service.d", "fastapi-run-x.service"):
        (host.transient / name).write_text("")
    assert runs.there(host) == []


def test_what_ended_without_its_owner_is_collected(
    host: Host, states: dict[str, dict[str, str]], forgotten: list[str]
) -> None:
    unit = begin(host, "0123abcd")
    states[unit] = {"SubState": "exited", "Result": "success", "ExecMainCode": "1", "ExecMainStatus": "3"}
    owner = runs.claim(host, "0123abcd")
    runs.sweep(host)
    assert forgotten == []
    os.close(owner)
    runs.sweep(host)
    assert forgotten == [unit]
    (line,) = [json.loads(line) for line in host.runs.read_text().splitlines()]
    assert (line["program"], line["outcome"], line["status"], line["to"]) == ("alembic", "exit status 3", 3, "aaa1")
    assert not runs.directory(host, "0123abcd").exists()


def test_a_detached_one_goes_on(host: Host, states: dict[str, dict[str, str]], forgotten: list[str]) -> None:
    unit = begin(host, "0123abcd")
    states[unit] = {"SubState": "running", "ActiveState": "active"}
    (runs.directory(host, "0123abcd") / "detached").touch()
    runs.sweep(host)
    assert forgotten == []
    (runs.directory(host, "0123abcd") / "detached").unlink()
    runs.sweep(host)  # one that had a terminal, which is gone
    assert forgotten == [unit]
    assert "whoever began it was gone" in host.runs.read_text()


def test_the_end_of_a_detached_one_is_noted_by_its_unit(host: Host, states: dict[str, dict[str, str]]) -> None:
    unit = begin(host, "0123abcd")
    states[unit] = {"Result": "exit-code", "ExecMainCode": "1", "ExecMainStatus": "143"}
    runs.command_ran(host, argparse.Namespace(run="0123abcd"))
    assert runs.there(host) == []
    assert "killed by signal 15" in host.runs.read_text()


@pytest.mark.parametrize(
    ("result", "code", "status", "expected"),
    [
        ("success", "1", "0", Ending(0, "done")),
        ("exit-code", "1", "3", Ending(3, "exit status 3")),
        ("exit-code", "1", "130", Ending(130, "killed by signal 2")),
        ("exit-code", "1", "255", Ending(255, "exit status 255")),
        ("signal", "2", "9", Ending(137, "killed by signal 9")),
        ("core-dump", "3", "11", Ending(139, "killed by signal 11")),
        ("timeout", "1", "143", Ending(124, "timed out")),
        ("success", "0", "0", Ending(1, "unknown, systemd has forgotten it")),
        ("", "", "", Ending(1, "unknown, systemd has forgotten it")),
    ],
)
def test_an_end_has_a_status(
    states: dict[str, dict[str, str]], result: str, code: str, status: str, expected: Ending
) -> None:
    states["x"] = {"Result": result, "ExecMainCode": code, "ExecMainStatus": status}
    assert ending.of("x") == expected


def test_runs_begin_and_end_one_at_a_time(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LOOK", 0.01)
    with lock.runs(host), pytest.raises(CtlError, match="Try again"), lock.runs(host, 0.05):
        pass
    with lock.runs(host, 0):
        pass


@pytest.mark.parametrize("terminal", [False, True])
def test_words_are_words(tmp_path: Path, terminal: bool) -> None:
    words = ["printf", "%s|", "a b", "$HOME", "'\"\\", "", "%n", "-x", "é\n"]
    script = tmp_path / "script"
    script.write_text(oneoff.script(words, terminal).replace("setsid --ctty ", ""))
    done = subprocess.run(["/bin/sh", str(script)], capture_output=True, check=True, start_new_session=True)
    assert done.stdout.decode() == "|".join([*words[2:], ""])
    assert shlex.join(words) in script.read_text()


def test_a_release_of_before_is_refused(host: Host) -> None:
    with pytest.raises(CtlError, match=r"could not run commands\. Deploy it again"):
        oneoff.text_of(host, "aaa1")


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_time_has_to_be_one(host: Host, timeout: float) -> None:
    with pytest.raises(CtlError, match="give a number of seconds above 0"):
        oneoff.carry_out(host, ["true"], argparse.Namespace(timeout=timeout, detach=False, release="current"))
    with pytest.raises(CtlError, match="no command is given"):
        oneoff.command_run(host, argparse.Namespace(words=["--"]))
