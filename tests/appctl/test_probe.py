"""Asking an instance whether it works."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from appctl import probe, systemd
from appctl.process import CtlError

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture
def address(tmp_path: Path) -> Path:
    return tmp_path / "main.sock"


@contextlib.contextmanager
def answering(address: Path, answers: list[bytes | None]) -> Iterator[None]:
    """An instance that gives these answers, one per connection, and then leaves clients waiting.

    None closes the connection without an answer.
    """
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address))
    listener.listen()

    def serve() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            connection.recv(1024)
            if answer is not None:
                connection.sendall(answer)
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        listener.close()


@contextlib.contextmanager
def process(code: str = "import time; time.sleep(60)") -> Iterator[int]:
    """A main process; its id is its parent's to wait for, so that it can be gone before we are asked."""
    child = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield child.pid
    finally:
        child.kill()
        child.wait()


def status(code: int) -> bytes:
    return OK.replace(b"200 OK", str(code).encode() + b" X")


@pytest.mark.parametrize("code", [200, 204])
def test_2xx_is_healthy(address: Path, code: int) -> None:
    with process() as pid, answering(address, [status(code)]):
        assert probe.probe(address, "/healthz", 10, pid).startswith(f"/healthz answered {code} after")


@pytest.mark.parametrize("code", [301, 404, 500])
def test_any_other_answer_is_final(address: Path, code: int) -> None:
    with (
        process() as pid,
        answering(address, [status(code)]),
        pytest.raises(CtlError, match=f"^GET /healthz answered {code}, and only 2xx"),
    ):
        probe.probe(address, "/healthz", 10, pid)


def test_503_and_a_closed_connection_are_not_yet(address: Path) -> None:
    with process() as pid, answering(address, [status(503), None, status(503), OK]):
        assert "answered 200" in probe.probe(address, "/healthz", 10, pid)


def test_no_answer_ends_with_the_time_and_kills(address: Path) -> None:
    with process() as pid, answering(address, [status(503)]):
        with pytest.raises(CtlError, match=r"did not answer 2xx within 0.5 s \(last answer 503\)"):
            probe.probe(address, "/healthz", 0.5, pid)
        assert os.waitpid(pid, 0) == (pid, 9)


def test_a_main_process_that_ends_is_noticed(address: Path) -> None:
    with (
        process("import time; time.sleep(0.3)") as pid,
        answering(address, []),
        pytest.raises(CtlError, match=r"^gunicorn exited before /healthz was answered"),
    ):
        probe.probe(address, "/healthz", 3600, pid)


def test_a_main_process_that_is_gone_already_is_noticed(address: Path) -> None:
    with process("") as pid:
        os.waitpid(pid, 0)
    with answering(address, []), pytest.raises(CtlError, match=r"^gunicorn exited before"):
        probe.probe(address, "/healthz", 3600, pid)


RESPAWNING = """
import subprocess, sys, time
for _ in range(200):
    subprocess.run([sys.executable, "-c", "import time; time.sleep(0.3)"])
"""


def test_workers_that_die_one_after_the_other_are_noticed(address: Path) -> None:
    with process(RESPAWNING) as pid, answering(address, []):
        with pytest.raises(CtlError, match=r"^3 workers crashed in a row before /healthz was answered"):
            probe.probe(address, "/healthz", 3600, pid)
        assert os.waitpid(pid, 0) == (pid, 9)


GIVING_UP = """
import subprocess, sys, time
workers = [subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({s})"]) for s in (0.5, 60)]
workers[0].wait()
time.sleep(60)
"""


def test_a_main_process_that_replaces_no_worker_has_given_up(address: Path) -> None:
    with process(GIVING_UP) as pid, answering(address, []):
        with pytest.raises(CtlError, match=r"^a worker exited before /healthz was answered, and gunicorn gave up"):
            probe.probe(address, "/healthz", 3600, pid)
        assert os.waitpid(pid, 0) == (pid, 9)


RECYCLING = """
import signal, subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
def replace(*_):
    worker.kill()
    worker.wait()
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
if sys.argv[1:] != ["deaf"]:
    signal.signal(signal.SIGHUP, replace)
else:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
time.sleep(60)
"""


@pytest.mark.parametrize("deaf", [False, True])
def test_recycling_is_over_when_the_former_workers_have_left(deaf: bool) -> None:
    main = subprocess.Popen([sys.executable, "-c", RECYCLING, *(["deaf"] if deaf else [])], stdout=subprocess.PIPE)
    with main:
        assert main.stdout is not None
        assert main.stdout.readline() == b"ready\n"
        former = systemd.children(main.pid)
        if deaf:
            with pytest.raises(CtlError, match=r"^1 of the old workers did not exit within 0.3 s"):
                probe.recycle(main.pid, 0.3)
        else:
            probe.recycle(main.pid, 60)
            assert not former & systemd.children(main.pid)
        for child in systemd.children(main.pid):
            os.kill(child, 9)
        main.kill()


BROKEN = """
import os, signal, subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
def replace(*_):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"]).wait()
signal.signal(signal.SIGHUP, replace)
print("ready", flush=True)
time.sleep(60)
time.sleep(60)
"""


def test_recycling_is_over_when_no_new_worker_could_start() -> None:
    with subprocess.Popen([sys.executable, "-c", BROKEN], stdout=subprocess.PIPE) as main:
        assert main.stdout is not None
        assert main.stdout.readline() == b"ready\n"
        with pytest.raises(CtlError, match=r"^the new workers could not start, and the former ones serve on$"):
            probe.recycle(main.pid, 3600)
        for child in systemd.children(main.pid):
            os.kill(child, 9)
        main.kill()


# --- All workers -------------------------------------------------------------------------------------------

TWO = """
import os, subprocess, sys
def start():
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
workers = [start(), start()]
print("ready", flush=True)
while True:
    os.wait()
    workers.append(start())
"""


@contextlib.contextmanager
def master() -> Iterator[int]:
    """A main process with two workers, that replaces one which dies."""
    with subprocess.Popen([sys.executable, "-c", TWO], stdout=subprocess.PIPE) as main:
        assert main.stdout is not None
        assert main.stdout.readline() == b"ready\n"
        try:
            yield main.pid
        finally:
            for pid in (main.pid, *systemd.children(main.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)


def workers(told: str) -> bytes:
    return OK.replace(b"Content-Length", b"X-Workers: " + told.encode() + b"\r\nContent-Length")


def test_healthy_is_when_all_workers_serve(address: Path) -> None:
    with master() as pid, answering(address, [workers("0/2"), workers("1/2"), workers("2/2")]):
        assert "answered 200" in probe.probe(address, "/healthz", 10, pid)


def test_one_worker_proves_nothing_for_the_others(address: Path) -> None:
    with (
        master() as pid,
        answering(address, [workers("1/2")]),
        pytest.raises(CtlError, match=r"within 1 s \(last answer 200, with 1 of 2 workers ready\)"),
    ):
        probe.probe(address, "/healthz", 1, pid)


def test_workers_that_are_told_and_not_there_do_not_count(address: Path) -> None:
    with (
        process() as pid,
        answering(address, [workers("2/2")]),
        pytest.raises(CtlError, match=r"\(last answer 200, with 0 of 2 workers ready\)"),
    ):
        probe.probe(address, "/healthz", 1, pid)


def test_an_older_release_tells_no_workers(address: Path) -> None:
    for told in ("", "many", "2/2/2", "-1/2", "99999/99999", "\u0662/\u0662"):
        address.unlink(missing_ok=True)
        with process() as pid, answering(address, [workers(told)]):
            assert "answered 200" in probe.probe(address, "/healthz", 10, pid)


def test_a_worker_that_dies_while_another_answers_is_seen(address: Path) -> None:
    asked: list[set[int]] = []
    with master() as pid, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen()

        def serve() -> None:
            for number in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1024)
                    asked.append(systemd.children(pid))
                    if number == 0:
                        os.kill(min(asked[0]), 9)
                        while len(systemd.children(pid) - {min(asked[0])}) < 2:
                            pass
                    connection.sendall(workers("2/2"))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            assert "answered 200" in probe.probe(address, "/healthz", 10, pid)
        finally:
            thread.join()
    assert len(asked) == 2
    assert asked[0] != asked[1]
