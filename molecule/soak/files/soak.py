"""Operations in an order that a seed draws, under clients that never retry, and what must be so after each of them.

python3 soak.py --seed SEED --steps STEPS        draws
python3 soak.py --seed SEED kill-worker good     does these

Runs as root on the host, beside checks.py, traffic.py and interrupt.py, which it uses. What fails ends it, with the
seed, the operations so far and the state; operations on the command line replay that, and shorten it.
"""

import argparse
import collections
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import traffic
from checks import CheckError, expect, finished, run, wait_for
from interrupt import interrupt, wait_at

ROOT = Path("/opt/fastapi")
DROP_IN = Path("/etc/systemd/system/fastapi.service.d/soak.conf")
RATE = 10
STEPS = ["preflight", "join", "switch", "restart", "leave"]
BROKEN = ["import", "lifespan", "health", "signal", "system-call", "port", "file", "health-hangs", "lifespan-hangs"]


class Soak:
    """The host as it should be, and what was done to it."""

    def __init__(self, drawn: random.Random) -> None:
        self.drawn = drawn
        self.current = self.named()
        self.number = 0
        self.held = 0
        """Connections that what was killed had open."""

    def named(self) -> str:
        """The release that the link names."""
        return (ROOT / "current").resolve().name

    def previous(self) -> str:
        """The release that a rollback means."""
        listed = json.loads(run("fastapictl", "list", "--json"))
        return next((str(entry["release"]) for entry in listed if entry["role"] == "previous"), "")

    def derived(self, environment: str = "", timeout: int = 60) -> str:
        """A new release."""
        self.number += 1
        name = f"{self.drawn.getrandbits(24):06x}{self.number:04x}"
        text = f"RELEASE_NAME={name}\n{environment}"
        done = subprocess.run(
            ["/opt/test/derive.sh", name, "etc/environment"], input=text, capture_output=True, text=True, check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "START_TIMEOUT": str(timeout)},
        )  # fmt: skip
        expect(done.returncode == 0, "a release to be made", done.stdout + done.stderr)
        return name

    def handover(self, target: str) -> None:
        """A handover that must succeed."""
        done = finished("fastapictl", "handover", target)
        expect(done.returncode == 0, f"a handover to {target}", done.stdout + done.stderr)
        self.current = target

    def good(self) -> None:
        """A release that works."""
        self.handover(self.derived("BOOT_SECONDS=0\n"))

    def slow(self) -> None:
        """One that starts slowly."""
        self.handover(self.derived("BOOT_SECONDS=3\n"))

    def broken(self) -> None:
        """One that does not start, or is not healthy: refused, and what serves goes on."""
        how = self.drawn.choice(BROKEN)
        target = self.derived(f"BREAK={how}\n", timeout=5 if how.endswith("hangs") else 60)
        done = finished("fastapictl", "handover", target)
        expect(done.returncode != 0, f"{how} to be refused", done.stdout)

    def rollback(self) -> None:
        """Back to the previous release."""
        target = self.previous()
        done = finished("fastapictl", "rollback")
        expect(
            (done.returncode == 0) == bool(target), f"a rollback to {target or 'nothing'}", done.stdout + done.stderr
        )
        self.current = target or self.current

    def restart(self) -> None:
        """A handover to itself."""
        run("fastapictl", "restart")

    def restart_unit(self) -> None:
        """What an operator does who knows systemd alone."""
        run("systemctl", "restart", "fastapi")

    def reload_unit(self) -> None:
        """The same, for a reload."""
        run("systemctl", "reload", "fastapi")

    def prune(self) -> None:
        """Old releases go."""
        run("fastapictl", "prune", f"--keep={self.drawn.randint(2, 4)}")

    def drop_in(self) -> None:
        """A drop-in comes or goes, and takes effect by a restart."""
        if DROP_IN.exists():
            DROP_IN.unlink()
        else:
            DROP_IN.parent.mkdir(exist_ok=True)
            DROP_IN.write_text(f"[Service]\nEnvironment=SOAK={self.number}\nNice=1\n")
        run("systemctl", "daemon-reload")
        run("fastapictl", "restart")

    def kill(self, what: str) -> None:
        """Loses what it held, and no more."""
        self.held = int(run("/opt/test/kill.sh", what))

    def kill_worker(self) -> None:
        """As the kernel does when memory is short."""
        self.kill("worker")

    def kill_master(self) -> None:
        """The same, for gunicorn itself."""
        self.kill("master")

    def begun(self, target: str) -> subprocess.Popen[str]:
        """A handover under way."""
        command = ["fastapictl", "handover", target]
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def kill_command(self) -> None:
        """The control command dies at a step, and the next one completes what it has begun."""
        target, step = self.derived("BOOT_SECONDS=1\n"), self.drawn.choice(STEPS)
        handover = self.begun(target)
        interrupt(step, signal.SIGKILL)
        expect(handover.wait(120) != 0, f"a handover that is killed at {step} to fail")
        self.handover(target)

    def kill_controller(self) -> None:
        """Who asked for a handover goes away, which goes on without it."""
        target, step = self.derived("BOOT_SECONDS=1\n"), self.drawn.choice(STEPS)
        handover = self.begun(target)
        wait_at(step)
        handover.kill()
        handover.wait(60)
        unit = "fastapi-handover.service"
        wait_for(lambda: run("systemctl", "show", "--property=ActiveState", "--value", unit).strip() == "inactive",
                 "the end of what goes on")  # fmt: skip
        self.handover(target)

    def during(self, *command: str) -> None:
        """A handover with something else at one of its steps."""
        target, step = self.derived("BOOT_SECONDS=1\n"), self.drawn.choice(STEPS)
        handover = self.begun(target)
        wait_at(step)
        run(*command)
        said = handover.communicate(timeout=120)[0]
        expect(handover.returncode == 0, f"a handover with {' '.join(command)} at {step} to succeed", said)
        self.current = target

    def without(self, what: str) -> None:
        """A handover whose disk has no room from one of its steps on: it succeeds, or what serves goes on."""
        target, step = self.derived("BOOT_SECONDS=1\n"), self.drawn.choice(STEPS)
        handover = self.begun(target)
        wait_at(step)
        disk = os.statvfs(ROOT)
        full = {"size": (disk.f_blocks - disk.f_bfree) * disk.f_frsize, "nr_inodes": disk.f_files - disk.f_ffree}
        room = {"size": disk.f_blocks * disk.f_frsize, "nr_inodes": disk.f_files}
        run("mount", f"--options=remount,{what}={full[what]}", str(ROOT))
        try:
            said = handover.communicate(timeout=120)[0]
        finally:
            run("mount", f"--options=remount,{what}={room[what]}", str(ROOT))
        succeeded = handover.returncode == 0
        expect(succeeded or "No space left" in said, f"why there is none of {what} at {step}", said)
        serves = json.loads(run("fastapictl", "status", "--json"))["release"]
        expect(serves == (target if succeeded else self.current), f"what is said at {step} to be true", serves, said)
        self.handover(target)

    def full_disk(self) -> None:
        """Logs of a neighbour."""
        self.without("size")

    def no_inodes(self) -> None:
        """Sessions of a neighbour, a file each."""
        self.without("nr_inodes")

    def daemon_reload(self) -> None:
        """A neighbour's deploy."""
        self.during("systemctl", "daemon-reload")

    def daemon_reexec(self) -> None:
        """An upgrade of systemd."""
        self.during("systemctl", "daemon-reexec")

    def journald(self) -> None:
        """An upgrade of journald."""
        self.during("systemctl", "restart", "systemd-journald")

    def two(self) -> None:
        """Two controllers at once: one waits for the other, and both do what they were told."""
        targets = [self.derived(), self.derived()]
        both = [self.begun(target) for target in targets]
        said = [handover.communicate(timeout=240)[0] for handover in both]
        expect([handover.returncode for handover in both] == [0, 0], "both to succeed", said)
        self.current = self.named()
        expect(self.current in targets, "one of the two", self.current)

    def prune_beside(self) -> None:
        """Old releases are removed while a handover is under way, and never those that it needs."""
        target = self.derived("BOOT_SECONDS=1\n")
        handover = self.begun(target)
        wait_at(self.drawn.choice(STEPS))
        removing = threading.Thread(target=finished, args=("fastapictl", "prune", "--keep=2"))
        removing.start()
        said = handover.communicate(timeout=120)[0]
        removing.join()
        expect(handover.returncode == 0, "a handover to succeed", said)
        self.current = target

    def holds(self, seen: dict[str, Any]) -> None:
        """What must be so after each operation."""
        expect(seen["refused"] == 0, "no connection to be refused", seen)
        expect(
            seen["failed"] <= self.held, f"no request to be lost but on {self.held} connections that were killed", seen
        )
        expect(seen["answered"] + seen["failed"] == seen["sent"], "an end of each request", seen)
        # What was killed may have counted a request whose answer it has not sent.
        counted = sum(seen["counted"].values())
        expect(seen["answered"] <= counted <= seen["sent"], "what is answered to be counted, once", seen)
        more = {kind: number for kind, number in seen["answers"].items() if number > seen["counted"].get(kind, 0)}
        expect(not more, "no answer but what the application counted", seen)
        expect(self.held or seen["answers"] == seen["counted"], "equal counts", seen)
        self.held = 0
        units = run("systemctl", "list-units", "--all", "--plain", "--no-legend", "fastapi*.service").splitlines()
        states = [" ".join([*unit.split()[:1], *unit.split()[2:3]]) for unit in units]
        expect(states == ["fastapi.service active"], "the service alone", states)
        left = [path for top in ("system", "transient") for path in Path("/run/systemd", top).glob("fastapi*")]
        expect(left == [] and not list(ROOT.glob("incoming/*")), "nothing left over", left)
        groups = [path.name for path in Path("/sys/fs/cgroup/fastapi.slice").glob("*.service")]
        expect(groups == ["fastapi.service"], "no process but the service's", groups)
        expect(self.named() == self.current, f"the link to name {self.current}", self.named())
        status = json.loads(run("fastapictl", "status", "--json"))
        expect(status["release"] == self.current and status["state"] == "active (running)", "status to be true", status)
        current = [row for row in json.loads(run("fastapictl", "list", "--json")) if row["role"] == "current"]
        expect([row["release"] for row in current] == [self.current], "list to be true", current)
        expect(not current[0]["incomplete"], "a complete release", current)
        done = [row["to"] for row in json.loads(run("fastapictl", "history", "--json")) if row["outcome"] == "done"]
        expect(done[-1] == self.current, f"history to end with {self.current}", done[-3:])
        said = run("fastapictl", "handover", self.current).splitlines()[:1]
        expect(said == [f"release {self.current[:12]} is active already"], "a second run to change nothing", said)


WEIGHTS: dict[str, tuple[Callable[[Soak], None], int]] = {
    "good": (Soak.good, 3), "slow": (Soak.slow, 1), "broken": (Soak.broken, 3), "rollback": (Soak.rollback, 3),
    "restart": (Soak.restart, 1), "restart-unit": (Soak.restart_unit, 1), "reload-unit": (Soak.reload_unit, 1),
    "prune": (Soak.prune, 2), "drop-in": (Soak.drop_in, 1), "kill-worker": (Soak.kill_worker, 2),
    "kill-master": (Soak.kill_master, 2), "kill-command": (Soak.kill_command, 3),
    "kill-controller": (Soak.kill_controller, 2), "daemon-reload": (Soak.daemon_reload, 1),
    "daemon-reexec": (Soak.daemon_reexec, 2), "journald": (Soak.journald, 1), "two": (Soak.two, 2),
    "prune-beside": (Soak.prune_beside, 2), "full-disk": (Soak.full_disk, 2), "no-inodes": (Soak.no_inodes, 2),
}  # fmt: skip
"""The operations, and how often one is drawn."""


def main() -> None:
    """Draw, do, check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("operations", nargs="*", choices=[[], *WEIGHTS], default=[])
    asked = parser.parse_args()
    drawn = random.Random(asked.seed)
    names = drawn.choices(list(WEIGHTS), [weight for _, weight in WEIGHTS.values()], k=asked.steps)
    names = asked.operations or names
    soak = Soak(random.Random(asked.seed))
    done: list[str] = []
    answered = lost = 0
    for name in names:
        done.append(name)
        begin = time.monotonic()
        try:
            with traffic.Traffic(RATE) as load:
                WEIGHTS[name][0](soak)
            soak.holds(load.seen)
        except (CheckError, TimeoutError, subprocess.TimeoutExpired, OSError) as failure:
            state = finished("fastapictl", "status").stdout + finished("fastapictl", "list").stdout
            sys.exit(f"--seed={asked.seed} {' '.join(done)}\n{name}: {type(failure).__name__}: {failure}\n{state}")
        answered += load.seen["answered"]
        lost += load.seen["failed"]
        print(f"{len(done)} {name}: {soak.current[:12]} serves, {load.seen['answered']} answered, "
              f"{load.seen['failed']} lost ({time.monotonic() - begin:.0f} s)", flush=True)  # fmt: skip
    counts = ", ".join(f"{count} {name}" for name, count in collections.Counter(done).most_common())
    print(f"seed {asked.seed}: {len(done)} operations ({counts}), {answered} requests answered, {lost} lost by kills")


if __name__ == "__main__":
    main()
