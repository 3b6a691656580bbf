"""Hosts in containers for the measurements of deploys, and what a command costs there and here.

Ansible reaches them by ssh with pipelining, as it reaches a real server. What uses them runs on the
controller and prints JSON objects, one a line: first the machine, then a sample for each measurement.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
INVENTORY = ROOT / "inventory/bench.yml"
SITE = ROOT / "site.yml"


def container(host: str) -> str:
    """The name of a host's container, as inventory/group_vars/containers.yml makes it."""
    checkout = hashlib.sha1(str(ROOT).encode(), usedforsecurity=False).hexdigest()[:8]
    return f"gunicorn-fastapi-bench-{host}-{checkout}"


def address(host: str) -> str:
    """The loopback address of a host, as inventory/group_vars/containers.yml makes it."""
    digest = hashlib.sha1(container(host).encode(), usedforsecurity=False).digest()
    return "127." + ".".join(str(byte) for byte in digest[:3])


def on_host(host: str, *command: str) -> str:
    """What a command prints on a host. Raises CalledProcessError when it fails."""
    done = subprocess.run(
        [ROOT / "tools/podman", "exec", container(host), *command], check=True, capture_output=True, text=True
    )
    return done.stdout


def cpu(host: str) -> float:
    """Seconds of CPU that all processes of a host have taken."""
    found = re.search(r"^usage_usec (\d+)", on_host(host, "cat", "/sys/fs/cgroup/cpu.stat"), re.MULTILINE)
    if not found:
        raise RuntimeError(f"{host}: its cgroup does not count CPU time")
    return int(found.group(1)) / 1e6


def environment(connections: str) -> dict[str, str]:
    """The environment of ansible-playbook. Each measurement has ssh connections of its own."""
    return {
        **os.environ,
        "ANSIBLE_HOME": str(ROOT / ".cache/ansible"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_INVENTORY": str(INVENTORY),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": connections,
        "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
    }


def playbook(path: Path, hosts: Iterable[str], variables: dict[str, Any] | None = None) -> dict[str, float]:
    """Run a playbook: its seconds, its CPU seconds here and on the hosts, its tasks on the first host.

    Raises RuntimeError with its output when it fails.
    """
    names = list(hosts)
    with tempfile.TemporaryDirectory(prefix="b") as directory:
        output = Path(directory) / "output"
        before = sum(map(cpu, names)) if path.parent.name != "molecule" else 0.0
        begin = time.monotonic()
        with output.open("w") as file:
            process = subprocess.Popen(
                ["ansible-playbook", path, f"--limit={','.join(names)}", f"--extra-vars={json.dumps(variables or {})}"],
                stdout=file, stderr=file, env=environment(directory), cwd=ROOT,
            )  # fmt: skip
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - begin
        text = output.read_text()
        if process.returncode:
            raise RuntimeError(f"{path.name} on {', '.join(names)} failed:\n{text}")
        after = sum(map(cpu, names)) if path.parent.name != "molecule" else 0.0
    recap = re.search(rf"^{names[0]} .*\bok=(\d+) ", text, re.MULTILINE)
    return {
        "seconds": seconds,
        "controller_cpu": usage.ru_utime + usage.ru_stime,
        "host_cpu": after - before,
        "tasks": float(recap.group(1)) if recap else 0.0,
    }


def fresh(hosts: Iterable[str], *, quick: bool) -> None:
    """Replace hosts by clean ones; a quick measurement takes those that are there, with what was deployed to them."""
    names = list(hosts)
    if not quick:
        playbook(ROOT / "molecule/destroy.yml", names)
    playbook(ROOT / "molecule/create.yml", names)


def wait_until_answered(host: str, limit: float = 60) -> float:
    """Seconds until the host answers 200 on its port 80. Raises TimeoutError after `limit` seconds."""
    begin = time.monotonic()
    while time.monotonic() < begin + limit:
        try:
            with urllib.request.urlopen(f"http://{address(host)}:18080/", timeout=limit):
                return time.monotonic() - begin
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise TimeoutError(f"{host} does not answer")


def machine() -> dict[str, Any]:
    """What the figures depend on, without any name or address."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "cpu": model.group(1) if model else platform.machine(),
        "memory_gib": round(int(memory.group(1)) / 2**20) if memory else None,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def measured(measure: Callable[[int, bool], Iterator[dict[str, Any]]], rounds: int) -> None:
    """Print what a measurement yields, which is told the number of the round and whether it has to be quick."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one round of as little as shows that it works")
    parser.add_argument("--rounds", type=int, default=rounds)
    options = parser.parse_args()
    print(json.dumps(machine()), flush=True)
    for number in range(1, 2 if options.quick else options.rounds + 1):
        for sample in measure(number, options.quick):
            print(json.dumps({"round": number, **sample}), flush=True)
