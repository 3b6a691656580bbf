"""What runs beside the server: what is refused of it, which hosts have it, and how its shell passes signals on."""

import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from gunicorn_fastapi_controller import processes
from jinja2 import Environment, FileSystemLoader

ROLE = Path(__file__).resolve().parent.parent / "roles/gunicorn_fastapi"


@pytest.mark.parametrize(
    ("name", "process", "word"),
    [
        ("Worker", {"command": "x"}, "small letters"),
        ("a-b", {"command": "x"}, "small letters"),
        ("candidate", {"command": "x"}, "calls something so"),
        ("worker", "celery", "not a mapping"),
        ("worker", {}, "no command"),
        ("worker", {"command": " "}, "no command"),
        ("worker", {"command": []}, "no command"),
        ("worker", {"command": ["a", 1]}, "no command"),
        ("worker", {"command": "a\0b"}, "no command"),
        ("worker", {"command": "x", "instance": 2}, "instance is unknown"),
        ("worker", {"command": "x", "instances": 0}, "instances has to be"),
        ("worker", {"command": "x", "instances": "many"}, "instances has to be"),
        ("worker", {"command": "x", "deploy": "wait"}, "overlap or replace"),
        ("worker", {"command": "x", "stop_signal": "SIGKILL"}, "SIGTERM"),
        ("worker", {"command": "x", "stop_timeout": 0}, "stop_timeout has to be"),
        ("worker", {"command": "x", "stop_timeout": "infinity"}, "stop_timeout has to be"),
        ("worker", {"command": "x", "ready": -1}, "ready has to be"),
        ("worker", {"command": "x", "ready": ""}, "ready has to be"),
        ("worker", {"command": "x", "memory_max": "lots"}, "memory_max has to be"),
        ("worker", {"command": "x", "hosts": ["one"]}, "hosts has to be"),
    ],
)
def test_what_cannot_be_meant_is_refused(name: str, process: object, word: str) -> None:
    problem = processes.processes({processes.VARIABLE: {name: process}})
    assert problem.startswith("gunicorn_fastapi_processes: ")
    assert word in problem


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("celery -A shop worker", "exec celery -A shop worker"),
        ("python -c 'a; b && c'", "exec python -c 'a; b && c'"),
        ("A=b celery >/dev/null", "exec env A=b celery >/dev/null"),
        ("exec celery", "exec celery"),
        ("cd x && exec celery", "cd x && exec celery"),
        (["a", "&&"], ["a", "&&"]),
        ("cd x && celery", ""),
        ("a; b", ""),
        ("a | b", ""),
        ("a\nb", ""),
        ("while sleep 1; do x; done", ""),
        ("a 'b", ""),
    ],
)
def test_the_program_is_who_is_told_to_stop(command: str | list[str], expected: str | list[str]) -> None:
    """Not a shell around it; where that cannot be, it is refused."""
    problem = processes.wrong_with("worker", {"command": command})
    assert bool(problem) == (not expected)
    if expected:
        assert processes.whole({"worker": {"command": command}})["worker"]["command"] == expected


@pytest.mark.parametrize("ready", [0, 10, "notify", "celery inspect ping", ["test", "-e", "/tmp/x"]])
def test_what_can_be_meant_is_not(ready: object) -> None:
    given: dict[str, Any] = {
        "worker": {"command": "x", "instances": "2", "stop_timeout": "3600", "ready": ready, "memory_max": "1G"},
        "beat": {"command": ["x"], "instances": "auto", "deploy": "replace", "stop_signal": "SIGINT"},
    }
    assert not processes.processes({processes.VARIABLE: given})
    whole = processes.whole(given)
    assert (whole["worker"]["instances"], whole["worker"]["stop_timeout"]) == (2, 3600)
    by_command = not isinstance(ready, int) and ready != "notify"
    assert (whole["worker"]["ready_command"] == ready) == by_command
    assert whole["beat"]["instances"] == "auto"


def script(tmp_path: Path, **process: object) -> Path:
    """The script of a process, in which its /tmp is the test's own."""
    jinja = Environment(
        loader=FileSystemLoader(ROLE / "templates/release/etc"), trim_blocks=True, keep_trailing_newline=True
    )
    jinja.filters["quote"] = shlex.quote
    whole = processes.whole({"worker": process})["worker"]
    path = tmp_path / "process-worker"
    text = jinja.get_template("process.j2").render(process=whole, instance="worker")
    path.write_text(text.replace("/tmp/.gunicorn", f"{tmp_path}/.gunicorn"))
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1])
@pytest.mark.parametrize("handles", [True, False])
def test_a_signal_to_the_shell_reaches_the_program_alone(
    tmp_path: Path, number: signal.Signals, *, handles: bool
) -> None:
    """Whether it handles it or not; its own children get none, and its status is that of the unit."""
    handler = f"signal.signal({number:d}, lambda *_: (print('told', flush=True), child.wait(), sys.exit(3)))"
    program = f"""
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
child = subprocess.Popen(["sh", "-c", "sleep 0.3; echo finished"])
{handler if handles else ""}
print("ready", flush=True)
signal.pause()
"""
    path = script(tmp_path, command=["python3", "-c", program])
    with subprocess.Popen(["/bin/sh", str(path)], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait(20) == (3 if handles else 128 + number)
        assert rest == (b"told\nfinished\n" if handles else b"finished\n")


def test_what_it_ends_with_is_told(tmp_path: Path) -> None:
    path = script(tmp_path, command="sh -c 'exit 7'")
    assert subprocess.run(["/bin/sh", str(path)], check=False).returncode == 7
    path = script(tmp_path, command=["sh", "-c", 'echo "$1"; kill -9 $$', "sh", "a 'b' $HOME"])
    done = subprocess.run(["/bin/sh", str(path)], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (137, "a 'b' $HOME\n")


@pytest.mark.parametrize(("command", "ready"), [("touch {}/up; exec sleep 5", True), ("false", False)])
def test_a_command_says_when_it_is_ready(tmp_path: Path, command: str, *, ready: bool) -> None:
    """It is asked until it succeeds, or the process has ended."""
    path = script(tmp_path, command=command.format(tmp_path), ready=f"test -e {tmp_path}/up")
    with subprocess.Popen(["/bin/sh", str(path)], start_new_session=True) as process:
        asked = subprocess.run(["/bin/sh", str(path), "ready"], check=False, timeout=20)
        assert (asked.returncode == 0) == ready
        process.send_signal(signal.SIGTERM)
