"""What goes between an operator and a program in a unit: all of it, and no more than was asked for."""

import getpass
import os
import re
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from appctl import oneoff, relay, systemd
from appctl.app import App
from appctl.relay import Relay, Way


@contextmanager
def in_a_unit(monkeypatch: pytest.MonkeyPatch, process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Have a process be the main one of a unit."""

    @contextmanager
    def main_process(_: str) -> Iterator[systemd.Process]:
        descriptor = os.pidfd_open(process.pid)
        try:
            yield systemd.Process(process.pid, descriptor)
        finally:
            os.close(descriptor)

    monkeypatch.setattr(systemd, "main_process", main_process)
    monkeypatch.setattr(systemd, "show", lambda *_: {"ControlGroup": ""})
    monkeypatch.setattr(systemd, "processes", lambda _: {process.pid, *children(process.pid)})
    yield
    process.wait(10)


def children(pid: int) -> set[int]:
    """The processes that a process has started."""
    return {int(number) for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, given: bytes, kept: int = 0
) -> tuple[bytes, Relay]:
    """Pass on what a shell's command prints, which has the given input."""
    into, first = relay.fifo(tmp_path / "in", writes=True)
    out, second = relay.fifo(tmp_path / "out", writes=False)
    with (tmp_path / "in").open("rb") as stdin, (tmp_path / "out").open("wb") as stdout:
        process = subprocess.Popen(["/bin/sh", "-c", command], stdin=stdin, stdout=stdout)
    for keeper in (first, second):
        os.close(keeper)
    (tmp_path / "given").write_bytes(given)
    source = os.open(tmp_path / "given", os.O_RDONLY)
    sink = os.open(tmp_path / "printed", os.O_WRONLY | os.O_CREAT)
    between = Relay([Way(source, into)], [Way(out, kept=kept) if kept else Way(out, sink)])
    with relay.announced() as wake, in_a_unit(monkeypatch, process):
        between.until_ended("x", wake)
        between.to_the_end()
    return (tmp_path / "printed").read_bytes(), between


def test_all_of_it_comes_through(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = bytes(range(256)) * 4096
    assert run(monkeypatch, tmp_path, "cat; echo over", given)[0] == given + b"over\n"


def test_input_that_nobody_reads_holds_up_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run(monkeypatch, tmp_path, "echo done", b"x" * 1_000_000)[0] == b"done\n"


def test_of_an_answer_the_last_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, between = run(monkeypatch, tmp_path, "seq 100000", b"", kept=1000)
    (way,) = between.out
    assert (way.held[-6:], len(way.held), way.cut) == (b"00000\n"[-6:], 1000, True)


SHELL = "trap : HUP INT USR1; {wait}sh -c '{command}; :'; exit $?"
"""What stands around a program in its unit."""

# As the copy of the shell is for a moment: it has the shell's handlers, and would be told in vain.
COPY = "trap : HUP INT USR1; (trap : USR1; echo there; {wait}exec sh -c '{command}; :'); exit $?"


@pytest.mark.parametrize(
    ("shell", "wait"),
    [(SHELL, ""), (SHELL, "read -r _; "), (COPY, "read -r _; ")],
    ids=["it runs", "it has not begun", "it is a copy of the shell"],
)
def test_a_signal_is_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shell: str, wait: str) -> None:
    """And not heeded by whoever passes it on. That of a moment in which the program has not begun is not lost."""
    into, keeper = relay.fifo(tmp_path / "in", writes=True)
    out, second = relay.fifo(tmp_path / "out", writes=False)
    command = shell.format(wait=wait, command="echo ready; sleep 60")
    with (tmp_path / "in").open("rb") as stdin, (tmp_path / "out").open("wb") as stdout:
        process = subprocess.Popen(["/bin/sh", "-c", command], stdin=stdin, stdout=stdout)
    looks = []

    def processes(_: str) -> set[int]:
        looks.append(1)
        if wait and len(looks) == 2:
            os.write(into, b"\n")  # it may begin
        return {process.pid, *children(process.pid)}

    with relay.announced() as wake, in_a_unit(monkeypatch, process):
        monkeypatch.setattr(systemd, "processes", processes)
        if shell == COPY or not wait:
            assert select.select([out], [], [], 10)[0]
        os.kill(os.getpid(), signal.SIGUSR1)
        Relay([], [Way(out, kept=100)]).until_ended("x", wake)
    assert process.returncode == 128 + signal.SIGUSR1
    for descriptor in (keeper, second):
        os.close(descriptor)


@pytest.mark.parametrize(("typed", "number"), [(b"\x03", signal.SIGINT), (b"\x1c", signal.SIGQUIT)])
def test_a_program_has_its_terminal_as_soon_as_it_runs(tmp_path: Path, typed: bytes, number: int) -> None:
    """Whatever becomes of those around it: the keys are its own, and no process of before is the terminal's."""
    ours, theirs = os.openpty()
    script = tmp_path / "script"
    words = ["sh", "-c", "echo ready; exec sleep 60"]
    script.write_text(oneoff.script(words, terminal=True))
    command = ["/bin/sh", "-c", SHELL.format(wait="", command=f"ulimit -c 0; /bin/sh {script}; exit $?")]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    try:
        told = b""
        while b"ready" not in told and select.select([ours], [], [], 10)[0]:
            told += os.read(ours, 100)
        assert os.tcgetpgrp(ours) in children(children(process.pid).pop()), told
        os.write(ours, typed)
        assert process.wait(10) == 128 + number
    finally:
        process.kill()
        os.close(ours)
        os.close(theirs)


def test_a_terminal_of_a_run_is_not_that_of_its_service() -> None:
    """The session leader of a service with PrivatePIDs= ends at any time, and would take it along."""
    ends = oneoff.on_a_terminal(App(getpass.getuser()))
    assert "=tty" not in ends.lines
    assert len(set(re.findall(r"^Standard(?:Input|Output|Error)=file:(/dev/pts/\d+)$", ends.lines, re.MULTILINE))) == 1


def test_a_program_is_told_that_nobody_reads_on() -> None:
    reading, writing = os.pipe()
    gone, sink = os.pipe()
    os.close(gone)
    between = Relay([], [Way(reading, sink)])
    os.write(writing, b"x")
    between.to_the_end()
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"y")
