"""A release beside the one in service: what becomes of it by what both have answered."""

import argparse
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from appctl import (
    background,
    canary,
    followed,
    handback,
    handover,
    history,
    journal,
    released,
    releases,
    shares,
    systemd,
    talk,
    totals,
    watch,
    watching,
)
from appctl.app import CANDIDATE, MAIN
from appctl.canary import HandedBackError
from appctl.followed import Judging
from appctl.journal import Record
from appctl.judge import Bounds, Seen
from appctl.process import CtlError
from ctl_host import Host
from gunicorn_fastapi.shared import Shares

OLD, NEW = "aaa1", "bbb3"


class Traffic:
    """Two generations, each with one worker, that answer so many requests at each look."""

    def __init__(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.each = {MAIN: (90, 0), CANDIDATE: (10, 0)}
        """Requests of each, and how many of them fail."""
        self.workers: dict[str, Shares] = {}
        host.tables.mkdir()
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.go_on)
        monkeypatch.setattr("os.fchown", lambda *_: None)
        monkeypatch.setattr(journal, "entries", lambda *_, **__: [])
        monkeypatch.setattr(followed, "memory", lambda _: 0)
        monkeypatch.setattr(systemd, "serves", lambda _: True)
        monkeypatch.setattr(talk, "said", [])
        shares.make(host.shares)
        self.host = host
        self.starts(MAIN, OLD)
        self.starts(CANDIDATE, NEW)

    def starts(self, instance: str, release: str) -> None:
        """An instance is started."""
        name = f"{instance}-{uuid.uuid4().hex}-{release}"
        totals.begin(self.host, name, -1)
        worker = Shares()
        worker.counts.keep_in(self.host.tables / name)
        worker.steering.keep_in(self.host.shares, instance)
        worker.join(1)
        self.workers[instance] = worker

    def go_on(self, seconds: float) -> None:
        """Time passes, and requests are answered."""
        self.now += seconds
        for instance, worker in self.workers.items():
            count, failed = self.each[instance]
            worker.steering.tell(serves=True)
            for number in range(count):
                worker.steering.took()
                worker.counts.count("GET", 500 if number < failed else 200)
                worker.counts.end(0.004)


@pytest.fixture
def traffic(host: Host, monkeypatch: pytest.MonkeyPatch) -> Traffic:
    return Traffic(host, monkeypatch)


def tried(host: Host, **asked: Any) -> str:
    """A canary, and what was said of it."""
    with canary.steered(host, Judging(**{"share": 10, "seconds": 20, **asked})) as trial:
        trial.compare(NEW, OLD)
    return "\n".join(talk.said)


@pytest.mark.usefixtures("traffic")
def test_one_that_is_no_worse_goes_on(host: Host) -> None:
    said = tried(host)
    assert f"release {NEW}: canary takes 10% of the connections for 20 s" in said
    assert f"canary is no worse than {OLD}. It took 10.0% of" in said
    assert "of 2000 requests" in said
    assert "requests                   200          1800" in said


def test_one_that_fails_is_handed_back_with_numbers(host: Host, traffic: Traffic) -> None:
    traffic.each[CANDIDATE] = (10, 5)
    with pytest.raises(HandedBackError) as raised:
        tried(host)
    first, *lines = str(raised.value).split("\n")
    assert first.startswith(f"release {NEW}: handed back after ")
    assert f"{OLD} serves on: failed (5xx): 50.00% of " in first
    assert any(line.split() == ["failed", "(5xx)", "50.00%", "0.00%"] for line in lines)


@pytest.mark.parametrize("quiet", [MAIN, CANDIDATE])
def test_too_little_traffic_is_not_judged(host: Host, traffic: Traffic, quiet: str) -> None:
    traffic.each[quiet] = (1, 1)
    said = tried(host, bounds=Bounds(failed=99))
    assert f"warning: release {NEW}: canary not judged: " in said
    assert "and 100 of each are needed. It goes on (gunicorn_fastapi_canary_unjudged)" in said
    with pytest.raises(HandedBackError, match="so it was handed back"):
        tried(host, unjudged="stop", bounds=Bounds(failed=99))


@pytest.mark.parametrize("silent", [MAIN, CANDIDATE])
def test_an_older_release_does_not_take_part(host: Host, traffic: Traffic, silent: str) -> None:
    del traffic.workers[silent]
    name = OLD if silent == MAIN else NEW
    assert f"canary not judged: {name} does not take part, as older releases" in tried(host)


def test_one_whose_service_ends_is_handed_back(host: Host, traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "serves", lambda _: traffic.now < 1010)
    with pytest.raises(HandedBackError, match=r"fastapi-candidate\.service has ended"):
        tried(host)


@pytest.mark.parametrize("error", [None, CtlError("it does not start")])
def test_connections_are_steered_only_meanwhile(host: Host, traffic: Traffic, error: CtlError | None) -> None:
    try:
        with canary.steered(host, Judging(share=10, seconds=20)):
            assert traffic.workers[MAIN].steering.is_on()
            if error:
                raise error
    except CtlError:
        pass
    assert not traffic.workers[MAIN].steering.is_on()


def test_what_an_interruption_leaves_is_not_steered(host: Host, traffic: Traffic) -> None:
    shares.begin(host.shares, 0.1, 2)
    handover.settle(host)
    assert not traffic.workers[MAIN].steering.is_on()


def test_failing_requests_are_shown_with_the_error_beside_them(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def entry(at: int, text: str, priority: str) -> Record:
        return {"MESSAGE": text, "PRIORITY": priority, "_UID": "995", "__REALTIME_TIMESTAMP": str(at)}

    access = [
        entry(1_000_000, 'INFO - uvicorn.access - 192.0.2.1:1 - "GET /pay?a=1 HTTP/1.1" 500', "6"),
        entry(9_000_000, '{"level": "info", "method": "POST", "path": "/buy", "status": 503}', "6"),
        entry(9_000_001, '{"level": "info", "method": "POST", "path": "/buy", "status": 404}', "6"),
        entry(9_000_002, '{"level": "info", "msg": "status: 500"}', "6"),
    ]
    errors = [entry(1_000_500, "ERROR - uvicorn.error - Exception\nTraceback:\nZeroDivisionError: zero", "3")]
    monkeypatch.setattr(watch, "invocation", lambda *_: "0" * 32)
    monkeypatch.setattr(journal, "entries", lambda *words, **_: access if any("--grep" in w for w in words) else errors)
    assert followed.failures(host, host.service, 0) == [
        "    GET /pay?a=1 500  ZeroDivisionError: zero", "    POST /buy 503"
    ]  # fmt: skip


def test_errors_that_are_too_many_are_not_counted(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Record] = [{"MESSAGE": "it failed", "PRIORITY": "3", "_UID": "995"}] * 7
    monkeypatch.setattr(watch, "invocation", lambda *_: "0" * 32)
    monkeypatch.setattr(journal, "entries", lambda *_, **__: found)
    assert followed.errors(host, host.service, 0) == 7
    monkeypatch.setattr(watch, "RECORDS", 7)
    assert followed.errors(host, host.service, 0) == -1


def test_a_request_of_a_playbook_is_understood() -> None:
    assert followed.asked("") == Judging()
    found = followed.asked('{"share": 5, "bounds": {"slower": 3}}')
    assert (found.share, found.bounds.slower, found.bounds.failed) == (5, 3, Bounds().failed)
    for text in ("{", '{"other": 1}', '{"bounds": {"other": 1}}', "[]", '{"bounds": 1}'):
        with pytest.raises(CtlError, match="is not understood"):
            followed.asked(text)


# --- The watch --------------------------------------------------------------------------------------


class Watched:
    """A release that serves, and what was done about it."""

    def __init__(self, host: Host, traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host, self.traffic = host, traffic
        self.done: list[list[str]] = []
        host.serves(NEW)
        host.was(OLD, NEW)
        host.private.mkdir()
        monkeypatch.setattr(watching, "run", lambda *words, **_: self.done.append([*words]))
        monkeypatch.setattr(
            background, "in_the_background", lambda _, release, words, __: self.done.append([release, *words])
        )
        self.restarts = "2"
        monkeypatch.setattr(systemd, "active", lambda _: True)
        monkeypatch.setattr(systemd, "show", lambda *_: {"NRestarts": self.restarts})

    def watch(self, **asked: Any) -> str:
        """Watch it, and say what was said."""
        baseline = followed.lately(self.host, MAIN)
        self.traffic.starts(MAIN, NEW)
        watching.begin(self.host, NEW, OLD, Judging(**{"watch": 20, **asked}), baseline)
        handback.command_watch(self.host, argparse.Namespace(release=NEW))
        return "\n".join(talk.said)


@pytest.fixture
def watched(host: Host, traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> Watched:
    for _ in range(20):
        traffic.go_on(1)
    return Watched(host, traffic, monkeypatch)


def failing(watched: Watched) -> None:
    watched.traffic.each[MAIN] = (90, 45)


def test_one_that_is_no_worse_stays(watched: Watched) -> None:
    assert f"watched for 20 s, and is no worse than {OLD} was" in watched.watch()
    assert [words[0] for words in watched.done] == ["systemd-run"]


def test_one_that_is_worse_is_handed_back_once(watched: Watched) -> None:
    failing(watched)
    assert f"is handed back to {OLD}: failed (5xx): " in watched.watch()
    (_, words) = watched.done
    assert words[:2] == [OLD, f"--instead-of={NEW}"]
    assert words[2].startswith("--why=handed back: failed (5xx): ")
    assert json.loads(watched.host.proof.read_text())["release"] == OLD


def test_one_whose_service_ends_by_itself_is_handed_back(watched: Watched) -> None:
    watched.restarts = "3"
    assert f"is handed back to {OLD}: fastapi.service has ended 3 times by itself" in watched.watch()
    assert len(watched.done) == 2


def test_a_restart_takes_nothing_from_what_was_counted(host: Host, traffic: Traffic) -> None:
    one = followed.Followed(host, CANDIDATE, NEW)
    traffic.go_on(1)
    traffic.starts(CANDIDATE, NEW)
    assert one.seen().requests == 10


@pytest.mark.parametrize(
    ("despite", "told", "done"),
    [
        (False, "answers worse than aaa1 did, and is not handed back: since aaa1", 1),
        (True, "is handed back to aaa1", 2),
    ],
)
def test_a_release_command_keeps_the_watch_from_handing_back(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, despite: bool, told: str, done: int
) -> None:
    monkeypatch.setattr(released, "told", lambda *_: "since aaa1 first served, release commands have run")
    failing(watched)
    assert told in watched.watch(despite=despite)
    assert len(watched.done) == done


def test_another_deploy_is_not_undone(watched: Watched) -> None:
    failing(watched)
    watched.host.serves("ccc4")
    watched.watch()
    assert len(watched.done) == 1


def test_a_watch_that_cannot_begin_is_told(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise CtlError("systemd-run: it is full")

    monkeypatch.setattr(watching, "run", fail)
    watching.begin(watched.host, NEW, OLD, Judging(watch=20), Seen([], []))
    assert talk.said == [f"warning: release {NEW} is not watched: systemd-run: it is full"]


def test_another_deploy_ends_it_and_says_so(watched: Watched) -> None:
    watching.begin(watched.host, NEW, OLD, Judging(watch=20), Seen([], []))
    watching.end(watched.host, "the handover to ccc4 begins")
    assert watched.done[-1] == ["systemctl", "stop", "fastapi-watch.service"]
    assert talk.said[-1] == f"the watch of release {NEW} ends: the handover to ccc4 begins"


def test_a_watch_without_anything_noted(watched: Watched) -> None:
    with pytest.raises(CtlError, match="nothing to watch"):
        handback.command_watch(watched.host, argparse.Namespace(release=NEW))


# --- What is told of it later -----------------------------------------------------------------------


@pytest.fixture
def noted(host: Host) -> Callable[[str, str, str, str], None]:
    """Adds to the history."""

    def add(before: str, after: str, outcome: str, reason: str) -> None:
        handover.record(host, before, after, outcome, reason, 1.0)

    return add


def test_who_was_handed_back_is_told_until_the_next_deploy(host: Host, noted: Callable[..., None]) -> None:
    noted(
        OLD, NEW, history.HANDED_BACK, f"release {NEW}: handed back after 6 s of its canary, and {OLD} serves on: slow"
    )
    assert watching.handed_back(host).endswith(f": after 6 s of its canary, and {OLD} serves on: slow")
    assert watching.handed_back(host, NEW).startswith(f"release {NEW} was handed back at ")
    assert watching.handed_back(host, "ccc4") == ""
    noted(OLD, "ccc4", "done", "")
    assert watching.handed_back(host) == ""
    noted("ccc4", OLD, "done", "handed back: failed")
    assert watching.handed_back(host).startswith("release ccc4 was handed back at ")
    assert watching.handed_back(host).endswith(": failed")


def test_nobody_rolls_back_to_what_was_handed_back(host: Host) -> None:
    host.was("", OLD)
    host.was(OLD, "ccc4")
    host.was("ccc4", NEW)
    handover.record(host, NEW, "ccc4", "done", "handed back: failed", 1.0)
    host.serves("ccc4")
    assert releases.previous(host) == OLD
    host.was("ccc4", NEW)
    host.was(NEW, "ccc4")
    assert releases.previous(host) == NEW  # it was wanted again
