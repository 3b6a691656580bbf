"""Starting programs."""

import os
import signal
from pathlib import Path

import pytest
from appctl import process
from appctl.process import CtlError, chunks, run


def script(directory: Path, name: str, text: str) -> str:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_nothing_is_inherited_but_what_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/nowhere.so")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    said = run("env", environment={"HANDOVER_BY": "me"}).split("\n")
    assert sorted(line for line in said if line) == [
        "HANDOVER_BY=me",
        "LC_ALL=C.UTF-8",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    ]


def test_what_it_prints_need_not_be_text() -> None:
    assert run("printf", r"a\377b") == "a\ufffdb"


def test_it_is_given_its_input_or_none() -> None:
    assert run("cat", stdin="größe") == "größe"
    assert run("cat") == ""


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("sh", "-c", "echo it is broken >&2; exit 3"), "it is broken$"),
        (("sh", "-c", "exit 3"), "exit status 3$"),
        (("sh", "-c", "kill -9 $$"), "killed by signal 9$"),
        (("/nowhere/systemctl", "start"), "^/nowhere/systemctl: it is not installed on this host"),
        (("/", "x"), "^/: Permission denied"),
    ],
)
def test_what_fails_says_why(command: tuple[str, ...], reason: str) -> None:
    with pytest.raises(CtlError, match=reason):
        run(*command)


def test_what_does_not_end_is_killed_and_said() -> None:
    with pytest.raises(CtlError, match=r"^sleep 600: timed out after 0.2 s"):
        run("sleep", "600", timeout=0.2)


def test_an_output_that_somebody_else_keeps_open_is_no_reason_to_wait(tmp_path: Path) -> None:
    command = script(tmp_path, "leaves", f"sleep 600 & echo $! >{tmp_path}/pid; exit 0")
    with pytest.raises(CtlError, match=r"timed out after 0\.2 s"):
        run(command, timeout=0.2)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


MANAGER = """
echo x >>{count}
[ "$(wc -l <{count})" -gt 2 ] && echo fine && exit 0
echo "{words}" >&2
exit 1
"""


@pytest.mark.parametrize(
    "words",
    [
        "Failed to connect to bus: No such file or directory",
        "Failed to connect to system scope bus via local transport: Connection refused",
        "Failed to get properties: Connection reset by peer",
        "Failed to start shop.service: Transport endpoint is not connected",
        "Failed to reload daemon: Message recipient disconnected from message bus without replying",
    ],
)
def test_a_manager_that_restarts_itself_is_asked_again_and_that_is_said_once(
    tmp_path: Path, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    count = tmp_path / "count"
    assert run(script(tmp_path, "systemctl", MANAGER.format(count=count, words=words)), "start") == "fine\n"
    assert count.read_text() == "x\n" * 3
    assert capsys.readouterr().err == "systemd cannot be reached, retrying for 30 s\n"


def test_it_is_asked_again_after_a_start_that_took_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start is waited for, and its manager may restart itself at the end of it."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda _: None)
    answers = [(1, "", "Failed to connect to bus: Connection refused"), (0, "fine\n", "")]

    def finish(*_: object) -> tuple[int, str, str]:
        now[0] += 2 * process.PATIENCE
        return answers.pop(0)

    monkeypatch.setattr(process, "finish", finish)
    assert run("systemctl", "restart", "shop.service") == "fine\n"


def test_other_failures_are_not_tried_again(tmp_path: Path) -> None:
    count = tmp_path / "count"
    command = script(tmp_path, "systemctl", MANAGER.format(count=count, words="Unit shop.service not found."))
    with pytest.raises(CtlError, match=r"Unit shop\.service not found"):
        run(command, "start")
    assert count.read_text() == "x\n"


def test_asking_again_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "PATIENCE", 0.0)
    with pytest.raises(CtlError, match="Failed to connect to bus"):
        run(script(tmp_path, "systemctl", "echo 'Failed to connect to bus: x' >&2; exit 1"))


def test_a_flood_is_read_in_pieces_and_only_so_far() -> None:
    pieces = list(chunks("cat", "/dev/zero", timeout=60, most=1_000_000))
    assert sum(map(len, pieces)) == 1_000_000
    assert max(map(len, pieces)) <= 65536


def test_what_stops_printing_is_left() -> None:
    assert b"".join(chunks("sh", "-c", "echo begun; exec sleep 600", timeout=0.5, most=100)) == b"begun\n"


def test_a_reader_that_leaves_ends_the_process() -> None:
    reading = chunks("sh", "-c", "echo $$; exec sleep 600", timeout=60, most=100)
    pid = int(next(reading))
    reading.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_program_without_an_end_to_its_words_is_killed_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MOST", 1_000_000)
    for pipe in ("1", "2"):
        with pytest.raises(CtlError, match=r"it printed more than 0 MiB, so it was killed$"):
            run("sh", "-c", f"exec head --bytes=100000000 /dev/zero >&{pipe}")


def test_what_is_given_need_not_be_read() -> None:
    assert run("echo", "read nothing", stdin="x" * 10_000_000) == "read nothing\n"
    assert len(run("cat", stdin="x" * 1_000_000)) == 1_000_000


def test_who_watches_ends_it() -> None:
    def watch() -> None:
        raise CtlError("the disk is nearly full")

    with pytest.raises(CtlError, match="the disk is nearly full"):
        process.finish(("sleep", "600"), 60, watch=watch)
