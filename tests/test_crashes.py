"""Workers that die soon after their start: the next ones start later and later, and gunicorn says so."""

import logging
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import StartServer
from gunicorn_fastapi import crashes
from servers import BIN, free_port

FILES = Path(__file__).parents[1] / "roles/gunicorn_fastapi/files"

CONFIGURATION = """
import sys

sys.path.append({files!r})

from gunicorn_fastapi.crashes import Crashes

crashes = Crashes()
pre_fork, post_fork = crashes.pre_fork, crashes.post_fork
worker_exit, child_exit = crashes.worker_exit, crashes.child_exit
"""

CRASHES = """
import os, signal

def app(environ, start_response):
    pass

os.kill(os.getpid(), signal.SIGKILL)
"""

LEAVES = """
import sys

def app(environ, start_response):
    pass

sys.exit(0)
"""


class Gunicorn:
    """The hooks as gunicorn calls them, at a time that the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.hooks = crashes.Crashes()
        self.log = logging.getLogger("gunicorn.error")
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def start(self) -> Any:
        worker = SimpleNamespace()
        self.hooks.pre_fork(self, worker)
        return worker

    def dies(self, worker: Any, after: float) -> None:
        self.now = worker.begins + after
        self.hooks.child_exit(self, worker)


@pytest.fixture
def gunicorn(monkeypatch: pytest.MonkeyPatch) -> Gunicorn:
    return Gunicorn(monkeypatch)


def waits(gunicorn: Gunicorn, rounds: int) -> list[float]:
    """Seconds that each next worker waits when each dies soon."""
    seen = []
    for _ in range(rounds):
        worker = gunicorn.start()
        seen.append(worker.begins - gunicorn.now)
        gunicorn.dies(worker, after=1)
    return seen


def test_each_waits_longer_up_to_a_minute(gunicorn: Gunicorn, caplog: pytest.LogCaptureFixture) -> None:
    assert waits(gunicorn, 10) == [0, 0, 1, 3, 7, 15, 31, 59, 59, 59]
    assert caplog.messages[1] == (
        "Workers have crashed within 10 s of their start, 3 times in a row. Restarting in 3 s"
    )
    assert len(caplog.messages) == 9


def test_one_that_lasts_ends_the_row(gunicorn: Gunicorn) -> None:
    waits(gunicorn, 5)
    gunicorn.dies(gunicorn.start(), after=crashes.LASTING)
    assert waits(gunicorn, 3) == [0, 0, 1]


def test_those_that_die_together_are_one_round(gunicorn: Gunicorn) -> None:
    for worker in [gunicorn.start() for _ in range(8)]:
        gunicorn.hooks.child_exit(gunicorn, worker)
    assert waits(gunicorn, 2) == [0, 1]


def test_one_that_leaves_by_itself_does_not_crash(gunicorn: Gunicorn) -> None:
    for _ in range(5):
        worker = gunicorn.start()
        worker.has_left[0] = True
        gunicorn.dies(worker, after=1)
    assert waits(gunicorn, 1) == [0]


def test_one_that_is_stopped_while_it_boots_does_not_crash(gunicorn: Gunicorn) -> None:
    for _ in range(3):
        worker = gunicorn.start()
        worker.told_to_leave = True
        gunicorn.hooks.child_exit(gunicorn, worker)
    assert gunicorn.hooks.rounds == 0


def test_one_that_is_stopped_while_it_waits_does_not_crash(gunicorn: Gunicorn) -> None:
    waits(gunicorn, 4)
    gunicorn.dies(gunicorn.start(), after=-1)
    assert gunicorn.hooks.rounds == 4


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    path = tmp_path / "gunicorn.conf.py"
    path.write_text(CONFIGURATION.format(files=str(FILES)))
    return path


def test_gunicorn_waits_and_heeds_a_stop_meanwhile(
    start_server: StartServer, tmp_path: Path, configuration: Path
) -> None:
    (tmp_path / "crashing.py").write_text(CRASHES)
    server = start_server(
        [f"{BIN}/gunicorn", "crashing:app", f"--config={configuration}", f"--bind=127.0.0.1:{free_port()}"],
        directory=tmp_path,
    )
    server.wait_for("4 times in a row. Restarting in 7 s")
    server.stop()


def test_gunicorn_replaces_at_once_what_leaves_by_itself(
    start_server: StartServer, tmp_path: Path, configuration: Path
) -> None:
    (tmp_path / "leaving.py").write_text(LEAVES)
    server = start_server(
        [f"{BIN}/gunicorn", "leaving:app", f"--config={configuration}", f"--bind=127.0.0.1:{free_port()}"],
        directory=tmp_path,
    )
    server.wait_for("Booting worker", times=6)
    server.signal(signal.SIGTERM)
    server.process.wait()
    assert "in a row" not in server.output
