"""What the status says, as far as it needs no systemd."""

import argparse
import os

import pytest
from appctl import counting, exchange, handover, history, limits, releases, status, systemd, talk
from appctl.counting import Asked, Requests
from appctl.process import CtlError
from ctl_host import Host


@pytest.mark.parametrize(
    ("requests", "told"),
    [
        (None, None),
        (Requests(0, 0, 300.0), None),
        (Requests(3, 1, 300.5), {"logged": 3, "failed": 1, "seconds": 300.5}),
    ],
)
def test_the_requests_of_the_last_minutes_are_told(requests: Requests | None, told: dict[str, float] | None) -> None:
    assert status.traffic(requests) == told


@pytest.mark.parametrize(
    ("head", "words", "is_answer"),
    [
        (b"HTTP/1.1 200 OK", "/up answers 200 in ", True),
        (b"HTTP/1.1 503 X", "unhealthy (asked with Host: localhost)", True),
        (b"", "/up does not answer within 5 s", False),
    ],
)
def test_the_health_is_told_in_words(
    host: Host, monkeypatch: pytest.MonkeyPatch, head: bytes, words: str, is_answer: bool
) -> None:
    monkeypatch.setattr(counting, "ask", lambda *_: Asked("/up", "localhost", exchange.Answer(head, b"")))
    said, answers = status.asked(host)
    assert words in said
    assert bool(answers) == is_answer


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(), "unknown, the health check needs root"),
        (ConnectionRefusedError("refused"), "health check failed to connect (refused)"),
        (CtlError("no manifest"), "health check failed to connect (no manifest)"),
    ],
)
def test_why_it_cannot_be_asked_is_told(
    host: Host, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(releases, "running", fail)
    assert status.asked(host) == (words, [])


def test_a_host_is_a_line_of_a_table() -> None:
    state = {
        "release": "360bc22fc935" + "0" * 28,
        "state": "active (running)",
        "since": "Mon 2026-11-23 02:19:57 UTC",
        "workers": 2,
        "memory": 123 * 2**20,
        "restarts": 0,
        "requests": {"logged": 70, "failed": 4, "seconds": 312.4},
        "health": "/healthz answers 200 in 3 ms",
        "maintenance": {},
        "python": {"version": "3.14.2", "built": "20260127", "newer": "3.14.10"},
    }
    assert [str(cell) for cell in status.cells(state)] == [
        "360bc22fc935", "active (running)", "Mon 2026-11-23 02:19:57 UTC", "2", "123 MiB", "0", "0.2", "5.7%",
        "/healthz answers 200 in 3 ms, Python 3.14.10 is known",
    ]  # fmt: skip
    head, line = status.COLUMNS.format(*status.HEAD), status.COLUMNS.format(*status.cells(state))
    assert head.index("health") == line.index("/healthz")
    assert head.index("since") == line.index("Mon ")
    nothing = status.cells(state | {"release": "", "memory": None, "requests": None})
    assert [nothing[place] for place in (0, 4, 6, 7)] == ["none", "?", "-", "-"]


@pytest.mark.parametrize("why", ["", "its virtualenv is not whole: /usr/bin/python3.11: No such file or directory"])
def test_a_release_that_could_not_start_again_is_told(host: Host, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """While it still runs: the next restart would be an outage."""
    host.serves("aaa1")
    host.damaged["aaa1"] = why
    monkeypatch.setattr(systemd, "show", lambda _, *names: dict.fromkeys(names, ""))
    monkeypatch.setattr(limits, "seen", lambda _: {"memory": None})
    monkeypatch.setattr(limits, "words", lambda _: "unknown")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(talk, "said", [])
    monkeypatch.setattr(talk, "quiet", True)
    assert status.command_status(host, argparse.Namespace(python=""))["incomplete"] == why
    told = [line for line in talk.said if line.startswith("  release ")]
    assert told == [f"  release   incomplete, it could not start again: {why}. Deploy it again"] * bool(why)


def test_a_handover_that_the_history_does_not_have_is_not_over(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The power went after the link and before the line: the next deploy has something to do."""
    host.was("", "aaa1")
    host.serves("bbb3")
    releases.point(host)
    monkeypatch.setattr(releases, "running", lambda *_: "bbb3")
    monkeypatch.setattr(systemd, "show", lambda *names: dict.fromkeys(names, "") | {"ActiveState": "active"})
    assert not handover.is_settled(host, "bbb3")
    handover.settle(host)
    assert handover.is_settled(host, "bbb3")
    line = history.read(host.history)[0][-1]
    assert (line["from"], line["to"], line["reason"]) == ("aaa1", "bbb3", "after an interruption")


@pytest.mark.parametrize(
    ("state", "settled", "said"),
    [
        ("active", True, "fastapi keeps serving bbb3"),
        ("reloading", True, "fastapi keeps serving bbb3"),
        ("deactivating", False, "fastapi.service is deactivating, and was before"),
    ],
)
def test_an_application_that_says_it_stops_is_not_in_service(
    host: Host, monkeypatch: pytest.MonkeyPatch, state: str, settled: bool, said: str
) -> None:
    """STOPPING=1 or WATCHDOG=trigger, after which it goes on; but RELOADING=1 changes nothing."""
    host.serves("bbb3")
    host.was("aaa1", "bbb3")
    releases.point(host)
    monkeypatch.setattr(releases, "running", lambda *_: "bbb3")
    monkeypatch.setattr(systemd, "show", lambda *names: dict.fromkeys(names, "") | {"ActiveState": state})
    assert handover.is_settled(host, "bbb3") == settled
    assert handover.serving(host) == said
    monkeypatch.setattr(counting, "ask", lambda *_: Asked("/up", "localhost", exchange.Answer(b"HTTP/1.1 200 OK", b"")))
    shown = dict.fromkeys((*status.PROPERTIES, "ControlGroup", "MemoryCurrent", "MemoryMax"), "")
    monkeypatch.setattr(systemd, "show", lambda *_: shown | {"ActiveState": state})
    told = status.command_status(host, argparse.Namespace(python=""))
    assert ("answers 200" in told["health"]) == settled
