"""A host with timers, whose systemd is a table."""

import argparse
import json
import re
from typing import Any

import pytest
from appctl import generations, owed, processes, scheduling, systemd, talk, timers, timing
from appctl.generations import generation
from appctl.ours import Ours
from appctl.process import CtlError
from ctl_host import Host

NIGHT = {"on_calendar": ["03:00"], "persistent": True}


class Table:
    """A systemd."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.states: dict[str, tuple[str, str]] = {}
        self.jobs: set[str] = set()
        """Units whose start waits for another one."""
        self.log: list[str] = []
        self.failing = ""
        self.properties: dict[str, str] = {}

    def run(self, *command: str, **_: object) -> str:
        verb, *rest = command[1:]
        units = [word for word in rest if not word.startswith("-")]
        if verb == "list-units":
            pattern = re.compile(units[0].replace(".", r"\.").replace("*", ".*"))
            return "".join(f"{u} loaded {a} {b} x\n" for u, (a, b) in self.states.items() if pattern.fullmatch(u))
        if verb in ("start", "stop"):
            self.log.append(f"{verb} {' '.join(unit.removeprefix('fastapi-') for unit in units)}")
        for unit in units if verb in ("start", "stop") else []:
            self.jobs.discard(unit)
            if verb == "start" and unit == self.failing:
                raise CtlError(f"{unit} failed")
            up = ("active", "waiting") if unit.endswith(".timer") else ("activating", "start")
            self.states[unit] = up if verb == "start" else ("inactive", "dead")
        return ""

    def show(self, unit: str, *names: str) -> dict[str, str]:
        state = self.states.get(unit, ("inactive", "dead"))[0]
        found = dict.fromkeys(names, "") | {"ActiveState": state, "Job": "7" * (unit in self.jobs)}
        return found | self.properties


@pytest.fixture
def timed_host(monkeypatch: pytest.MonkeyPatch, host: Host) -> Table:
    made = Table(host)
    for module in (timers, owed, scheduling, processes, generations):
        monkeypatch.setattr(module, "run", made.run)
    monkeypatch.setattr(systemd, "show", made.show)
    monkeypatch.setattr(generations, "PROMPT", 0)
    monkeypatch.setattr(Ours, "made", lambda _: json.loads((host.base / "record").read_text()))
    monkeypatch.setattr(Ours, "write", lambda _, made: (host.base / "record").write_text(json.dumps(sorted(set(made)))))
    monkeypatch.setattr(talk, "said", [])
    (host.base / "record").write_text("[]")
    for release in ("aaa1", "aab2", "bbb3"):
        has(host, release, "night", "often")
    host.serves("aaa1")
    deploy(host, "aaa1")
    made.log.clear()
    return made


def has(host: Host, release: str, *names: str) -> None:
    """Have a release have these timers."""
    path = host.release(release) / "manifest.json"
    path.write_text(json.dumps({"release": release, "timers": dict.fromkeys(names, NIGHT)}))
    (host.release(release) / "systemd").mkdir(exist_ok=True)
    for name in names:
        unit = host.release(release) / f"systemd/{host.name}-{name}"
        unit.with_suffix(".service").write_text(f"WorkingDirectory={host.releases}/{release}/app\n")
        unit.with_suffix(".timer").write_text(f"Unit={host.name}-{name}-{release}.service\n")


def deploy(host: Host, release: str, fails: bool = False) -> None:
    """Hand over to a release; `fails`: the server does not start."""
    with generation(host, release) as made:
        if fails:
            raise CtlError("the server failed")
        host.serves(release)
        made.switch()


def runs(host: Host) -> dict[str, str]:
    """The release whose job each timer runs."""
    return {timer: job.release for timer, job in timers.planned(host).items()}


def ask(host: Host, action: str, timer: str = "") -> dict[str, Any]:
    """What the command line answers."""
    return timing.command_timers(host, argparse.Namespace(action=action, timer=timer, lock_wait=1.0))


def timed(host: Host, turn: str, release: str = "aaa1", timer: str = "night") -> None:
    """What the unit of a job says."""
    timing.command_timed(host, argparse.Namespace(turn=turn, timer=timer, release=release))
