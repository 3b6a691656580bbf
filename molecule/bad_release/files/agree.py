"""Whether clients, the application, the metrics and the access lines have counted the same requests.

Runs as root on the host. By itself it prints the table of docs/operating.md, over changes under load:

    python3 agree.py
"""

import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import traffic
from checks import expect, run, wait_for

SECONDS = 5
"""Load before and after each change."""

RATE = 50
"""Requests a second of each of the four kinds of the load."""


def measured() -> Counter[tuple[str, str]]:
    """The requests in the metrics by release, as only those of the last ten are kept, and by status."""
    pattern = r'^gunicorn_fastapi_http_requests_total\{release="(\w+)",.*status="(\dxx)"\} (\d+)$'
    found: Counter[tuple[str, str]] = Counter()
    for release, status, number in re.findall(pattern, run("fastapictl", "metrics"), re.MULTILINE):
        found[release, status] += int(number)
    return found


def logged(since: float) -> Counter[str]:
    """The access lines of the load, by status."""
    run("journalctl", "--sync")
    units = "--unit=fastapi", "--unit=fastapi-candidate"
    lines = run("journalctl", "--quiet", "--all", *units, "--output=json", f"--since=@{since:.6f}").splitlines()
    messages = [str(json.loads(line)["MESSAGE"]) for line in lines]
    return Counter(f"{m[1]}xx" for said in messages if (m := re.search(r'"(?:GET /|POST /echo) HTTP/1.1" (\d)', said)))


class Counted:
    """What all have counted since this was made, which was before the load."""

    def __init__(self) -> None:
        self.since = time.time()
        self.before = measured()

    def by_all(self, seen: dict[str, Any]) -> dict[str, dict[str, int]]:
        """By who has counted: what was answered well, and what failed. The application counts what it answers."""
        lines, metrics = logged(self.since), Counter[str]()
        for (_, status), number in (measured() - self.before).items():
            metrics[status] += number
        return {
            "clients": {"2xx": seen["answered"], "5xx": seen["failures"].get("status 500", 0)},
            "application": {"2xx": sum(seen["counted"].values())},
            "metrics": {status: metrics[status] for status in ("2xx", "5xx")},
            "access lines": {status: lines[status] for status in ("2xx", "5xx")},
        }


def agree(counted: Counted, seen: dict[str, Any]) -> str:
    """All have counted the same."""
    found = counted.by_all(seen)
    expect(len({numbers["2xx"] for numbers in found.values()}) == 1, "one number of answers", found, seen)
    failed = {numbers["5xx"] for numbers in found.values() if "5xx" in numbers}
    expect(len(failed) == 1, "one number of failures", found, seen)
    return f"clients, application, metrics and access lines: {found['clients']}"


def derived(name: str, content: str = "") -> str:
    """A release like the one in service, whose gunicorn has another setting."""
    command = ["/opt/test/derive.sh", name, "etc/gunicorn.conf.py"]
    subprocess.run(command, input=content, text=True, check=True, timeout=60)
    return name


def workers() -> list[int]:
    """The processes of gunicorn in service, itself first."""
    main = int(run("systemctl", "show", "--property=MainPID", "--value", "fastapi"))
    children = Path(f"/proc/{main}/task/{main}/children")
    return [main, *map(int, children.read_text().split())] if children.exists() else []


def killed(number: int) -> None:
    """End one of them as the kernel would, and wait for another one."""
    victim = workers()[number]
    run("kill", "-KILL", str(victim))
    wait_for(lambda: len(workers()) == 3 and victim not in workers(), "another one")


CHANGES: dict[str, Callable[[], object]] = {
    "nothing": lambda: time.sleep(SECONDS),
    "an upgrade": lambda: run("fastapictl", "handover", derived("a1")),
    "a rollback": lambda: run("fastapictl", "rollback"),
    "a restart": lambda: run("systemctl", "restart", "fastapi"),
    "`kill -9` of a worker": lambda: killed(1),
    "`kill -9` of gunicorn": lambda: killed(0),
    "an upgrade to workers that end after 200 requests each": lambda: run(
        "fastapictl", "handover", derived("a2", "max_requests = 200\nmax_requests_jitter = 50\n")
    ),
}


def main() -> None:
    """A row for each change."""
    print("| | sent | answered to clients | lost | application | metrics | access lines |\n" + "| --- " * 7 + "|")
    for what, change in CHANGES.items():
        counted = Counted()
        with traffic.Traffic(RATE) as load:
            time.sleep(SECONDS)
            change()
            time.sleep(SECONDS)
        seen, found = load.seen, counted.by_all(load.seen)
        numbers = [seen["sent"], seen["answered"], seen["failed"], *(found[who]["2xx"] for who in list(found)[1:])]
        print(f"| {what} | {' | '.join(f'{number:,}' for number in numbers)} |", flush=True)


if __name__ == "__main__":
    main()
