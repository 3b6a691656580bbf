"""Starts and stops whose end an application puts off."""

from typing import Any

import pytest
from appctl import bounded, journal, releases, systemd, talk
from appctl.process import CtlError, LateError

TIMES = {"TimeoutStartUSec": "1min 35s", "TimeoutStopUSec": "20s"}


class Systemd:
    """A service manager that answers starts and stops in time when this many processes were killed."""

    def __init__(self, kills: int) -> None:
        self.kills = kills
        self.asked: list[str] = []
        self.waited: set[float] = set()

    def run(self, *command: str, timeout: float = 30.0, **_: Any) -> str:
        self.asked.append(" ".join(command[1:]))
        if command[1] == "kill":
            self.kills -= 1
        else:
            self.waited.add(timeout)
            if self.kills > 0:
                raise LateError("no end")
        return ""


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the journal is told."""
    found: list[str] = []
    monkeypatch.setattr(journal, "tell", lambda _, text, *__: found.append(text))
    monkeypatch.setattr(releases, "current", lambda _: "abcd")
    monkeypatch.setattr(systemd, "show", lambda _, *names: {name: TIMES[name] for name in names})
    monkeypatch.setattr(talk, "quiet", True)
    return found


def manager(monkeypatch: pytest.MonkeyPatch, kills: int) -> Systemd:
    made = Systemd(kills)
    monkeypatch.setattr(bounded, "run", made.run)
    return made


def test_the_wait_is_what_the_unit_allows_itself(monkeypatch: pytest.MonkeyPatch, told: list[str]) -> None:
    asked = manager(monkeypatch, 0)
    bounded.change("restart", "shop.service", "shop.socket")
    assert asked.asked == ["restart shop.service shop.socket"]
    assert asked.waited == {95 + 2 * 20 + bounded.MARGIN}
    assert told == []


def test_a_restart_that_takes_longer_is_killed_and_goes_on(monkeypatch: pytest.MonkeyPatch, told: list[str]) -> None:
    asked = manager(monkeypatch, 1)
    bounded.change("restart", "shop.service", options=("--job-mode=ignore-requirements",))
    assert asked.asked == [
        "--job-mode=ignore-requirements restart shop.service",
        "kill --signal=KILL -- shop.service",
        "--job-mode=ignore-requirements start shop.service",
    ]
    assert [line.split(", longer")[0] for line in told] == ["shop.service: the restart took more than 150 s"]


def test_a_stop_is_stopped_again(monkeypatch: pytest.MonkeyPatch, told: list[str]) -> None:
    asked = manager(monkeypatch, 1)
    bounded.change("stop", "shop-candidate.service", "shop-candidate.socket")
    assert asked.asked[2] == "stop shop-candidate.service shop-candidate.socket"
    assert len(told) == 1


def test_what_is_late_twice_is_killed_and_has_failed(monkeypatch: pytest.MonkeyPatch, told: list[str]) -> None:
    asked = manager(monkeypatch, 3)
    with pytest.raises(CtlError, match="no end"):
        bounded.change("restart", "shop.service")
    assert [words.split()[0] for words in asked.asked] == ["restart", "kill", "start", "kill"]
    assert len(told) == 2


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("20s", 20), ("1min 35s", 95), ("1h 1min 500ms", 3660.5), ("1y 1month 1w 1d", 34878600), ("2.5s", 2.5),
        ("1us", 1e-6), ("infinity", bounded.LONGEST), ("", bounded.LONGEST), ("[not set]", bounded.LONGEST),
        ("20s forged", bounded.LONGEST), ("s", bounded.LONGEST), ("20", bounded.LONGEST),
    ],
)  # fmt: skip
def test_lengths_of_time(text: str, length: float) -> None:
    assert bounded.seconds(text) == pytest.approx(length)
