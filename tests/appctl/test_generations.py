"""Processes beside the server, on a host whose systemd is a table: which run after what, and what fails puts back."""

import argparse
import json
import os
from typing import Any

import pytest
from appctl import bounded, generations, processes, scale, scheduling, systemd, timers
from appctl.generations import generation
from appctl.process import CtlError
from ctl_host import Host

WORKER = {"instances": 2, "deploy": "overlap", "ready": 0}
BOT = {"instances": 1, "deploy": "replace", "ready": 0}


class Table:
    """A systemd."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.log: list[str] = []
        self.busy: set[str] = set()
        """What takes its time to stop."""
        self.failing: set[str] = set()
        """Processes that do not start."""

    def process(self, unit: str) -> str:
        return unit.split("-")[1]

    def run(self, *command: str, **_: object) -> str:
        if command[1] == "list-units":
            return "".join(f"{unit} loaded {state} x y z\n" for unit, state in sorted(self.states.items()))
        if command[1:3] == ("stop", "--no-block"):
            self.log.append(f"tell {' '.join(map(self.process, command[3:]))}")
            for unit in command[3:]:
                self.states[unit] = "deactivating" if unit in self.busy else "inactive"
        return ""

    def change(self, verb: str, *units: str, **_: object) -> None:
        self.log.append(f"{verb} {' '.join(map(self.process, units))}")
        for unit in units:
            failing = verb == "start" and unit.split("@")[0] in self.failing
            self.states[unit] = "failed" if failing else "active" if verb == "start" else "inactive"
            if failing:
                raise CtlError(f"{unit} failed")

    def show(self, unit: str, *names: str) -> dict[str, str]:
        return dict.fromkeys(names, "") | {"ActiveState": self.states.get(unit, "inactive"), "NRestarts": "0"}

    def up(self) -> list[str]:
        return sorted(unit for unit, state in self.states.items() if state in ("active", "deactivating"))


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch, host: Host) -> Table:
    made = Table()
    for module in (processes, generations):
        monkeypatch.setattr(module, "run", made.run)
    monkeypatch.setattr(bounded, "change", made.change)
    monkeypatch.setattr(systemd, "show", made.show)
    monkeypatch.setattr(generations, "why", lambda *_: "")
    monkeypatch.setattr(generations, "PROMPT", 0)
    for release in ("aaa1", "aab2"):
        has(host, release, worker=WORKER, bot=BOT)
    host.serves("aaa1")
    deploy(host, "aaa1")
    made.log.clear()
    return made


def has(host: Host, release: str, **beside: dict[str, Any]) -> None:
    """Have a release have these processes."""
    path = host.release(release) / "manifest.json"
    path.write_text(json.dumps({"release": release, "processes": beside}))
    for process in beside:
        unit = host.release(release) / f"systemd/{host.name}-{process}@.service"
        unit.parent.mkdir(exist_ok=True)
        unit.write_text(f"WorkingDirectory={host.releases}/{release}/app\n")


def deploy(host: Host, release: str, fails: bool = False) -> None:
    """Hand over to a release; `fails`: the server does not start after its processes have been proved."""
    with generation(host, release) as made:
        if fails:
            raise CtlError("the server failed")
        host.serves(release)
        made.switch()


def test_a_generation_takes_the_place_of_another(host: Host, table: Table) -> None:
    deploy(host, "aab2")
    assert table.log == ["start worker worker", "stop bot", "start bot", "tell worker worker"]
    assert table.up() == [
        "fastapi-bot-aab2@2-1.service", "fastapi-worker-aab2@2-1.service", "fastapi-worker-aab2@2-2.service",
    ]  # fmt: skip
    assert processes.is_settled(host)
    assert processes.templates(host) == ["fastapi-bot-aab2@.service", "fastapi-worker-aab2@.service"]
    link = host.system / "multi-user.target.wants/fastapi-processes.target"
    assert link.readlink() == host.system / "fastapi-processes.target"


def test_what_is_busy_finishes_and_its_release_stays(host: Host, table: Table) -> None:
    table.busy = {"fastapi-worker-aaa1@1-2.service"}
    deploy(host, "aab2")
    assert table.states["fastapi-worker-aaa1@1-2.service"] == "deactivating"
    assert processes.is_settled(host)
    assert processes.used(host) == {"aaa1", "aab2"}
    (finishing,) = [one for one in processes.described(host) if not one["current"]]
    assert (finishing["release"], finishing["process"]) == ("aaa1", "worker")
    assert any("finishes in aaa1" in line for line in processes.words(processes.described(host)))
    # Back to it at once: beside the one that finishes, and not in its unit.
    deploy(host, "aaa1")
    assert "fastapi-worker-aaa1@3-1.service" in table.up()
    assert table.states["fastapi-worker-aaa1@1-2.service"] == "deactivating"
    table.states["fastapi-worker-aaa1@1-2.service"] = "inactive"
    processes.clear(host)
    assert processes.used(host) == {"aaa1"}
    assert processes.templates(host) == ["fastapi-bot-aaa1@.service", "fastapi-worker-aaa1@.service"]


@pytest.mark.parametrize("failing", ["fastapi-worker-aab2", "fastapi-bot-aab2", "server"])
def test_whatever_fails_puts_back_what_was(host: Host, table: Table, failing: str) -> None:
    before = table.up()
    table.failing = {failing}
    with pytest.raises(CtlError, match="the server failed" if failing == "server" else "is not ready"):
        deploy(host, "aab2", fails=failing == "server")
    assert table.up() == before
    assert [unit.release for unit in processes.wanted(host)] == ["aaa1"] * 3
    bots = [step for step in table.log if "bot" in step]
    assert bots == (["stop bot", "start bot", "start bot"] if "bot" in failing else [])


def test_what_cannot_be_put_back_is_told(host: Host, table: Table) -> None:
    table.failing = {"fastapi-bot-aab2", "fastapi-bot-aaa1"}
    with pytest.raises(CtlError, match=r"(?s)bot is not ready.*of before could not be started again"):
        deploy(host, "aab2")


@pytest.mark.parametrize(("before", "after"), [("overlap", "replace"), ("replace", "overlap")])
def test_what_must_not_run_beside_another_does_not_once_more(host: Host, table: Table, before: str, after: str) -> None:
    """Neither the release that says so first nor the last one."""
    has(host, "aab2", bot=BOT | {"deploy": before})
    deploy(host, "aab2")
    table.log.clear()
    has(host, "bbb3", bot=BOT | {"deploy": after})
    deploy(host, "bbb3")
    assert table.log == ["stop bot", "start bot"]


def test_a_type_that_is_no_more_is_stopped_and_gone(host: Host, table: Table) -> None:
    has(host, "aab2", worker=WORKER)
    deploy(host, "aab2")
    assert not [unit for unit in table.up() if "bot" in unit]
    has(host, "bbb3")
    deploy(host, "bbb3")
    assert table.up() == []
    assert not (host.system / host.processes).exists()
    assert not (host.system / "multi-user.target.wants" / host.processes).is_symlink()
    assert processes.templates(host) == []
    assert processes.is_settled(host)


def test_an_interruption_is_settled(host: Host, table: Table) -> None:
    """Power or process lost between the switch of the server and that of its processes."""
    has(host, "aab2", worker=WORKER)
    host.serves("aab2")
    assert not processes.is_settled(host)
    generations.settle(host)
    assert {unit.split("-")[2].split("@")[0] for unit in table.up()} == {"aab2"}
    assert processes.is_settled(host)
    table.log.clear()
    generations.settle(host)
    assert table.log == []


def test_what_is_down_is_started_and_what_is_too_many_stopped(host: Host, table: Table) -> None:
    table.states["fastapi-worker-aaa1@1-2.service"] = "inactive"
    table.states["fastapi-worker-aaa1@9-1.service"] = "active"
    assert not processes.is_settled(host)
    generations.settle(host)
    assert table.log == ["tell worker", "start worker"]
    assert processes.is_settled(host)


@pytest.mark.parametrize(("ready", "restarts"), [(60, "1"), (0.01, "0")])
def test_one_has_to_stay_up(
    host: Host, table: Table, monkeypatch: pytest.MonkeyPatch, ready: float, restarts: str
) -> None:
    has(host, "aab2", worker=WORKER | {"ready": ready})
    show = table.show
    monkeypatch.setattr(systemd, "show", lambda unit, *names: show(unit, *names) | {"NRestarts": restarts})
    if restarts != "0":
        with pytest.raises(CtlError, match=r"worker is not ready .* it ended by itself"):
            deploy(host, "aab2")
    else:
        deploy(host, "aab2")


def test_it_is_scaled_until_the_next_deploy(host: Host, table: Table) -> None:
    assert scaling(host, "worker=4") == {"changed": True}
    assert len([unit for unit in table.up() if "worker" in unit]) == 4
    assert processes.is_settled(host)
    assert scaling(host, "worker=4") == {"changed": False}
    lines = processes.words(processes.described(host))
    scaled = {line.split()[1]: line.endswith(", scaled until the next deploy") for line in lines}
    assert scaled == {"bot:": False, "worker:": True}
    scaling(host, "worker=1")
    assert table.up() == ["fastapi-bot-aaa1@1-1.service", "fastapi-worker-aaa1@1-1.service"]
    assert processes.is_settled(host)
    for release in ("aaa1", "aab2", "aaa1"):
        deploy(host, release)
        number = 1 if release == "aaa1" and host.scale.exists() else 2
        assert len([unit for unit in table.up() if "worker" in unit]) == number
    assert not host.scale.exists()
    assert not any("scaled" in line for line in processes.words(processes.described(host)))


def scaling(host: Host, words: str) -> dict[str, object]:
    """Scale as the command line does."""
    return scale.command_scale(host, argparse.Namespace(words=words, lock_wait=1.0))


@pytest.mark.parametrize("words", ["worker", "worker=-1", "worker=1001", "clock=1", "=1", "worker=2 bot=1"])
def test_what_cannot_be_scaled_is_refused(host: Host, table: Table, words: str) -> None:
    with pytest.raises(CtlError, match="scale"):
        scaling(host, words)
    assert table.log == []


def test_auto_is_one_for_each_cpu(host: Host) -> None:
    has(host, "aab2", worker=WORKER | {"instances": "auto"})
    assert processes.count(host, "aab2", "worker") == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    "name",
    [
        "fastapi.service", "fastapi-candidate.service", "fastapi-run-0123abcd.service", "fastapi-worker-aaa1@.service",
        "fastapi_two-worker-aaa1@1-1.service", "fastapi-worker-aaa1@1.service", "fastapi-worker-xyz@1-1.service",
    ],
)  # fmt: skip
def test_other_units_are_no_instances(host: Host, name: str) -> None:
    assert processes.parse(host, name) is None


def test_a_host_without_any_is_not_asked(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (processes, generations, timers, scheduling):
        monkeypatch.setattr(module, "run", lambda *_: pytest.fail("it asks"))
    host.serves("aaa1")
    assert processes.is_settled(host)
    assert timers.is_settled(host)
    deploy(host, "aaa1")
    assert processes.described(host) == timers.described(host) == []
