"""What a host does by itself about release commands, and what an operator can run in a release."""

import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

from terminal import on_a_terminal

STATE = Path("/var/lib/fastapi")
RELEASES = Path("/opt/fastapi/releases")
PUSH = """
import fcntl, sys, termios
for byte in b"touch /tmp/pushed\\n":
    try:
        fcntl.ioctl(0, termios.TIOCSTI, bytes([byte]))
    except OSError as error:
        print(error)
        break
print("\\033[6n\\033[21t", end="")  # a terminal answers that in its input
print("ended")
"""


def ctl(*words: str, stdin: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
    """What the control command says, which has to end like that."""
    done = subprocess.run(["fastapictl", *words], input=stdin, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, (words, done)
    return done


def show(unit: str, name: str) -> str:
    """A property of a unit."""
    return subprocess.run(
        ["systemctl", "show", f"--property={name}", "--value", unit], capture_output=True, text=True, check=True
    ).stdout.strip()


def current() -> str:
    """The release that serves."""
    return Path("/opt/fastapi/current").readlink().name


def until(what: str, holds: object, *, seconds: float = 30) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def lasting() -> tuple[str, str]:
    """Begin something that takes a minute, and wait until it runs: its unit, and what was said."""
    said = ctl("run", "--detach", "--", "sh", "-c", "echo it lasts; exec sleep 60").stdout
    match = re.match(r"(fastapi-run-[0-9a-f]{8}\.service) ", said)
    assert match, said
    return match[1], said


def check_pipes() -> None:
    """Input, both outputs, status and directory are passed through; what is run is the application."""
    done = ctl(
        "run",
        "--",
        "sh",
        "-c",
        'id -un; pwd; cat; echo "$1" >&2; exit 3',
        "sh",
        "a 'b' $HOME %n",
        stdin="in\n",
        status=3,
    )
    assert done.stdout.splitlines() == ["fastapi", f"{RELEASES}/{current()}/app", "in"], done
    assert done.stderr == "a 'b' $HOME %n\n", done
    assert ctl("run", "--", "sh", "-c", "kill -KILL $$", status=137)
    assert "timed out" in ctl("run", "--timeout=1", "--", "sleep", "60", status=124).stderr
    large = ctl("run", "--", "head", "-c", "3000000", "/dev/zero").stdout
    assert len(large) == 3000000
    assert ctl("run", "--", "python", "-c", "import fastapi, sys; print(sys.prefix)").stdout.strip().endswith("/venv")
    answer = json.loads(ctl("run", "--json", "--", "sh", "-c", "echo one; echo two >&2; exit 4", status=4).stdout)
    assert (answer["exit_status"], answer["output"][:2], answer["failed"]) == (4, ["one", "two"], True), answer
    assert "no command is given" in ctl("run", "--", status=1).stderr


def check_sandbox() -> None:
    """It has the environment, secrets, limits and sandbox of the service, and not a bit more."""
    script = 'echo "$SECRET_CASE" && cat "$CREDENTIALS_DIRECTORY/password" && touch "$STATE_DIRECTORY/touched"'
    assert ctl("run", "--", "sh", "-c", script).stdout == f"{case()}\na secret of the application"
    for attempt in ("touch main.py", "cat /etc/shadow", "ls /root", "ls /run/fastapi/private", "sudo -n true"):
        ctl("run", "--", "sh", "-c", f"if {attempt} 2>/dev/null; then exit 9; fi")
    unit, said = lasting()
    try:
        levels = {name: exposure(name) for name in ("fastapi.service", unit)}
        assert len(set(levels.values())) == 1, levels
        assert show(unit, "ControlGroup").startswith("/fastapi.slice/"), said
        assert "it lasts" not in show(unit, "ExecStart") + (Path("/run/systemd/system") / unit).read_text()
    finally:
        subprocess.run(["systemctl", "stop", unit], check=True)


def case() -> str:
    """The case that serves."""
    found = re.search("^SECRET_CASE='(.*)'", (RELEASES / current() / "etc/environment").read_text(), re.MULTILINE)
    assert found
    return found[1]


def exposure(unit: str) -> str:
    """What systemd thinks of its sandbox."""
    said = subprocess.run(["systemd-analyze", "security", unit], capture_output=True, text=True, check=True).stdout
    return said[said.index("Overall exposure") :].split(": ")[1].split()[0]


def check_terminal() -> None:
    """On a terminal it has one of its own, with its size and signals; the operator's is as it was."""
    words = ["fastapictl", "run", "--", "sh", "-c", "tty; stty size; : <\"$(tty)\" && echo rea''dy; exec sleep 60"]
    ends = {
        signal.SIGINT: b"\x03",
        signal.SIGQUIT: b"\x1c",
        signal.SIGTERM: lambda pid: os.kill(pid, signal.SIGTERM),
        signal.SIGHUP: lambda pid: os.kill(pid, signal.SIGHUP),
    }
    for number, end in ends.items():
        session = on_a_terminal(words, [("ready", end)])
        assert (session.status, session.left, session.restored) == (128 + number, 0, True), session
        assert "40 100" in session.output, session
    resized = "trap 'stty size; exit' WINCH; echo wait''ing; while :; do sleep 0.1; done"
    steps = [
        ("$ ", b"id -un; echo is$((6*7))it\r"),
        ("is42it", b"sh -c 'echo be\"\"gun; exec sleep 60'\r"),
        ("begun", b"\x1a"),
        ("Stopped", f'kill -KILL %1; sh -c "{resized}"\r'.encode()),
        ("waiting", larger),
        ("50 120", b"exit 5\r"),
    ]
    shell = on_a_terminal(["fastapictl", "shell"], steps)
    assert (shell.status, shell.left, shell.restored) == (5, 0, True), shell
    assert "fastapi\r\nis42it\r\n" in shell.output, shell
    assert "no job control" not in shell.output, shell
    pushed = on_a_terminal(
        ["fastapictl", "run", "--", "python", "-c", PUSH], [("\x1b[21t", b"\x1b[40;1R\x1b]lx\x1b\\")]
    )
    assert (pushed.status, pushed.left, pushed.restored) == (0, 0, True), pushed


def larger(pid: int) -> None:
    """Make the terminal of a process larger, which the kernel tells it."""
    with Path(f"/proc/{pid}/fd/0").open() as terminal:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))


def check_signals() -> None:
    """A signal to the control command reaches what it runs, also where nobody handles it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        with subprocess.Popen(
            ["fastapictl", "run", "--", "sh", "-c", "echo ready; exec sleep 60"], stdout=subprocess.PIPE
        ) as run:
            assert run.stdout
            assert run.stdout.readline() == b"ready\n"
            run.send_signal(number)
            assert run.wait(30) == 128 + number


def check_records() -> None:
    """Who ran what, when, and what came of it; not with which words."""
    ctl("run", "--", "sh", "-c", "true", "--password=hunter2")
    before = json.loads(ctl("runs", "--json").stdout)["before"][-1]
    assert (before["program"], before["outcome"], before["to"]) == ("sh", "done", current()), before
    assert "root" in before["by"], before
    assert "hunter2" not in Path("/opt/fastapi/runs.jsonl").read_text()
    journal = subprocess.run(
        ["journalctl", "--since=-5min", "--output=cat"], capture_output=True, text=True, check=True
    ).stdout
    assert "hunter2" not in journal


def check_in_use() -> None:
    """What runs is said, keeps an uninstallation from its release, and is cleared up when whoever began it is gone."""
    unit, _ = lasting()
    assert unit in ctl("status").stdout
    assert unit in ctl("runs").stdout
    refused = ctl("uninstall", status=1).stderr
    assert "nothing was removed" in refused, refused
    assert unit in refused, refused
    subprocess.run(["systemctl", "stop", unit], check=True)
    until("its end is on record", lambda: "killed by signal 15" in ctl("runs").stdout.splitlines()[-1])
    assert not list(Path("/run/systemd/system").glob("fastapi-run-*"))
    with subprocess.Popen(
        ["fastapictl", "run", "--", "sh", "-c", "echo ready; exec sleep 60"], stdout=subprocess.PIPE
    ) as run:
        assert run.stdout
        assert run.stdout.readline() == b"ready\n"
        run.kill()
    assert "whoever began it was gone" in ctl("runs").stdout.splitlines()[-1]
    assert not list(Path("/run/fastapi/private").glob("run-*"))


def check_alone() -> None:
    """A release command that fails, takes too long or is killed: nothing switches, and all of it is on record."""
    before = current()
    subprocess.run(["/opt/test/derive.sh", "bad", "etc/environment"], input="BREAK=import\n", text=True, check=True)
    broken = ctl("preflight", "bad", "--import-only", status=1).stderr
    assert "the module raises on import" in broken, broken
    release = derived("bad", "exit 7")
    failed = ctl("release-command", release, "--again", status=1).stderr
    assert re.search("failed after .* exit status 7", failed), failed
    release = derived("bad", "sleep 60", within=1)
    late = ctl("release-command", release, "--again", status=1).stderr
    assert "it took longer than gunicorn_fastapi_release_timeout" in late, late
    release = derived("bad", "sleep 60")
    with subprocess.Popen(["fastapictl", "release-command", release, "--again"], stdout=subprocess.DEVNULL) as run:
        until("it runs", lambda: show("fastapi-release.service", "ActiveState") == "activating")
        os.kill(int(show("fastapi-handover.service", "MainPID")), signal.SIGKILL)
        run.wait(60)
    until("it is cleared up", lambda: show("fastapi-handover.service", "ActiveState") in ("inactive", "failed"))
    assert show("fastapi-release.service", "LoadState") == "not-found"
    lines = [json.loads(line) for line in Path("/opt/fastapi/released.jsonl").read_text().splitlines()]
    assert [(line["outcome"], line["reason"][:18]) for line in lines[-2:]] == [
        ("begun", ""),
        ("failed", "it was interrupted"),
    ]
    assert current() == before
    assert "bad (failed at " in ctl("status").stdout
    # A release whose own command has not run does not serve.
    manifest = RELEASES / "bad/manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"release_command": "0" * 40}))
    assert "its release command has not run" in ctl("handover", "bad", status=1).stderr
    rolled = ctl("rollback").stdout
    assert "a rollback does not undo them" in rolled, rolled
    assert current() != before


def check_gone() -> None:
    """What a release has no more beside its server is stopped, and its units are gone."""
    status = json.loads(ctl("status", "--json").stdout)
    assert status["processes"] == status["timers"] == []
    system = Path("/etc/systemd/system")
    assert not [*system.glob("fastapi-worker-*"), *system.glob("fastapi-bot-*"), *system.glob("*/fastapi-processes*")]
    assert not [
        *system.glob("fastapi-night*"),
        *system.glob("fastapi-noon*"),
        *system.glob("timers.target.wants/fastapi*"),
    ]


def derived(name: str, command: str, within: int = 60) -> str:
    """A release made from the one that serves, with another release command."""
    made = ["/opt/test/derive.sh", name, "=etc/release-command"]
    environment = {**os.environ, "RELEASE_TIMEOUT": str(within)}
    subprocess.run(made, input=f"{command}\n", text=True, check=True, env=environment)
    return name


for check in [
    check_gone,
    check_pipes,
    check_sandbox,
    check_terminal,
    check_signals,
    check_records,
    check_in_use,
    check_alone,
]:
    begin = time.monotonic()
    check()
    print(f"{check.__name__[6:]}: {time.monotonic() - begin:.1f} s", flush=True)
