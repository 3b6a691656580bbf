"""What goes wrong beside a handover, under clients that never retry: none of them notices. Runs on the host.

On a kernel of its own alone: its clock, its disk and its PID 1 are nobody else's. Needs checks.py and traffic.py, and
looks at files alone, as step.py does.
"""

import contextlib
import itertools
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from checks import attempt, expect, finished, run
from traffic import Traffic

RATE = 5
YEAR = 365 * 86400
JOURNAL = [f"systemd-journald{unit}" for unit in (".socket", "-dev-log.socket", "-audit.socket", ".service")]
FULL = Path("/full")
names = (f"{time.time_ns() + number:016x}" for number in itertools.count())
UNIT = Path("/etc/systemd/system/fastapi.service")
STEPS: dict[str, Callable[[str], bool]] = {
    "join": lambda _: any(
        Path("/run/systemd", top, "fastapi-candidate.service").exists() for top in ("system", "transient")
    ),
    "unit": lambda target: target in UNIT.read_text(),
    "link": lambda target: Path("/opt/fastapi/current").readlink().name == target,
}


def derived() -> str:
    """A release like the one that serves, which takes a moment to start."""
    name = next(names)
    done = finished("/opt/test/derive.sh", name, "etc/environment", said=f"RELEASE_NAME={name}\nBOOT_SECONDS=1\n")
    expect(done.returncode == 0, "a release to be made", done.stdout + done.stderr)
    return name


def during(steps: dict[str, Callable[[], object]], *, may_fail: str = "") -> str:
    """A handover with something at its steps: nobody notices; it succeeds, or fails for the reason that it may have."""
    target = derived()
    before = serving()
    missed: list[str] = []
    with Traffic(RATE) as load:
        command = ["fastapictl", "handover", target]
        handover = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for step, happens in steps.items():
            while not STEPS[step](target):
                if handover.poll() is not None:
                    missed.append(step)
                    break
                time.sleep(0.05)
            happens()
        said = handover.communicate(timeout=300)[0]
    seen = load.seen
    expect(seen["failed"] == seen["refused"] == 0, "neither failure nor refusal", seen)
    expect(seen["answered"] == sum(seen["counted"].values()), "what is answered to be counted, once", seen)
    succeeded = handover.returncode == 0
    expect(succeeded or (may_fail and may_fail in said), "a handover that succeeds", said)
    expect(not (succeeded and missed), "all of its steps to be seen", missed)
    expect(serving() == (target if succeeded else before), "status to be true", serving(), said)
    return f"{seen['answered']} answered, 0 lost, the handover {'succeeded' if succeeded else 'was refused'}"


def serving() -> str:
    """The release that status names."""
    return str(json.loads(run("fastapictl", "status", "--json"))["release"])


@contextlib.contextmanager
def true_time() -> Iterator[Callable[[int], None]]:
    """The clock, which can be set so many seconds from what it should be."""
    offset = time.time() - time.monotonic()

    def jump(seconds: int) -> None:
        time.clock_settime(time.CLOCK_REALTIME, time.monotonic() + offset + seconds)

    try:
        yield jump
    finally:
        jump(0)


def clock() -> str:
    """It jumps by a year, forth and then back."""
    with true_time() as jump:
        said = during({"join": lambda: jump(YEAR), "unit": lambda: jump(-YEAR)})
    return f"clock a year ahead, then a year behind: {said}"


def journald() -> str:
    """It is away from the start of the candidate on."""
    try:
        said = during({"join": lambda: run("systemctl", "stop", *JOURNAL)})
    finally:
        run("systemctl", "start", *JOURNAL)
    return f"journald stopped: {said}"


def reexec() -> str:
    """Systemd is upgraded in each of its steps."""
    steps = list(STEPS)
    return f"daemon-reexec at {', '.join(steps)}: " + during(
        dict.fromkeys(steps, lambda: run("systemctl", "daemon-reexec"))
    )


def full_disk() -> str:
    """The whole disk is full from the start of the candidate on; with room again the next handover does it."""

    def fill() -> None:
        with FULL.open("wb") as file:
            disk = os.statvfs("/")
            left = disk.f_bfree * disk.f_frsize
            while left > 2**12:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), left)
                except OSError:
                    left //= 2

    try:
        said = during({"join": fill}, may_fail="No space left")
    finally:
        FULL.unlink(missing_ok=True)
    return f"disk full: {said}"


def main() -> None:
    """All of them."""
    for check in (clock, journald, reexec, full_disk):
        attempt(check)
    during({})


if __name__ == "__main__":
    main()
