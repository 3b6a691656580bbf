"""The control command, as far as it needs no systemd: history, names, pruning, and the probe."""

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import ctl
import pytest

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Host(ctl.App):
    """An application in a temporary directory instead of /opt and /etc/systemd/system."""

    @property
    def root(self) -> Path:
        return Path(os.environ["TEST_ROOT"]) / self.name

    @property
    def unit(self) -> Path:
        return self.root / "fastapi.service"

    @property
    def failures(self) -> Path:
        return self.root / "failures.json"

    def release(self, name: str, built: int) -> None:
        directory = self.root / "releases" / name
        directory.mkdir(parents=True)
        (directory / "manifest.json").write_text(json.dumps({"release": name}))
        os.utime(directory / "manifest.json", (built, built))

    def serves(self, release: str) -> None:
        self.unit.write_text(f"WorkingDirectory={self.root}/releases/{release}/app\n")

    def was(self, before: str, after: str, outcome: str = "done") -> None:
        ctl.record(self, before, after, outcome, "", 1.0)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setenv("TEST_ROOT", str(tmp_path))
    host = Host("fastapi")
    for built, name in enumerate(["aaa1", "aab2", "bbb3", "ccc4"]):
        host.release(name, built)
    return host


# --- Which release -----------------------------------------------------------------------------------


def test_the_unit_says_which_release_is_current(host: Host) -> None:
    assert host.current() == ""
    host.serves("bbb3")
    assert host.current() == "bbb3"


def test_previous_is_what_served_before_not_what_is_newest(host: Host) -> None:
    host.was("", "bbb3")
    host.was("bbb3", "aaa1")
    host.serves("aaa1")
    assert host.previous() == "bbb3"


def test_a_release_that_failed_is_never_previous(host: Host) -> None:
    host.was("", "aaa1")
    host.was("aaa1", "bbb3")
    host.was("bbb3", "ccc4", "failed")
    host.serves("bbb3")
    assert host.previous() == "aaa1"


def test_a_rollback_can_be_rolled_back(host: Host) -> None:
    host.was("", "aaa1")
    host.was("aaa1", "bbb3")
    host.was("bbb3", "aaa1")
    host.serves("aaa1")
    assert host.previous() == "bbb3"


def test_previous_survives_a_power_loss_between_switch_and_history(host: Host) -> None:
    host.was("", "aaa1")
    host.serves("bbb3")
    with (host.root / "history.jsonl").open("a") as history:
        history.write('{"time": "2026-01-01T00:0')
    assert host.previous() == "aaa1"


def test_previous_is_a_release_that_is_still_there(host: Host) -> None:
    host.was("", "aaa1")
    host.was("aaa1", "gone")
    host.was("gone", "bbb3")
    host.serves("bbb3")
    assert host.previous() == "aaa1"


def test_without_history_there_is_no_previous(host: Host) -> None:
    host.serves("aaa1")
    assert host.previous() == ""
    with pytest.raises(ctl.CtlError, match="none to go back to"):
        host.resolve("previous")


def test_a_release_is_found_by_its_beginning(host: Host) -> None:
    assert host.resolve("bb") == "bbb3"


@pytest.mark.parametrize("word", ["aa", "zzz"])
def test_an_unclear_name_is_refused_with_those_that_exist(host: Host, word: str) -> None:
    with pytest.raises(ctl.CtlError, match=f"release {word}: .*ccc4, bbb3, aab2, aaa1"):
        host.resolve(word)


def test_an_interrupted_handover_that_is_settled_is_in_the_history(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ctl, "TRANSIENT", tmp_path)
    host.was("", "aaa1")
    host.serves("bbb3")
    for _ in range(2):  # once is enough
        ctl.settle(host)
    assert [(line["from"], line["to"], line["outcome"]) for line in host.history()] == [
        ("", "aaa1", "done"),
        ("aaa1", "bbb3", "done"),
    ]


def test_a_line_that_the_power_cut_off_spoils_no_other(host: Host) -> None:
    host.was("", "aaa1")
    with (host.root / "history.jsonl").open("a") as history:
        history.write('{"time": "2026-01-01T00:0')
    host.was("aaa1", "bbb3")
    assert [line["to"] for line in host.history()] == ["aaa1", "bbb3"]


def journal_of(*lines: str) -> list[dict[str, str]]:
    """Records of the journal with these messages, one a second, up to now."""
    first = time.time() - len(lines)
    return [
        {"MESSAGE": line, "PRIORITY": "6", "__REALTIME_TIMESTAMP": str(int((first + number) * 1e6))}
        for number, line in enumerate(lines)
    ]


def access(status: int) -> str:
    return f'2026-11-23 00:17:57,733 - INFO - uvicorn.access - 127.0.0.1:43102 - "GET / HTTP/1.1" {status}'


def test_the_requests_of_the_last_minutes_are_counted(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    found = journal_of(access(200), "printed", access(404), access(503))
    monkeypatch.setattr(ctl, "entries", lambda *_: found)
    assert ctl.traffic(host) == {"logged": 3, "failed": 1, "seconds": ctl.TRAFFIC_SECONDS}
    monkeypatch.setattr(ctl, "TRAFFIC_RECORDS", len(found))
    counted = ctl.traffic(host)
    assert counted is not None
    assert len(found) <= counted["seconds"] < ctl.TRAFFIC_SECONDS
    found.clear()
    assert ctl.traffic(host) is None


# --- Pruning ------------------------------------------------------------------------------------------


def prune(host: Host, keep: int) -> list[str]:
    ctl.command_prune(host, argparse.Namespace(keep=keep))
    return host.releases()


def test_prune_keeps_the_newest(host: Host) -> None:
    host.serves("ccc4")
    assert prune(host, 2) == ["ccc4", "bbb3"]


def test_prune_never_takes_the_current_or_the_previous(host: Host) -> None:
    host.was("", "aab2")
    host.was("aab2", "aaa1")
    host.serves("aaa1")
    assert prune(host, 2) == ["aab2", "aaa1"]
    assert not (host.root / "releases/ccc4").exists()


def test_prune_takes_nothing_while_there_is_room(host: Host) -> None:
    host.serves("ccc4")
    assert len(prune(host, 4)) == 4


def test_prune_takes_the_credentials_of_releases_that_are_gone(host: Host) -> None:
    for release in ("aaa1", "bbb3", "half"):
        (host.root / "credentials" / release).mkdir(parents=True)
    (host.root / "releases/half").mkdir()  # another run is building it
    prune(host, 2)
    assert sorted(path.name for path in (host.root / "credentials").iterdir()) == ["bbb3", "half"]


def test_prune_takes_the_virtualenvs_that_no_release_uses(host: Host) -> None:
    host.serves("ccc4")
    (host.root / "releases/half").mkdir()  # another run is building it
    for release, virtualenv in {"aaa1": "old", "bbb3": "shared", "ccc4": "shared", "half": "next"}.items():
        (host.root / "virtualenvs" / virtualenv).mkdir(parents=True, exist_ok=True)
        (host.root / "releases" / release / "venv").symlink_to(f"../../virtualenvs/{virtualenv}")
    prune(host, 2)
    assert sorted(path.name for path in (host.root / "virtualenvs").iterdir()) == ["next", "shared"]


def test_the_packages_of_a_release_are_printed(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    packages = [
        {"name": "fastapi", "version": "1.0", "condition": "", "hashes": ["sha256:aa", "sha256:bb"]},
        {"name": "colorama", "version": "2.0", "condition": "os_name == 'nt'", "hashes": ["sha256:cc"]},
    ]
    manifest = host.root / "releases/bbb3/manifest.json"
    manifest.write_text(json.dumps({"release": "bbb3", "packages": packages}))
    ctl.command_packages(host, argparse.Namespace(release="bbb3", json=False))
    assert capsys.readouterr().out.splitlines() == [
        "fastapi==1.0",
        "    sha256:aa",
        "    sha256:bb",
        "colorama==2.0 ; os_name == 'nt'",
        "    sha256:cc",
    ]


# --- What the application said ------------------------------------------------------------------------

LINE = "2026-11-23 00:17:57,733 - ERROR - shop - it failed"
JSON = {"level": "ERROR", "logger": "shop", "message": "it failed"}


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"MESSAGE": LINE, "PRIORITY": "3"}, LINE),
        ({"MESSAGE": f"{LINE}\nTraceback", "PRIORITY": "3", "LOGGER": "shop"}, f"{LINE}\nTraceback"),
        ({"MESSAGE": json.dumps(JSON), "PRIORITY": "3"}, "ERROR - shop - it failed"),
        ({"MESSAGE": json.dumps(JSON | {"exception": "a\nb"}), "PRIORITY": "3"}, "ERROR - shop - it failed\na\nb"),
        ({"MESSAGE": "it failed", "PRIORITY": "3", "LOGGER": "shop"}, "ERROR - shop - it failed"),
        ({"MESSAGE": "printed", "PRIORITY": "6"}, "printed"),
        ({"MESSAGE": '{"level": 1}', "PRIORITY": "6"}, '{"level": 1}'),
        ({"MESSAGE": [104, 105, 255], "PRIORITY": "6"}, "hi\ufffd"),
        ({"MESSAGE": None, "PRIORITY": "6"}, ""),
    ],
)
def test_a_record_reads_the_same_in_each_format(entry: dict[str, object], text: str) -> None:
    assert ctl.readable(entry) == text


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (
            ["Traceback (most recent call last):", '  File "x"', "ModuleNotFoundError: No module named 'x'", "Bye"],
            "ModuleNotFoundError: No module named 'x'",
        ),
        (["2026 - INFO - x - a", "2026 - WARNING - x - Worker was sent SIGSYS!", "2026 - INFO - x - b"], None),
        (["asyncpg.exceptions.CannotConnectNowError: starting up", "done"], None),
        (["one", "two"], "two"),
        ([], ""),
        # What gunicorn says when it ends because of a worker.
        (
            [
                "No attribute 'x'",
                "2026 - ERROR - gunicorn.error - Reason: y",
                "2026 - CRITICAL - root - Uncaught exception",
                "gunicorn.errors.HaltServer: <HaltServer 'y' 4>",
            ],
            "No attribute 'x'",
        ),
        (["2026 1 - INFO - x - a", "waiting for b", "2026 1 - INFO - x - c"], "waiting for b"),
    ],
)
def test_the_line_that_tells_most_is_found(lines: list[str], reason: str | None) -> None:
    expected = next(line for line in lines if "WARNING" in line or "Error" in line) if reason is None else reason
    assert ctl.reason_in(lines) == expected


# --- The probe ----------------------------------------------------------------------------------------


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
        assert ctl.probe(address, "/healthz", 10, pid).startswith(f"/healthz answered {code} after")


@pytest.mark.parametrize("code", [301, 404, 500])
def test_any_other_answer_is_final(address: Path, code: int) -> None:
    with (
        process() as pid,
        answering(address, [status(code)]),
        pytest.raises(ctl.CtlError, match=f"^GET /healthz answered {code}, and only 2xx"),
    ):
        ctl.probe(address, "/healthz", 10, pid)


def test_503_and_a_closed_connection_are_not_yet(address: Path) -> None:
    with process() as pid, answering(address, [status(503), None, status(503), OK]):
        assert "answered 200" in ctl.probe(address, "/healthz", 10, pid)


def test_no_answer_ends_with_the_time_and_kills(address: Path) -> None:
    with process() as pid, answering(address, [status(503)]):
        with pytest.raises(ctl.CtlError, match=r"did not answer 2xx within 0.5 s \(last answer 503\)"):
            ctl.probe(address, "/healthz", 0.5, pid)
        assert os.waitpid(pid, 0) == (pid, 9)


def test_a_main_process_that_ends_is_noticed(address: Path) -> None:
    with (
        process("import time; time.sleep(0.3)") as pid,
        answering(address, []),
        pytest.raises(ctl.CtlError, match=r"^gunicorn ended before /healthz was answered"),
    ):
        ctl.probe(address, "/healthz", 3600, pid)


def test_a_main_process_that_is_gone_already_is_noticed(address: Path) -> None:
    with process("") as pid:
        os.waitpid(pid, 0)
    with answering(address, []), pytest.raises(ctl.CtlError, match=r"^gunicorn ended before"):
        ctl.probe(address, "/healthz", 3600, pid)


RESPAWNING = """
import subprocess, sys, time
for _ in range(200):
    subprocess.run([sys.executable, "-c", "import time; time.sleep(0.3)"])
"""


def test_workers_that_die_one_after_the_other_are_noticed(address: Path) -> None:
    with process(RESPAWNING) as pid, answering(address, []):
        with pytest.raises(ctl.CtlError, match=r"^3 workers died one after the other before /healthz was answered"):
            ctl.probe(address, "/healthz", 3600, pid)
        assert os.waitpid(pid, 0) == (pid, 9)


GIVING_UP = """
import subprocess, sys, time
workers = [subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({s})"]) for s in (0.5, 60)]
workers[0].wait()
time.sleep(60)
"""


def test_a_main_process_that_replaces_no_worker_has_given_up(address: Path) -> None:
    with process(GIVING_UP) as pid, answering(address, []):
        with pytest.raises(ctl.CtlError, match=r"^a worker ended before /healthz was answered, and gunicorn gave up"):
            ctl.probe(address, "/healthz", 3600, pid)
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
        former = ctl.children(main.pid)
        if deaf:
            with pytest.raises(ctl.CtlError, match=r"^1 of the former workers did not leave within 0.3 s"):
                ctl.recycle(main.pid, 0.3)
        else:
            ctl.recycle(main.pid, 60)
            assert not former & ctl.children(main.pid)
        for child in ctl.children(main.pid):
            os.kill(child, 9)
        main.kill()


# --- The command line ---------------------------------------------------------------------------------


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "fastapi.service"
    path.write_text("old")
    ctl.durable(path, "new")
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["fastapi.service"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("words", [["handover", "aaa1"], ["rollback"], ["restart"], ["prune"], ["list"]])
def test_what_needs_root_says_so(
    monkeypatch: pytest.MonkeyPatch, words: list[str], run_main: Callable[[list[str]], str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run_main(words) == f"fastapictl: fastapictl {words[0]} needs root. Try: sudo fastapictl {words[0]}"


@pytest.fixture
def run_main(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], str]:
    def run(words: list[str]) -> str:
        monkeypatch.setattr(sys, "argv", ["/usr/local/sbin/fastapictl", *words])
        with pytest.raises(SystemExit) as end:
            ctl.main()
        return str(end.value)

    return run


# --- Failures in a row --------------------------------------------------------------------------------


class Failing:
    """A service that systemd starts again and again; the times are seconds since boot."""

    def __init__(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = host
        self.waited: list[float] = []
        self.said: list[str] = []
        self.properties = {"NRestarts": "0"}
        self.was_up(0, 0)
        monkeypatch.setattr(ctl, "show", lambda _: self.properties)
        monkeypatch.setattr(ctl, "why_it_ended", lambda *_: "RuntimeError: no database")
        monkeypatch.setattr(ctl, "tell", lambda _, text, *__, **___: self.said.append(text))
        monkeypatch.setattr(time, "sleep", self.waited.append)

    def was_up(self, begin: float, end: float) -> None:
        self.properties["ActiveEnterTimestampMonotonic"] = str(int(begin * 1e6))
        self.properties["ActiveExitTimestampMonotonic"] = str(int(end * 1e6))

    def starts(self, by_systemd: bool = True) -> None:
        self.properties["NRestarts"] = str(int(self.properties["NRestarts"]) + 1) if by_systemd else "0"
        ctl.command_backoff(self.host, argparse.Namespace())


@pytest.fixture
def failing(host: Host, monkeypatch: pytest.MonkeyPatch) -> Failing:
    return Failing(host, monkeypatch)


def test_each_try_waits_longer_up_to_a_minute(failing: Failing) -> None:
    failing.starts(by_systemd=False)
    for _ in range(9):
        failing.starts()
    assert failing.waited == [0, 1, 3, 7, 15, 31, 59, 59, 59]  # systemd adds a second
    assert failing.said[0] == "fastapi.service has failed once. It is tried again now. RuntimeError: no database"
    assert failing.said[2].startswith("fastapi.service has failed 3 times in a row. It is tried again in 3 s. ")


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
    ctl.command_backoff(failing.host, argparse.Namespace())  # systemd 252 has kept its number
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
    failing.was_up(100, 100 + ctl.LASTING)
    failing.waited.clear()
    for _ in range(3):
        failing.starts()
    assert failing.waited == [0, 1, 3]
