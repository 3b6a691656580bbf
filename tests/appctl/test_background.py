"""What takes the lock in a unit of its own begins once, however many ask for it at one moment."""

import multiprocessing
import os
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from appctl import background, lock, systemd
from appctl.app import App
from appctl.process import CtlError


def take_turn(base: Path, pipe: Connection) -> None:
    """Begin, in another process, until told to go on."""
    with lock.turn(App("fastapi", base)) as ours:
        pipe.send(ours)
        pipe.recv()


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    monkeypatch.setattr(lock, "LOOK", 0.01)
    monkeypatch.setattr(systemd, "show", lambda *_: {"ActiveState": "inactive"})
    return App("fastapi", tmp_path)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When a unit was started."""
    times: list[float] = []
    monkeypatch.setattr(background, "execute_in_a_unit", lambda *_: times.append(time.monotonic()))
    return times


def another(base: Path) -> tuple[Any, Connection]:
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=take_turn, args=(base, theirs))
    process.start()
    assert pipe.recv() is True
    return process, pipe


def test_who_is_alone_begins_at_once(app: App, begun: list[float]) -> None:
    background.in_the_background(app, "aaa1", [], 0.1)
    assert len(begun) == 1


def test_who_comes_while_another_begins_waits_for_it(app: App, tmp_path: Path, begun: list[float]) -> None:
    process, pipe = another(tmp_path)
    ended: list[float] = []

    def end() -> None:
        ended.append(time.monotonic())
        pipe.send("")

    threading.Timer(0.3, end).start()
    background.in_the_background(app, "aaa1", [], 30)
    process.join()
    assert len(begun) == 1
    assert begun[0] > ended[0]


def test_and_does_not_wait_for_ever(app: App, tmp_path: Path, begun: list[float]) -> None:
    process, pipe = another(tmp_path)
    with pytest.raises(CtlError, match=r"another handover is starting, .* timed out after 0\.1 s"):
        background.in_the_background(app, "aaa1", [], 0.1)
    assert not begun
    pipe.send("")
    process.join()


def test_a_unit_that_runs_is_waited_for(app: App, begun: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    states = iter(["active", "deactivating", "inactive"])
    monkeypatch.setattr(systemd, "show", lambda *_: {"ActiveState": next(states)})
    background.in_the_background(app, "aaa1", [], 30)
    assert len(begun) == 1
    assert next(states, "") == ""


def test_all_of_the_time_that_was_waited_is_told(
    app: App, tmp_path: Path, begun: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[float, float]] = []

    def refuse(_app: App, _what: str, wait: float, before: float) -> int:
        asked.append((wait, before))
        if len(asked) == 1:
            return os.open(tmp_path, os.O_RDONLY)
        raise CtlError(f"waited {wait + before:g}")

    monkeypatch.setattr(systemd, "show", lambda *_: {"ActiveState": "active"})
    monkeypatch.setattr(lock, "_acquire", refuse)
    with pytest.raises(CtlError, match=r"^waited 7$"):
        background.in_the_background(app, "aaa1", [], 7)
    assert asked[1][1] > 0
    assert not begun
