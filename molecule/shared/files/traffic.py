"""Load of four kinds at once (kept and new connections, GET and POST) on this host's application.

Runs beside load.py, which sends and counts, and checks.py. `run` sends until it is told to stop, and for 900 seconds
at most; then it reads the application's own count and writes JSON: ``answers`` and ``counted`` by METHOD-RELEASE, sums
over all kinds, and each kind by its name. `start` has a unit of its own do that, so that nothing that happens to the
controller ends it, and waits until requests are answered. `stop` ends it and prints the JSON.

    python3 traffic.py start --rate 100
    python3 traffic.py stop
"""

import argparse
import asyncio
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any, Self

from checks import run, wait_for
from load import Generator, Load, Result

LIMIT = 900
"""Seconds after which it ends by itself."""

CONNECTIONS = 8
"""Of each kind."""

STATE = Path("/var/lib/fastapi")
"""Where the application counts."""

TOOLS = Path("/opt/test")
RESULTS = TOOLS / "traffic.json"
STOP = TOOLS / "stop"


def counts() -> list[Path]:
    """The files in which the application counts."""
    return [*STATE.glob("GET-*"), *STATE.glob("POST-*")]


def loads(rate: float) -> list[Load]:
    """One load of each kind. ``rate`` is that of each; 0 is as fast as the answers come."""
    return [
        Load(
            "http://127.0.0.1" + ("/echo" if method == "POST" else "/"),
            connections=CONNECTIONS,
            seconds=LIMIT,
            keep_alive=keep_alive,
            method=method,
            body=b"x" * 1024 if method == "POST" else b"",
            rate=rate or None,
            label="x-release",
        )
        for method, keep_alive in itertools.product(["GET", "POST"], [True, False])
    ]


def report(kinds: list[Load], results: list[Result], counted: dict[str, int]) -> dict[str, Any]:
    """What the clients saw beside what the application counted."""
    answers: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    for load, result in zip(kinds, results, strict=True):
        answers.update({f"{load.method}-{release}": count for release, count in result.labels.items()})
        failures.update(result.failures)
    return {
        "sent": sum(result.sent for result in results),
        "answered": sum(result.answered for result in results),
        "failed": sum(result.failed for result in results),
        "refused": sum(result.refused for result in results),
        "failures": failures,
        "answers": answers,
        "counted": counted,
        "longest_pause": max(result.longest_pause for result in results),
        "kinds": {
            f"{load.method}, {'kept' if load.keep_alive else 'new'}": result.summary()
            for load, result in zip(kinds, results, strict=True)
        },
    }


async def send(rate: float) -> None:
    """Send, compare, and write down what came back."""
    kinds = loads(rate)
    results = await asyncio.gather(*(Generator(load).run(STOP.exists) for load in kinds))
    text = json.dumps(report(kinds, results, {file.name: file.stat().st_size for file in counts()}), indent=2)
    building = RESULTS.with_suffix(".building")
    building.write_text(text)
    building.rename(RESULTS)  # whoever waits for it reads the whole of it


def start(rate: float) -> None:
    """Begin to send, with the counts at zero."""
    for path in (*counts(), RESULTS, STOP):
        path.unlink(missing_ok=True)
    # --nice, so that the load takes the time that is left, and what it meets goes on at its own speed.
    run(
        "systemd-run", "--quiet", "--collect", "--unit=traffic", "--nice=10", f"--working-directory={TOOLS}",
        "/usr/bin/python3", "traffic.py", "run", f"--rate={rate:g}",
    )  # fmt: skip
    wait_for(
        lambda: {path.name.partition("-")[0] for path in counts()} == {"GET", "POST"},
        "requests of both methods that are answered",
    )


def stop() -> dict[str, Any]:
    """End it; what came of it."""
    STOP.touch()
    wait_for(RESULTS.exists, "the last answers")
    # Only then can there be another one.
    wait_for(lambda: "not-found" in run("systemctl", "show", "--property=LoadState", "traffic"), "the end of the load")
    results: dict[str, Any] = json.loads(RESULTS.read_text())
    return results


class Traffic:
    """Load for as long as the block lasts; `seen` is what came of it."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self.seen: dict[str, Any] = {}

    def __enter__(self) -> Self:
        start(self._rate)
        return self

    def __exit__(self, *_: object) -> None:
        self.seen = stop()


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("command", choices=["run", "start", "stop"])
    parser.add_argument("--rate", type=float, default=0, help="requests per second of each kind; default: saturation")
    options = parser.parse_args()
    if options.command == "run":
        asyncio.run(send(options.rate))
    elif options.command == "start":
        start(options.rate)
    else:
        print(json.dumps(stop()))


if __name__ == "__main__":
    main()
