"""Load of four kinds at once (kept and new connections, GET and POST) on this host's application.

Runs beside load.py, which sends and counts, until the file STOP is there, and for 900 seconds at most.
Then it reads the application's own count and writes JSON: ``answers`` and ``counted`` by METHOD-RELEASE,
sums over all kinds, and each kind by its name.

    python3 traffic.py --rate 100 --state /var/lib/fastapi traffic.json stop
"""

import argparse
import asyncio
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

from load import Generator, Load, Result

LIMIT = 900
"""Seconds after which it ends by itself."""


def loads(connections: int, rate: float | None) -> list[Load]:
    """One load of each kind. ``rate`` is that of each; ``None`` is as fast as the answers come."""
    return [
        Load(
            "http://127.0.0.1" + ("/echo" if method == "POST" else "/"),
            connections=connections,
            seconds=LIMIT,
            keep_alive=keep_alive,
            method=method,
            body=b"x" * 1024 if method == "POST" else b"",
            rate=rate,
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


async def main() -> None:
    """Send, compare, and write down what came back."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("stop", type=Path, help="the file that ends it")
    parser.add_argument("--connections", type=int, default=8, help="of each kind")
    parser.add_argument("--rate", type=float, help="requests per second of each kind; default: saturation")
    parser.add_argument("--state", type=Path, required=True, help="where the application counts")
    options = parser.parse_args()

    kinds = loads(options.connections, options.rate)
    results = await asyncio.gather(*(Generator(load).run(options.stop.exists) for load in kinds))
    files = [*options.state.glob("GET-*"), *options.state.glob("POST-*")]
    text = json.dumps(report(kinds, results, {file.name: file.stat().st_size for file in files}), indent=2)
    building = options.results.with_suffix(".building")
    building.write_text(text)
    building.rename(options.results)  # whoever waits for it reads the whole of it


if __name__ == "__main__":
    asyncio.run(main())
