"""What came of the jobs of timers: on record, told, measured; and one that is run now."""

import datetime
import grp
import json
import os
import time

import pytest
from appctl import bounded, ending, journal, lock, measuring, reason, talk, timers, timing
from appctl.process import CtlError
from ctl_host import Host
from timed_host import Table, ask, timed


@pytest.fixture(autouse=True)
def table(timed_host: Table) -> Table:
    return timed_host


def test_its_end_is_on_record_by_a_clock_that_nobody_sets(
    host: Host, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(["2026-12-01T03:00:00+00:00", "2026-11-30T23:00:00+00:00"])  # the host's clock was set back
    monkeypatch.setattr(timing, "now", lambda: next(times))
    table.properties = {
        "Result": "success", "ExecMainCode": "1", "ExecMainStatus": "0", "InvocationID": "0a",
        "ExecMainStartTimestampMonotonic": "1000000", "ExecMainExitTimestampMonotonic": "5200000",
    }  # fmt: skip
    timed(host, "begin")
    assert "outcome" not in timers.record(host, "night")
    timed(host, "end")
    made = timers.record(host, "night")
    assert (made["outcome"], made["seconds"], made["status"], made["failures"]) == ("done", 4.2, 0, 0)
    assert made["succeeded"] == "2026-11-30T23:00:00+00:00"
    path = host.timers / "night.json"
    assert path.stat().st_mode & 0o777 == 0o644


def test_one_that_fails_is_counted_told_and_leaves_its_last_lines(
    host: Host, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.properties = {"Result": "timeout", "ExecMainCode": "2", "ExecMainStatus": "15", "InvocationID": "0a"}
    told: list[str] = []
    monkeypatch.setattr(talk, "tell", lambda _app, text, *_, **__: told.append(text))
    monkeypatch.setattr(journal, "synchronize", lambda: None)
    monkeypatch.setattr(reason, "last_words", lambda match: [match, *map(str, range(200))])
    monkeypatch.setattr(grp, "getgrnam", lambda _: grp.struct_group(("x", "x", os.getegid(), [])))
    for failures in (1, 2):
        timed(host, "begin")
        timed(host, "end")
        assert timers.record(host, "night")["failures"] == failures
    assert told[-1] == "night: timed out after 0.0 s in aaa1 (journalctl -u fastapi-night-aaa1.service)"
    left = host.runtime / "timers/night"
    assert left.read_text().split() == [str(number) for number in range(100, 200)]
    assert left.stat().st_mode & 0o777 == 0o640
    assert "timed out after 0.0 s, 2 failed in a row" in timers.words(timers.described(host))[0]
    timed(host, "begin")
    assert not left.exists()


def test_one_that_was_cut_off_is_told_and_counted(host: Host, table: Table) -> None:
    table.properties = {"Result": "success", "ExecMainCode": "1", "ExecMainStatus": "0", "InvocationID": "0a"}
    timed(host, "begin")
    assert timers.described(host)[0]["last"]["outcome"] == "interrupted"
    timed(host, "begin")
    assert timers.record(host, "night")["failures"] == 1


@pytest.mark.parametrize(("ahead", "told"), [(3600, True), (-3600, False), (None, False)])
def test_a_timer_that_counts_from_the_future_is_told(
    host: Host, table: Table, monkeypatch: pytest.MonkeyPatch, ahead: int | None, told: bool
) -> None:
    """The clock was set back while its job ran, and systemd has left it so."""

    def run(*command: str, environment: object = None, **options: object) -> str:
        if environment is None:
            return table.run(*command, **options)
        assert environment == {"TZ": "UTC"}
        if ahead is None:
            return "LastTriggerUSec=\n"
        at = datetime.datetime.fromtimestamp(time.time() + ahead, datetime.UTC)
        return f"LastTriggerUSec={at:%a %Y-%m-%d %H:%M:%S} UTC\n"

    monkeypatch.setattr(timers, "run", run)
    found = timers.described(host)
    assert [one["ahead"] for one in found] == [told, told]
    assert ("the clock was set back while its job ran" in timers.words(found)[0]) is told


def test_one_that_never_began_is_told(host: Host, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    table.properties = {"Result": "exit-code", "ExecMainCode": "0", "InvocationID": "0a"}
    monkeypatch.setattr(timing, "leave", lambda *_: None)
    timed(host, "end")
    assert timers.record(host, "night")["outcome"] == "did not begin (exit-code)"


def test_one_that_could_not_start_is_told(host: Host, table: Table) -> None:
    table.states["fastapi-night-aaa1.service"] = ("failed", "failed")
    table.properties = {"Result": "resources", "InvocationID": "0b"}
    assert "did not start (resources)" in timers.words(timers.described(host))[0]


@pytest.mark.parametrize("status", [0, 3])
def test_it_is_run_now_and_its_status_passed_on(
    host: Host, table: Table, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    def change(verb: str, unit: str) -> None:
        assert (verb, unit) == ("start", "fastapi-night-aaa1.service")
        timed(host, "begin")
        timed(host, "end")
        if status:
            raise CtlError("it failed")

    monkeypatch.setattr(bounded, "change", change)
    monkeypatch.setattr(ending, "of", lambda _: ending.Ending(status, f"exit status {status}" if status else "done"))
    monkeypatch.setattr(timing, "leave", lambda *_: None)
    monkeypatch.setattr(reason, "last_words", lambda *_: ["a word of it"])
    answer = ask(host, "run", "night")
    assert (answer["changed"], answer["exit_status"]) == (True, status)
    assert "    a word of it" in talk.said
    table.states["fastapi-night-aab2.service"] = ("activating", "start")
    (host.system / "fastapi-night-aab2.service").touch()
    with pytest.raises(CtlError, match=r"night-aab2\.service is under way, and there are never two"):
        ask(host, "run", "night")


def test_what_came_of_them_is_measured(host: Host) -> None:
    host.timers.mkdir()
    ended = {"outcome": "exit status 3", "status": 3, "seconds": 1.5, "succeeded": "2026-11-30T03:00:00+00:00"}
    (host.timers / "night.json").write_text(json.dumps(ended))
    timed(host, "begin")  # the next one is under way
    (host.timers / "often.json").write_text(json.dumps({"begun": "x"}))  # its first one is under way
    found = {family.name: [(s.labels, s.value) for s in family.samples] for family in measuring.jobs(host)}
    at = datetime.datetime(2026, 11, 30, 3, tzinfo=datetime.UTC).timestamp()
    assert found == {
        "gunicorn_fastapi_timer_last_success_timestamp_seconds": [({"timer": "night"}, at)],
        "gunicorn_fastapi_timer_last_exit_status": [({"timer": "night"}, 3)],
        "gunicorn_fastapi_timer_last_duration_seconds": [({"timer": "night"}, 1.5)],
    }


def test_the_lock_is_taken_by_what_changes_something(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "lock", lambda *_: (_ for _ in ()).throw(CtlError("locked")))
    for action in ("suspend", "resume"):
        with pytest.raises(CtlError, match="locked"):
            ask(host, action, "night")
    assert len(ask(host, "list")["timers"]) == 2
