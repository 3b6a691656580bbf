#!/usr/bin/env python3
"""Cut the power of a machine (tools/metal) during deploys, and see what it boots into.

molecule/metal/cuts.py MACHINE [--seed SEED] [--number N] [--step STEP,STEP... ...]

Each --step is one version that is deployed, and cut at these steps, each time a moment later that the seed draws. At
the last step it is the machine that loses its power, and the controller that was cut off lives on and does what it
likes; at the others a copy does, which is made while the deploy goes on, and is removed when all is seen. The deploy
after that has to repair what was left, and the one after that must change nothing. A version whose first step is
"first" begins on a new machine. Without --step, N cuts at steps that the seed draws; then one of the copies is
repaired, too.

Clients' words that the application has answered to have been kept, and clients that come during the boot are answered.
What was found is printed as a table.
"""

import argparse
import collections
import dataclasses
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from machines import METAL, PATIENCE, CutError, Watch, metal, on

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
STATE = CHECKOUT / ".cache/metal"
FIRST = ["sent", "unpacked", "virtualenv", "secrets", "in place", "proof", "unit"]
LATER = [
    "sent",
    "unpacked",
    "secrets",
    "in place",
    "proof",
    "join",
    "unit",
    "link",
    "prune",
    "done",
]


@dataclasses.dataclass
class Cut:
    """A machine without power."""

    name: str
    step: str
    later: float
    may: list[str]
    words: list[str]


class Machine:
    """A machine, the versions on it, and what clients know."""

    def __init__(self, name: str, drawn: random.Random, *, thorough: bool) -> None:
        self.name = name
        self.drawn = drawn
        self.thorough = thorough
        self.version = 0
        self.serves = ""
        self.words: list[str] = []
        self.table: collections.Counter[tuple[str, str, str]] = collections.Counter()
        self.boots: list[dict[str, Any]] = []
        self.beside = ThreadPoolExecutor(1)

    def new(self) -> None:
        """A machine on which nothing was ever deployed."""
        release = {"debian12": "bookworm", "debian13": "trixie"}[self.name]
        metal("down", self.name)
        metal("up", "--release", release, self.name)
        files = ["-C", str(HERE / "files"), "early.py", "early.service"]
        with subprocess.Popen(["tar", "--create", *files], stdout=subprocess.PIPE) as archive:
            put = "mkdir -p /opt/test && tar -xC /opt/test && systemctl enable --quiet /opt/test/early.service && sync"
            subprocess.run(
                [METAL, "shell", self.name, put],
                stdin=archive.stdout,
                timeout=PATIENCE,
                check=True,
            )
        self.serves, self.words = "", []

    def deploy(self, name: str) -> "subprocess.Popen[str]":
        """A deploy of the version to a machine, under way."""
        source = STATE / "source"
        shutil.rmtree(source, ignore_errors=True)
        shutil.copytree(HERE / "app", source)
        shutil.copy(CHECKOUT / "app/requirements.txt", source)
        shutil.copy(HERE.parent / "shared/app/broken.py", source)
        shutil.copy(HERE.parent / "shared/app/main.py", source / "witness.py")
        (source / "version.py").write_text(f'VERSION = "{self.version}"\n')
        command = [
            "ansible-playbook", f"--inventory={CHECKOUT}/inventory/metal.yml", f"--limit={name}",
            f"--extra-vars=version={self.version}", str(HERE / "deploy.yml"),
        ]  # fmt: skip
        return subprocess.Popen(
            command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg")}, start_new_session=True,
        )  # fmt: skip

    def deployed(self, name: str) -> int:
        """How much a deploy has changed that nothing disturbs."""
        said, _ = self.deploy(name).communicate(timeout=PATIENCE)
        found = re.search(r"changed=(\d+) +unreachable=0 +failed=0", said)
        if not found:
            raise CutError(f"version {self.version} was not deployed: {said[-3000:]}")
        return int(found[1])

    def keep(self) -> None:
        """Tell the application a word. Only when it has answered, it must be there after a cut."""
        if not self.serves:
            return
        word = f"{self.drawn.getrandbits(32):08x}"
        address = json.loads((STATE / self.name / "machine.json").read_text())["address"]
        # Nothing waits for it for long: the moment of the cut is the seed's.
        try:
            with urllib.request.urlopen(f"http://{address}:18080/keep?word={word}", b"", timeout=1) as answer:
                if answer.status == 200:
                    self.words.append(word)
        except OSError:
            pass  # without an answer nothing was promised

    def at(self, step: str, name: str, may: list[str]) -> Cut:
        """What a machine is that loses its power a moment after a step."""
        later = self.drawn.uniform(0, 0.5)
        self.keep()
        cut = Cut(name, step, later, may, list(self.words))
        if step != "done":
            time.sleep(later)
        return cut

    def cut(self, steps: list[str]) -> tuple[Cut, list["Future[dict[str, Any]]"]]:
        """A deploy that is cut at the last of the steps, and its copies at those before, which boot meanwhile."""
        may = [self.serves or "nothing", str(self.version)]
        # What is there before the deploy is what the steps are compared with.
        watch = Watch(self.name, [step for step in steps if step != "done"])
        copies = []
        deploy = None
        try:
            watch.wait("ready")
            deploy = self.deploy(self.name)
            for number, step in enumerate(steps[:-1], 1):
                watch.wait(step, deploy)
                copy = self.at(step, f"{self.name}-{number}", may)
                metal("copy", self.name, copy.name)
                copies.append(self.beside.submit(self.booted, copy))
            if steps[-1] == "done":
                said = deploy.communicate(timeout=PATIENCE)[0]
                if deploy.returncode:
                    raise CutError(f"version {self.version} was not deployed: {said[-2000:]}")
                self.serves, may = str(self.version), [str(self.version)]
            else:
                watch.wait(steps[-1], deploy)
            cut = self.at(steps[-1], self.name, may)
            metal("cut", self.name)
            # What it goes on with is the host that has booted.
            metal("boot", self.name)
            deploy.communicate(timeout=PATIENCE)
            if deploy.returncode == 0:
                cut.may = [str(self.version)]
            went = "" if steps[-1] == "done" else f"; the controller {'stopped' if deploy.returncode else 'went on'}"
            cut.step += went
            return cut, copies
        finally:
            watch.end()
            if deploy and deploy.poll() is None:
                deploy.terminate()
                deploy.communicate()

    def booted(self, cut: Cut) -> dict[str, Any]:
        """Boot, and see what the host says of itself; and clients' words are there."""
        metal("boot", cut.name)
        found: dict[str, Any] = json.loads(on(cut.name, "booted.py", *cut.may))
        kept = metal("shell", cut.name, "cat /var/lib/fastapi/kept 2>/dev/null || true").split()
        if missing := [word for word in cut.words if word not in kept]:
            raise CutError(f"{cut.step}: the application had answered that these words are on the disk: {missing}; "
                           f"there are {kept}")  # fmt: skip
        serves = {"nothing yet": "nothing yet", str(self.version): "the new"}.get(found["serves"], "the one before")
        print(f"version {self.version}, {cut.step} + {cut.later:.2f} s: {serves} serves; {to_repair(found)} to repair; "
              f"{found.get('clients', 0)} clients in the boot, answered from {found.get('answered', '-')} s on",
              flush=True)  # fmt: skip
        step = cut.step.partition(";")[0]
        self.table[
            f"first deploy: {step}" if "nothing" in cut.may else step,
            serves,
            to_repair(found),
        ] += 1
        self.boots += [found] if found.get("clients") else []
        if cut.name != self.name:
            metal("cut", cut.name)
        return found

    def repaired(self, name: str) -> None:
        """The next deploy repairs everything, and the one after that changes nothing."""
        changed = self.deployed(name)
        again = self.deployed(name) if changed else 0
        if again:
            raise CutError(f"{name}: the deploy after the repair of version {self.version} changed {again} things")
        found = json.loads(on(name, "booted.py", str(self.version)))
        if to_repair(found) != "nothing":
            raise CutError(f"{name}: the deploy of version {self.version} has not repaired everything: {found}")
        print(
            f"version {self.version} on {name}: the next deploy changed {changed}, the one after nothing",
            flush=True,
        )

    def go(self, steps: list[str]) -> None:
        """One version, cut at the steps, and then deployed."""
        self.version += 1
        if steps[0] == "first":
            self.new()
            steps = steps[1:]
        cut, copies = self.cut(steps)
        self.booted(cut)
        for copy in copies:
            copy.result(PATIENCE)
        names = [f"{self.name}-{number}" for number in range(1, len(steps))]
        stays = self.drawn.choice(names) if names and self.thorough else ""
        for name in names:
            if name != stays:
                metal("down", name)
        if stays:
            metal("boot", stays)
            self.repaired(stays)
            metal("down", stays)
        self.repaired(self.name)
        self.serves = str(self.version)

    def end(self) -> None:
        """Nothing is left of the copies; and say what was found."""
        self.beside.shutdown(cancel_futures=True)
        for directory in STATE.glob(f"{self.name}-*"):
            metal("down", directory.name)
        for (step, serves, repaired), count in sorted(self.table.items()):
            print(f"| {step} | {count} | {serves} | {repaired} |")
        if self.boots:
            answered = sorted(boot["answered"] for boot in self.boots)
            print(f"{len(self.boots)} boots: {sum(boot['clients'] for boot in self.boots)} clients, "
                  f"{sum(boot['early'] for boot in self.boots)} of them before the application was up, none refused; "
                  f"first answer {answered[0]} to {answered[-1]} s after the kernel's start, "
                  f"median {statistics.median(answered):.1f}")  # fmt: skip


def to_repair(found: dict[str, Any]) -> str:
    """What there is to repair, without what is particular to one cut."""
    kinds = {
        "incomplete": "a release",
        "link": "the link",
        "history": "the history",
        "left": "what a build has left",
    }
    return ", ".join(words for name, words in kinds.items() if found.get(name)) or "nothing"


def plan(drawn: random.Random, number: int) -> list[list[str]]:
    """Versions with five cuts each, in the order of the steps; every fourth one is the first of all."""
    plans: list[list[str]] = []
    while sum(len([step for step in steps if step != "first"]) for steps in plans) < number:
        first = len(plans) % 4 == 0
        steps = FIRST if first else LATER
        chosen = sorted(drawn.sample(range(len(steps)), 5))
        plans.append([*(["first"] if first else []), *(steps[index] for index in chosen)])
    return plans


def main() -> None:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("machine", choices=["debian12", "debian13"])
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    parser.add_argument("--number", type=int, default=12)
    parser.add_argument("--step", dest="steps", action="append", type=lambda text: text.split(","))
    asked = parser.parse_args()
    drawn = random.Random(asked.seed)
    steps = asked.steps or plan(drawn, asked.number)
    print(f"seed {asked.seed}: {steps}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    machine = Machine(asked.machine, drawn, thorough=not asked.steps)
    try:
        for one in steps:
            machine.go(one)
    except (CutError, subprocess.SubprocessError) as failure:
        sys.exit(f"seed {asked.seed}, version {machine.version}: {failure}")
    finally:
        machine.end()


if __name__ == "__main__":
    main()
