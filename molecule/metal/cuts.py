#!/usr/bin/env python3
"""Cut the power of a machine (tools/metal) during deploys, and see what it boots into.

molecule/metal/cuts.py MACHINE [--seed SEED] [--number N] [--step STEP,STEP... ...]

Each --step is one version that is deployed: its deploys are cut at these steps, each time a moment later that the seed
draws; the deploy after them has to repair what they have left, and the one after that must change nothing. A version
whose first step is "first" begins on a new machine. Without --step, N cuts at steps that the seed draws.

The controller that was cut off lives on and does what it likes, and clients' words that the application has answered to
have been kept. What was found is printed as a table.
"""

import argparse
import collections
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
STATE = CHECKOUT / ".cache/metal"
METAL = str(CHECKOUT / "tools/metal")
FIRST = ["sent", "unpacked", "virtualenv", "secrets", "in place", "proof", "unit"]
LATER = ["sent", "unpacked", "secrets", "in place", "proof", "join", "unit", "link", "prune", "done"]
PATIENCE = 900
"""Seconds that a command may take, also on a machine with much else to do."""


class CutError(Exception):
    """What was expected, and what was seen instead."""


class Machine:
    """A machine, the versions on it, and what clients know."""

    def __init__(self, name: str, drawn: random.Random) -> None:
        self.name = name
        self.drawn = drawn
        self.version = 0
        self.serves = ""
        self.words: list[str] = []
        self.table: collections.Counter[tuple[str, str, str]] = collections.Counter()

    def metal(self, *arguments: str) -> str:
        """What tools/metal prints."""
        done = subprocess.run([METAL, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False)
        if done.returncode:
            raise CutError(f"tools/metal {' '.join(arguments[:3])}: {done.stdout}{done.stderr}")
        return done.stdout

    def new(self) -> None:
        """A machine on which nothing was ever deployed."""
        release = {"debian12": "bookworm", "debian13": "trixie"}[self.name]
        self.metal("down", self.name)
        self.metal("up", "--release", release, self.name)
        self.serves, self.words = "", []

    def deploy(self) -> "subprocess.Popen[str]":
        """A deploy of the version, under way."""
        source = STATE / "source"
        shutil.rmtree(source, ignore_errors=True)
        shutil.copytree(HERE / "app", source)
        shutil.copy(CHECKOUT / "app/requirements.txt", source)
        (source / "version.py").write_text(f'VERSION = "{self.version}"\n')
        command = [
            "ansible-playbook", f"--inventory={CHECKOUT}/inventory/metal.yml", f"--limit={self.name}",
            f"--extra-vars=version={self.version}", str(HERE / "deploy.yml"),
        ]  # fmt: skip
        return subprocess.Popen(
            command, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg")}, start_new_session=True,
        )  # fmt: skip

    def deployed(self) -> int:
        """How much a deploy has changed that nothing disturbs."""
        said, _ = self.deploy().communicate(timeout=PATIENCE)
        found = re.search(r"changed=(\d+) +unreachable=0 +failed=0", said)
        if not found:
            raise CutError(f"version {self.version} was not deployed: {said[-3000:]}")
        self.serves = str(self.version)
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

    def cut(self, step: str) -> None:
        """Cut the power at a step of a deploy, boot, and see that all is true."""
        later = self.drawn.uniform(0, 0.5)
        self.keep()
        deploy = self.deploy()
        if step == "done":
            said = deploy.communicate(timeout=PATIENCE)[0]
            if deploy.returncode:
                raise CutError(f"version {self.version} was not deployed: {said[-2000:]}")
            self.serves = str(self.version)
        else:
            wait = [METAL, "shell", self.name, f"python3 - '{step}'"]
            with (HERE / "files/step.py").open() as script:
                watch = subprocess.Popen(
                    wait, stdin=script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
                )
            while deploy.poll() is None and watch.poll() is None:
                time.sleep(0.02)
            watch.terminate()
            if (seen := watch.communicate()[0]) != "now\n":
                deploy.terminate()
                raise CutError(f"{step} was not seen: {seen} {deploy.communicate()[0][-2000:]}")
            self.keep()
            time.sleep(later)
        self.metal("cut", self.name)
        self.metal("boot", self.name)
        # It goes on, or not.
        deploy.communicate(timeout=PATIENCE)
        went = "went on" if deploy.returncode == 0 and step != "done" else "stopped"
        may = [self.serves, str(self.version)] if self.serves else []
        if deploy.returncode == 0:
            self.serves = str(self.version)
            may = [self.serves]
        found = self.booted(may)
        repaired = ", ".join(
            f"{name} {found[name]}" for name in ("incomplete", "link", "history", "left") if found.get(name)
        )
        serves = {"nothing yet": "nothing yet", str(self.version): "the new"}.get(found["serves"], "the one before")
        print(f"version {self.version}, {step} + {later:.2f} s: {serves} serves; {repaired or 'nothing'} to repair; "
              f"the controller {went}; {found['seconds']} s", flush=True)  # fmt: skip
        self.table[step if may or step == "done" else f"first deploy: {step}", serves, repaired_kind(found)] += 1

    def booted(self, may: list[str]) -> dict[str, Any]:
        """What the host says of itself; and clients' words are there."""
        with (HERE / "files/booted.py").open() as script:
            command = [METAL, "shell", self.name, f"python3 - {' '.join(may)}"]
            done = subprocess.run(command, stdin=script, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if done.returncode:
            raise CutError(f"after the boot: {done.stdout}{done.stderr}")
        found: dict[str, Any] = json.loads(done.stdout)
        kept = self.metal("shell", self.name, "cat /var/lib/fastapi/kept 2>/dev/null || true").split()
        if missing := [word for word in self.words if word not in kept]:
            raise CutError(
                f"the application had answered that these words are on the disk: {missing}; there are {kept}"
            )
        return found

    def go(self, steps: list[str]) -> None:
        """One version, cut at the steps, and then deployed."""
        self.version += 1
        if steps[0] == "first":
            self.new()
        for step in steps:
            if step != "first":
                self.cut(step)
        repaired = self.deployed()
        again = self.deployed()
        if again:
            raise CutError(f"the deploy after the repair of version {self.version} changed {again} things")
        found = self.booted([self.serves])
        if found["left"] or found["incomplete"] or found["link"] or found["history"]:
            raise CutError(f"the deploy of version {self.version} has not repaired everything: {found}")
        print(f"version {self.version}: the next deploy changed {repaired}, the one after nothing", flush=True)


def repaired_kind(found: dict[str, Any]) -> str:
    """What there is to repair, without what is particular to one cut."""
    kinds = {"incomplete": "a release", "link": "the link", "history": "the history", "left": "what a build has left"}
    return ", ".join(words for name, words in kinds.items() if found.get(name)) or "nothing"


def plan(drawn: random.Random, number: int) -> list[list[str]]:
    """Versions with three cuts each, in the order of the steps; every fourth one is the first of all."""
    plans: list[list[str]] = []
    while sum(len([step for step in steps if step != "first"]) for steps in plans) < number:
        first = len(plans) % 4 == 0
        steps = FIRST if first else LATER
        chosen = sorted(drawn.sample(range(len(steps)), 3))
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
    machine = Machine(asked.machine, drawn)
    try:
        for one in steps:
            machine.go(one)
    except (CutError, subprocess.TimeoutExpired) as failure:
        sys.exit(f"seed {asked.seed}, version {machine.version}: {failure}")
    finally:
        for (step, serves, repaired), count in sorted(machine.table.items()):
            print(f"| {step} | {count} | {serves} | {repaired} |")


if __name__ == "__main__":
    main()
