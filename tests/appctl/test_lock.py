"""One change of an application at a time, and who comes second knows for whom it waits."""

import multiprocessing
import os
import shutil
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from appctl import lock
from appctl.app import App
from appctl.process import CtlError


def hold(base: Path, what: str, pipe: Connection) -> None:
    """Hold the lock in another process until told to stop."""
    with lock.lock(App("fastapi", base), what, wait=0):
        pipe.send("held")
        pipe.recv()


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    monkeypatch.setattr(lock, "LOOK", 0.01)
    monkeypatch.setenv("HANDOVER_BY", "alice from 192.0.2.7")
    return App("fastapi", tmp_path)


class Other:
    """Another process that has the lock."""

    def __init__(self, base: Path, what: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=hold, args=(base, what, theirs))
        self.process.start()
        assert self.pipe.recv() == "held"

    def release(self) -> None:
        self.pipe.send("")
        self.process.join()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


def test_who_comes_second_waits_and_is_told_for_whom(
    app: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Other(tmp_path, "the build of aaa1")
    threading.Timer(0.3, other.release).start()
    with lock.lock(app, "the handover to bbb2", wait=30):
        pass
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 1
    assert told[0].startswith("the handover to bbb2 waits for the build of aaa1 by alice from 192.0.2.7 since 20")
    other.process.join()


def test_who_comes_second_does_not_wait_for_ever(app: App, tmp_path: Path) -> None:
    other = Other(tmp_path, "the build of aaa1")
    with pytest.raises(CtlError, match=r"the build of aaa1 by alice .* is in progress, .* timed out after 0\.1 s"):
        lock.lock(app, "prune", wait=0.1).__enter__()
    other.release()


def test_the_lock_ends_with_its_process(app: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Other(tmp_path, "the build of aaa1").kill()
    with lock.lock(app, "prune", wait=0):
        pass
    assert capsys.readouterr().out == ""


def test_who_has_it_may_take_it_again(app: App) -> None:
    with lock.lock(app, "the deployment", wait=0), lock.lock(app, "the build of aaa1", wait=0):
        assert lock.holder(app).startswith("the deployment by alice")
    assert lock.holder(app) == ""


def test_a_lock_that_was_removed_meanwhile_holds_nothing(app: App, tmp_path: Path) -> None:
    other = Other(tmp_path, "the uninstallation")
    taken = threading.Event()

    def wait() -> None:
        with lock.lock(app, "the build of aaa1", wait=30):
            assert app.lock.exists()
            taken.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    app.lock.unlink()
    other.release()
    waiting.join(30)
    assert taken.is_set()


def test_nobody_but_root_reaches_it_whatever_the_umask(app: App) -> None:
    before = os.umask(0o000)
    try:
        with lock.lock(app, "prune", wait=0):
            assert app.private.stat().st_mode & 0o777 == 0o700
            assert app.lock.stat().st_mode & 0o777 == 0o600
            assert app.runtime.stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(before)


def test_who_waits_for_an_uninstallation_is_told_of_it(app: App, tmp_path: Path) -> None:
    other = Other(tmp_path, "the uninstallation")

    def uninstalled() -> None:
        shutil.rmtree(app.runtime)
        other.release()

    threading.Timer(0.3, uninstalled).start()
    with pytest.raises(CtlError, match=r"fastapi was uninstalled while prune waited, .* Deploy it again"):
        lock.lock(app, "prune", wait=30).__enter__()
    assert not app.runtime.exists()
    other.process.join()
