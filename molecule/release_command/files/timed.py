"""What timers do between deploys, and what a reboot leaves of them. The first argument says which."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from beside import STATE, ctl, exposure, lines, until, up

JOBS, FAIL, TOLD = STATE / "jobs", STATE / "fail", STATE / "told"
STAMPS = Path("/var/lib/systemd/timers")


def jobs(timer: str) -> list[str]:
    """What the jobs of a timer have noted."""
    return [line for line in JOBS.read_text().splitlines() if line.split()[0] == timer]


def timer(name: str) -> dict[str, object]:
    """What the status says of a timer."""
    (found,) = [one for one in json.loads(ctl("status", "--json"))["timers"] if one["timer"] == name]
    return dict(found)


def miss(name: str) -> None:
    """Have systemd believe that the timer's last time was two years ago."""
    then = time.time() - 2 * 366 * 86400
    os.utime(STAMPS / f"stamp-fastapi-{name}.timer", (then, then))


def check_failure() -> None:
    """What fails is told by its status, the status, the metrics and the journal, and to the command for it."""
    before = len(jobs("night"))
    ctl("timers", "run", "night")
    assert len(jobs("night")) == before + 2
    FAIL.touch()
    ctl("timers", "run", "night", status=3)
    FAIL.unlink()
    assert TOLD.read_text() == "it cannot\n", TOLD.read_text()
    last = timer("night")["last"]
    assert isinstance(last, dict)
    assert (last["status"], last["failures"]) == (3, 1), last
    metrics = ctl("metrics")
    assert 'gunicorn_fastapi_timer_last_exit_status{timer="night"} 3\n' in metrics, metrics
    assert 'gunicorn_fastapi_timer_last_success_timestamp_seconds{timer="night"}' in metrics
    journal = ["journalctl", "--unit=fastapi", "--priority=err", "--since=-2min", "--output=cat"]
    assert "night: exit status 3 after" in subprocess.run(journal, capture_output=True, text=True, check=True).stdout


def check_catching_up() -> None:
    """A time that was missed is caught up, once; and a job has the server's sandbox."""
    (STATE / "hold").touch()
    before = len(jobs("night"))
    subprocess.run(["systemctl", "stop", "fastapi-night.timer"], check=True)
    miss("night")
    subprocess.run(["systemctl", "start", "fastapi-night.timer"], check=True)
    until("it has begun", lambda: len(jobs("night")) == before + 1)
    (running,) = timer("night")["running"]  # type: ignore[misc]
    assert exposure(running["unit"]) == exposure("fastapi.service")
    environment = Path(f"/proc/{lines(running['unit'])[-1]}/environ").read_bytes().split(b"\0")
    assert b"SECRET_CASE=first" in environment
    assert "are never two" in ctl("timers", "run", "night", status=1)
    (STATE / "hold").unlink()
    until("it has ended", lambda: len(jobs("night")) == before + 2)


def check_before_a_reboot() -> None:
    """One is suspended, and both have missed a time."""
    ctl("timers", "suspend", "night")
    JOBS.unlink()
    for name in ("night", "noon"):
        until("nothing runs", lambda name=name: not timer(name)["running"])
        miss(name)


def check_after_a_reboot() -> None:
    """The missed time is caught up, but for the one that is suspended; the processes are up."""
    until("it has run", lambda: JOBS.exists() and len(jobs("noon")) == 2)
    assert jobs("night") == []
    assert timer("night")["state"] == "suspended"
    assert "suspended since" in ctl("status")
    # So many as beside.py has asked for last (scale), until the next deploy.
    until("the processes are up", lambda: len(up("worker")) == 1 and len(up("bot")) == 1)
    ctl("timers", "resume", "night")
    until("it has run, too", lambda: len(jobs("night")) == 2)
    assert len(jobs("noon")) == 2
    assert timer("night")["state"] == "up"


CHECKS = {"before": [check_failure, check_catching_up, check_before_a_reboot], "after": [check_after_a_reboot]}
for check in CHECKS[sys.argv[1]]:
    begin = time.monotonic()
    check()
    print(f"{check.__name__[6:]}: {time.monotonic() - begin:.1f} s", flush=True)
