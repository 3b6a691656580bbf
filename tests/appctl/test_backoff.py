"""A service that fails again and again waits longer each time."""

import argparse
import time

import pytest
from appctl import backoff, systemd, talk
from ctl_host import Host


class Failing:
    """A service that systemd starts again and again; the times are seconds since boot."""

    def __init__(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = host
        self.waited: list[float] = []
        self.said: list[str] = []
        self.properties = {"NRestarts": "0"}
        self.was_up(0, 0)
        monkeypatch.setattr(systemd, "show", lambda *_: self.properties)
        monkeypatch.setattr(backoff, "why_it_ended", lambda *_: "RuntimeError: no database")
        monkeypatch.setattr(talk, "tell", lambda _, text, *__, **___: self.said.append(text))
        monkeypatch.setattr(time, "sleep", self.waited.append)

    def was_up(self, begin: float, end: float) -> None:
        self.properties["ActiveEnterTimestampMonotonic"] = str(int(begin * 1e6))
        self.properties["ActiveExitTimestampMonotonic"] = str(int(end * 1e6))

    def starts(self, by_systemd: bool = True) -> None:
        self.properties["NRestarts"] = str(int(self.properties["NRestarts"]) + 1) if by_systemd else "0"
        backoff.command_backoff(self.host, argparse.Namespace())


@pytest.fixture
def failing(host: Host, monkeypatch: pytest.MonkeyPatch) -> Failing:
    return Failing(host, monkeypatch)


def test_each_try_waits_longer_up_to_a_minute(failing: Failing) -> None:
    failing.starts(by_systemd=False)
    for _ in range(9):
        failing.starts()
    assert failing.waited == [0, 1, 3, 7, 15, 31, 59, 59, 59]  # systemd adds a second
    assert failing.said[0] == "fastapi.service has failed once. Restarting now. RuntimeError: no database"
    assert failing.said[2].startswith("fastapi.service has failed 3 times in a row. Restarting in 3 s. ")


def test_a_start_that_somebody_asked_for_does_not_wait(failing: Failing) -> None:
    for _ in range(5):
        failing.starts()
    failing.waited.clear()
    failing.starts(by_systemd=False)
    assert failing.waited == []
    failing.starts()
    assert failing.waited == [0]


def test_neither_does_one_after_a_stop_between_two_tries(failing: Failing) -> None:
    failing.starts(by_systemd=False)
    for _ in range(4):
        failing.starts()
    backoff.command_backoff(failing.host, argparse.Namespace())  # systemd 252 has kept its number
    failing.starts()
    assert failing.waited == [0, 1, 3, 7, 0]


def test_a_service_that_comes_up_for_a_moment_only_goes_on_failing(failing: Failing) -> None:
    for number in range(4):
        failing.starts()
        failing.was_up(number * 10 + 1, number * 10 + 2)
    assert failing.waited == [0, 1, 3, 7]


def test_a_service_that_was_up_for_long_begins_anew(failing: Failing) -> None:
    for _ in range(6):
        failing.starts()
    failing.was_up(100, 100 + backoff.LASTING)
    failing.waited.clear()
    for _ in range(3):
        failing.starts()
    assert failing.waited == [0, 1, 3]
