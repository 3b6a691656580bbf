"""What becomes of processes beside the server when releases come and go: no job is lost, and no bot is doubled."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

STATE = Path("/var/lib/fastapi")
QUEUE, DONE, BOT, JOBS = STATE / "queue", STATE / "done", STATE / "bot", STATE / "jobs"


def ctl(*words: str, status: int = 0) -> str:
    """What the control command says, which has to end like that."""
    done = subprocess.run(["fastapictl", *words], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == status, (words, done)
    return done.stdout + done.stderr


def derived(name: str, file: str = "etc/environment", content: str = "") -> str:
    """A release like the one that serves, with another file."""
    subprocess.run(["/opt/test/derive.sh", name, file], input=content, text=True, check=True)
    return name


def up(process: str) -> list[tuple[str, str]]:
    """The instances of a process that are up: their releases and units."""
    found = json.loads(ctl("status", "--json"))["processes"]
    return sorted((one["release"], one["unit"]) for one in found if one["process"] == process and one["up"])


def until(what: str, holds: object) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + 60
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def fill(first: int, number: int) -> None:
    """Put jobs into the queue."""
    for job in range(first, first + number):
        (QUEUE / f"{job:05}").touch()


def done() -> list[list[str]]:
    """What was done, and by which release."""
    return [line.split() for line in DONE.read_text().splitlines()]


def lines(unit: str) -> list[int]:
    """The processes of a unit."""
    group = subprocess.run(
        ["systemctl", "show", "--property=ControlGroup", "--value", unit], capture_output=True, text=True, check=True
    ).stdout.strip()
    return [int(pid) for pid in Path(f"/sys/fs/cgroup{group}/cgroup.procs").read_text().split()]


def check_queue() -> None:
    """Jobs during an upgrade, a rollback and the death of a worker: each is done, and a long one by the old code."""
    first = Path("/opt/fastapi/current").readlink().name
    until("the queue is there", QUEUE.exists)
    (QUEUE / "long").touch()
    until("it has begun", lambda: DONE.exists() and ["begun", first] in done())
    fill(0, 1000)
    (STATE / "hold").touch()
    night = subprocess.Popen(["fastapictl", "timers", "run", "night"])
    until("the night's job has begun", lambda: JOBS.exists() and JOBS.read_text() == f"night begun {first}\n")
    ctl("handover", derived("aaa"))
    fill(1000, 1000)
    said = ctl("status")
    assert re.search(r"process   worker: 2 of 2 up since .* in aaa", said), said
    assert re.search(rf"worker: fastapi-worker-{first[:12]}@\d+-\d\.service finishes in {first[:12]}", said), said
    assert len([1 for release, _ in up("worker") if release == "aaa"]) == 2
    assert f"night: fastapi-night-{first[:12]}.service finishes in {first[:12]} since" in said, said
    subprocess.run(["systemctl", "start", "--no-block", "fastapi-night-aaa.service"], check=True)
    ctl("prune", "--keep=2")
    assert Path(f"/opt/fastapi/releases/{first}").exists()
    ctl("rollback")
    fill(2000, 1000)
    victim = next(unit for release, unit in up("worker") if release == first[:12])
    for pid in lines(victim)[1:]:
        os.kill(pid, signal.SIGKILL)
    (STATE / "go").touch()
    assert JOBS.read_text() == f"night begun {first}\n"  # the next one waits
    (STATE / "hold").unlink()
    assert night.wait(60) == 0
    assert JOBS.read_text() == f"night begun {first}\nnight ended {first}\n"
    until("all is done", lambda: not list(QUEUE.iterdir()))
    # The one that was killed is started again some seconds later.
    until("the current ones are up, alone", lambda: [release for release, _ in up("worker")] == [first[:12]] * 2)
    (STATE / "go").unlink()  # others wait for it, too
    names = [name for name, _ in done()]
    assert sorted(set(names) - {"begun"}) == sorted([*(f"{job:05}" for job in range(3000)), "long"])
    twice = len(names) - len(set(names))
    assert twice <= 1, f"{twice} were done twice, and one worker was killed"
    assert [release for name, release in done() if name == "long"] == [first]
    assert {"aaa", first} == {release for _, release in done()}


def check_alone() -> None:
    """What must not run twice has not: it was stopped before the next one began."""
    text = BOT.read_text()
    assert "twice" not in text, text
    assert text.count("alone") == 3, text
    assert len(up("bot")) == 1


def check_broken() -> None:
    """A process that does not start puts all back: the server, and what has run beside it."""
    current = Path("/opt/fastapi/current").readlink().name
    before = up("worker") + up("bot")
    said = ctl("handover", derived("bbb", "=etc/process-worker", "echo no queue; exit 3\n"), status=1)
    assert "worker is not ready" in said, said
    assert "no queue" in said, said
    assert up("worker") + up("bot") == before
    said = ctl("handover", derived("ccc", "=etc/process-bot", "echo no lock; exit 3\n"), status=1)
    assert "bot is not ready" in said, said
    assert Path("/opt/fastapi/current").readlink().name == current
    (night,) = [one for one in json.loads(ctl("status", "--json"))["timers"] if one["timer"] == "night"]
    assert (night["release"], night["state"]) == (current[:12], "up"), night
    assert up("worker") == [one for one in before if "worker" in one[1]]
    assert [release for release, _ in up("bot")] == [current[:12]]
    assert "twice" not in BOT.read_text()


def exposure(unit: str) -> str:
    """What systemd thinks of its sandbox."""
    said = subprocess.run(["systemd-analyze", "security", unit], capture_output=True, text=True, check=True).stdout
    return said[said.index("Overall exposure") :].split(": ")[1].split()[0]


def check_units() -> None:
    """They have the server's sandbox, environment and limits, and boot starts them."""
    units = [unit for _, unit in up("worker") + up("bot")]
    assert {exposure(unit) for unit in units} == {exposure("fastapi.service")}
    for unit in units:
        assert lines(unit), unit
        environment = Path(f"/proc/{lines(unit)[-1]}/environ").read_bytes().split(b"\0")
        assert b"SECRET_CASE=first" in environment
        assert any(word.startswith(b"CREDENTIALS_DIRECTORY=/run/credentials/") for word in environment)
    subprocess.run(["systemctl", "stop", *units], check=True)
    assert Path("/etc/systemd/system/multi-user.target.wants/fastapi-processes.target").exists()
    subprocess.run(["systemctl", "restart", "fastapi-processes.target"], check=True)
    until("they are up", lambda: [unit for _, unit in up("worker") + up("bot")] == units)


def measured(name: str) -> float:
    """A number of the metrics about the workers."""
    return float(re.findall(rf'^gunicorn_fastapi_{name}{{process="worker"}} (\S+)$', ctl("metrics"), re.MULTILINE)[0])


def check_metrics() -> None:
    """One that is killed is missed, started again, and counted."""
    before = measured("process_restarts_total")
    number = measured("processes_wanted")
    assert measured("processes") == number
    subprocess.run(["systemctl", "kill", "--signal=KILL", up("worker")[0][1]], check=True)
    until("it is started again", lambda: measured("process_restarts_total") == before + 1)
    until("it is up", lambda: measured("processes") == number)
    command = re.search(r'^gunicorn_fastapi_release_command_success{release="\w+"} 1$', ctl("metrics"), re.MULTILINE)
    assert command, ctl("metrics")


def check_scale() -> None:
    """Another number until the next deploy; what is down is started by the next run, and else that changes nothing."""
    assert "until the next deploy" in ctl("scale", "worker=3")
    assert len(up("worker")) == 3
    current = Path("/opt/fastapi/current").readlink().name
    assert "is active already" in ctl("handover", current)
    subprocess.run(["systemctl", "stop", up("worker")[0][1]], check=True)
    ctl("handover", current)
    assert len(up("worker")) == 3
    ctl("scale", "worker=1")
    until("two are gone", lambda: len(up("worker")) == 1)
    assert "has no such process" in ctl("scale", "clock=2", status=1)
    ctl("restart")
    until("one generation is left", lambda: len(up("worker")) == 1)


def main() -> None:
    """All of it, with its time."""
    for check in [check_queue, check_alone, check_broken, check_units, check_metrics, check_scale]:
        begin = time.monotonic()
        check()
        print(f"{check.__name__[6:]}: {time.monotonic() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main()
