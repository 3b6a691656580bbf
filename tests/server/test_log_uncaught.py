"""What nobody catches."""

import faulthandler
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from gunicorn_fastapi.log import log_uncaught
from journals import FakeJournal


class Unlucky:
    """Raises where nobody can catch it."""

    def __del__(self) -> None:
        raise LookupError("nobody looks")


@pytest.fixture
def streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Where the journal takes new streams."""
    address = str(tmp_path / "streams")
    monkeypatch.setattr("gunicorn_fastapi.log.journal.STREAMS", address)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        yield listener
    faulthandler.enable()


@pytest.mark.usefixtures("journal")
def test_a_crash_of_the_interpreter_is_told_as_an_error(
    streams: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    log_uncaught("app")
    worker = os.fork()
    if not worker:
        os.kill(os.getpid(), signal.SIGSEGV)
    stream, _ = streams.accept()
    with stream, stream.makefile() as lines:
        identifier, _, priority, *_, first = [next(lines).rstrip() for _ in range(8)]
    os.kill(worker, signal.SIGKILL)  # it may still have much to tell
    os.waitpid(worker, 0)
    assert logging.lastResort
    logging.lastResort.close()
    assert (identifier, priority, first) == ("app", "3", "Fatal Python error: Segmentation fault")


@pytest.mark.usefixtures("streams")
def test_what_python_ignores_is_one_record(journal: FakeJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be printed line by line, with the priority of what is no error."""
    for module, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    log_uncaught("app")
    unlucky = Unlucky()
    del unlucky
    assert logging.lastResort
    logging.lastResort.close()
    (record,) = journal.wait_for(1)
    assert record["PRIORITY"] == "3"
    assert record["MESSAGE"].startswith("Exception ignored in: <function Unlucky.__del__")
    assert record["MESSAGE"].endswith("LookupError: nobody looks")


@pytest.mark.usefixtures("streams")
def test_an_uncaught_exception_is_one_critical_record_before_logging_is_set_up(
    journal: FakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    log_uncaught("app")
    assert logging.lastResort
    logging.lastResort.close()  # as logging.config does before it fails

    def crash() -> None:
        raise LookupError("nobody looks")

    thread = threading.Thread(target=crash)
    thread.start()
    thread.join()
    logging.lastResort.close()
    (record,) = journal.wait_for(1)
    assert (record["PRIORITY"], record["SYSLOG_IDENTIFIER"]) == ("2", "app")
    assert record["MESSAGE"].startswith("Uncaught exception\nTraceback")
    assert record["MESSAGE"].endswith("LookupError: nobody looks")
