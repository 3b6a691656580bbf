"""What a deploy costs: this role against a plain playbook and against the shape of Ansistrano's deploy.

Each round takes clean hosts and measures every kind of change with one tool after the other, so that what
disturbs the machine disturbs them all. Ansistrano's shape is in every second round.

    python3 bench/deploys.py [--rounds 2] [--quick]
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hosts

BASELINES = hosts.ROOT / "bench/baselines"
ADDED = """itsdangerous==2.2.0 \\
    --hash=sha256:c6242fc49e35958c8b15141343aa660db5fc54d4f13a1db01a3f5891b98700ef \\
    --hash=sha256:e0050c0b7da1eea53ffaf149c0cfbb5c6e2e2b69c4bef22c81fa6eb73e5f6173
"""
"""One package more: the change of the requirements."""

HOSTS = {"role": "bench1", "plain": "bench2", "ansistrano": "bench3"}


def sources(directory: Path) -> dict[str, Path]:
    """The example application, once as it is, once with a changed line, once with a package more."""
    made = {name: directory / name for name in ("first", "code", "dependency")}
    for path in made.values():
        shutil.copytree(hosts.ROOT / "app", path, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("code", "dependency"):
        with (made[name] / "main.py").open("a") as file:
            file.write('\nVERSION = "two"\n')
    with (made["dependency"] / "requirements.txt").open("a") as file:
        file.write(ADDED)
    return made


def deploy(tool: str, source: Path, level: str = "info") -> dict[str, float]:
    """Deploy a source by one of the tools, and wait until it is answered."""
    if tool == "role":
        variables = {"gunicorn_fastapi_app_source": str(source), "gunicorn_fastapi_log_level": level}
        cost = hosts.playbook(hosts.SITE, [HOSTS[tool]], variables)
    else:
        cost = hosts.playbook(BASELINES / f"{tool}.yml", [HOSTS[tool]], {"source": str(source), "log_level": level})
    return {**cost, "then_answered_after": hosts.wait_until_answered(HOSTS[tool])}


def rollback(tool: str, source: Path) -> dict[str, float]:
    """Undo the change of the configuration. The plain playbook has nothing for it but to deploy what was."""
    if tool == "plain":
        return deploy(tool, source)
    path = hosts.ROOT / "playbooks/rollback.yml" if tool == "role" else BASELINES / "ansistrano_rollback.yml"
    cost = hosts.playbook(path, [HOSTS[tool]])
    return {**cost, "then_answered_after": hosts.wait_until_answered(HOSTS[tool])}


def timed_on_host(command: str) -> dict[str, float]:
    """Seconds and CPU seconds of a command on the role's host."""
    before = hosts.cpu(HOSTS["role"])
    printed = hosts.on_host(HOSTS["role"], "bash", "-c", f"TIMEFORMAT=%R; {{ time {command} >/dev/null; }} 2>&1")
    return {"seconds": float(printed.split()[-1]), "host_cpu": hosts.cpu(HOSTS["role"]) - before}


def measure(number: int, quick: bool) -> Iterator[dict[str, Any]]:
    """One round."""
    tools = list(HOSTS)[: 2 if quick or number % 2 == 0 else None]
    first = number % len(tools)
    order = tools[first:] + tools[:first]
    hosts.fresh((HOSTS[tool] for tool in tools), quick=quick)
    with tempfile.TemporaryDirectory() as directory:
        source = sources(Path(directory))
        kinds: dict[str, Callable[[str], dict[str, float]]] = {
            "first install": lambda tool: deploy(tool, source["first"]),
            "nothing to do": lambda tool: deploy(tool, source["first"]),
            "code": lambda tool: deploy(tool, source["code"]),
            "dependency": lambda tool: deploy(tool, source["dependency"]),
            "configuration": lambda tool: deploy(tool, source["dependency"], "warning"),
            "rollback": lambda tool: rollback(tool, source["dependency"]),
        }
        for kind in list(kinds)[: 2 if quick else None]:
            for tool in order:
                yield {"kind": kind, "tool": tool, **kinds[kind](tool)}
    if not quick:
        for kind, command in {
            "rollback on the host": "fastapictl rollback",
            "stop": "systemctl stop fastapi",
            "boot": "systemctl start fastapi",
        }.items():
            yield {"kind": kind, "tool": "role", **timed_on_host(command)}


if __name__ == "__main__":
    hosts.measured(measure, rounds=2)
