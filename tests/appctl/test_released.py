"""The record of release commands: what has run is not run again, and what lies between two releases is said."""

import argparse
import errno
import json
from typing import Any

import pytest
from appctl import background, ending, handover, history, reason, release_command, released, systemd
from appctl.app import RELEASE
from appctl.process import CtlError
from ctl_host import Host


def commanded(host: Host, release: str, command: str) -> None:
    """Give a release a release command."""
    unit = host.release(release) / "systemd" / host.instance_service(RELEASE)
    unit.parent.mkdir(exist_ok=True)
    unit.write_text("[Service]\n")
    (host.release(release) / "manifest.json").write_text(json.dumps({"release": release, "release_command": command}))


def outcomes(host: Host) -> list[tuple[str, str]]:
    return [(line["to"], line["outcome"]) for line in released.records(host)]


@pytest.fixture
def started(host: Host, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The units that were started, in order; the host's releases have commands."""
    commanded(host, "aaa1", "one")
    commanded(host, "aab2", "two")
    units: list[str] = []
    monkeypatch.setattr(release_command, "place", lambda *_: None)
    monkeypatch.setattr(release_command, "forget", lambda *_: None)
    monkeypatch.setattr(release_command, "start", lambda unit: units.append(unit))
    monkeypatch.setattr(reason, "last_words", lambda *_: ["upgraded"])
    monkeypatch.setattr(release_command, "said", lambda *_: "")
    monkeypatch.setattr(release_command, "serving", lambda _: "fastapi keeps serving ccc4")
    return units


def test_it_runs_once(host: Host, started: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    release_command.run(host, "aaa1", again=False)
    release_command.run(host, "aaa1", again=False)
    assert started == ["fastapi-release.service"]
    assert outcomes(host) == [("aaa1", "begun"), ("aaa1", "done")]
    assert "    upgraded\n" in capsys.readouterr().out
    release_command.run(host, "aaa1", again=True)
    assert len(started) == 2


def test_another_release_with_the_same_command_does_not_run_it_again(host: Host, started: list[str]) -> None:
    commanded(host, "bbb3", "one")
    release_command.run(host, "aaa1", again=False)
    release_command.run(host, "bbb3", again=False)
    assert len(started) == 1
    release_command.run(host, "aab2", again=False)
    assert len(started) == 2


def test_what_has_failed_says_so_and_runs_again(
    host: Host, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(unit: str) -> None:
        started.append(unit)
        raise CtlError("systemctl start: Job failed")

    monkeypatch.setattr(release_command, "start", fails)
    monkeypatch.setattr(release_command, "said", lambda *_: "there is no table")
    monkeypatch.setattr(ending, "of", lambda _: ending.Ending(7, "exit status 7"))
    for _ in range(2):
        with pytest.raises(CtlError, match=r"failed after .* keeps serving ccc4; the database may have changed .*: "
                           r"exit status 7\. there is no table"):  # fmt: skip
            release_command.run(host, "aaa1", again=False)
    assert len(started) == 2
    assert outcomes(host)[-1] == ("aaa1", "failed")
    assert "has failed at" in released.missing(host, "aaa1")


def test_a_full_disk_is_no_success_and_hides_no_reason(
    host: Host, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def note(_: Host, __: str, outcome: str, *___: str) -> None:
        if outcome != released.BEGUN:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(released, "note", note)
    with pytest.raises(CtlError, match=r"is done.*released.jsonl could not be written.*may have changed: .*No space"):
        release_command.run(host, "aaa1", again=False)

    def fails(_: str) -> None:
        raise CtlError("systemctl start: Job failed")

    monkeypatch.setattr(release_command, "start", fails)
    monkeypatch.setattr(release_command, "said", lambda *_: "there is no table")
    monkeypatch.setattr(ending, "of", lambda _: ending.Ending(7, "exit status 7"))
    with pytest.raises(CtlError, match="there is no table"):
        release_command.run(host, "aaa1", again=False)
    assert started == ["fastapi-release.service"]


def test_an_interruption_is_noted_once(host: Host, started: list[str]) -> None:
    released.note(host, "aaa1", released.BEGUN)
    release_command.settle(host)
    release_command.settle(host)
    assert outcomes(host) == [("aaa1", "begun"), ("aaa1", "failed")]
    assert released.records(host)[-1]["reason"] == released.INTERRUPTED
    assert started == []


def test_a_release_serves_only_after_its_command(host: Host, started: list[str]) -> None:
    assert released.missing(host, "ccc4") == ""  # it has none
    assert "its release command has not run" in released.missing(host, "aaa1")
    release_command.run(host, "aaa1", again=False)
    assert released.missing(host, "aaa1") == ""
    host.was("", "aab2")  # by whatever way: a rollback is never refused
    assert released.missing(host, "aab2") == ""
    assert started


def test_a_handover_asks_for_it(host: Host, started: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    executed: list[str] = []
    monkeypatch.setattr(handover, "execute", lambda _, release, *__: executed.append(release))
    monkeypatch.setattr(handover, "is_settled", lambda *_: False)
    monkeypatch.setattr(systemd, "show", lambda _, *names: dict.fromkeys(names, ""))
    asked: dict[str, Any] = {"again": False, "preflight_only": False, "import_only": False, "release_command": False}
    arguments = argparse.Namespace(
        **asked, addresses="", judging="", instead_of="", why="", maintenance=None, pause=None
    )
    with pytest.raises(CtlError, match="has not run, and nothing has changed"):
        background.take_turn(host, "aaa1", arguments)
    assert executed == []
    release_command.run(host, "aaa1", again=False)
    background.take_turn(host, "aaa1", arguments)
    assert executed == ["aaa1"]
    assert len(started) == 1


def test_what_lies_between_is_said(host: Host, started: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(f"2026-11-30T07:00:{second:02}+00:00" for second in range(60))

    def append(path: Any, line: dict[str, Any]) -> None:
        real(path, line | {"time": next(times)})

    real = history.append
    monkeypatch.setattr(history, "append", append)
    release_command.run(host, "aaa1", again=False)
    host.was("", "aaa1")
    assert released.told(host, "aaa1") == ""
    release_command.run(host, "aab2", again=False)
    host.was("aaa1", "aab2")
    told = released.told(host, "aaa1")
    assert "since aaa1 first served, release commands have run: aab2 (done at 2026-" in told
    host.was("aab2", "aaa1")
    host.was("aaa1", "aab2")
    assert released.told(host, "aaa1") == told  # the database is still the other's
    assert released.told(host, "aab2") == ""
    assert len(started) == 2


def test_what_ran_elsewhere_is_noted(host: Host, started: list[str]) -> None:
    arguments = argparse.Namespace(release="aaa1", again=False, ran_on="web1\n", lock_wait=1)
    assert background.command_release_command(host, arguments)["changed"] is True
    assert background.command_release_command(host, arguments) == {"changed": False, "release": "aaa1", "ran": True}
    (line,) = released.records(host)
    assert (line["where"], line["outcome"]) == ("web1\\n", "done")
    assert started == []
    arguments.release = "ccc4"
    with pytest.raises(CtlError, match="has no release command"):
        background.command_release_command(host, arguments)
