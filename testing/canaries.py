"""How often the judge of a canary raises a false alarm, and how soon it notices what is wrong.

Simulates canaries, whose requests fail and take their time in bursts of four on the average, as the judge sees them:

    python3 testing/canaries.py [--runs 2000]
"""

import argparse
import random
import sys
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "roles/gunicorn_fastapi/files"))
from appctl import judge, table


class Release(NamedTuple):
    """What is true of it: the share of failures, and of slow answers, their seconds, and crashes per request."""

    failed: float = 0.0
    slow: float = 0.02
    quick: float = 0.008
    """Seconds, a median."""
    late: float = 0.09
    crashed: float = 0.0


GOOD = Release()
CASES = {
    "as before": (GOOD, GOOD),
    "both fail 1%": (Release(failed=0.01), Release(failed=0.01)),
    "both fail 20%": (Release(failed=0.2), Release(failed=0.2)),
    "0.5 points more fail": (Release(failed=0.01), Release(failed=0.015)),
    "1.5 times as slow": (GOOD, Release(quick=0.012, late=0.135)),
    "all fail": (GOOD, Release(failed=1.0)),
    "one in four fails": (GOOD, Release(failed=0.25)),
    "one path in ten fails": (GOOD, Release(failed=0.1)),
    "one in thirty fails": (GOOD, Release(failed=1 / 30)),
    "five times as slow": (GOOD, Release(quick=0.04, late=0.45)),
    "five times as slow at p95": (GOOD, Release(slow=0.12)),
    "one in fifty ends its worker": (GOOD, Release(failed=0.02, crashed=0.02)),
}
"""The old release and the new one."""

FALSE = 5
"""The first cases, in which an alarm is a false one."""


def bursts(number: int, share: float, rng: random.Random) -> int:
    """How many of so many requests something happens to, in bursts, each as long as the one before by chance."""
    happened, left = 0, number
    while left:
        size = min(left, 1 + int(rng.expovariate(1 / (judge.BURST - 0.5))))
        left -= size
        if rng.random() < share:
            happened += size
    return happened


def counted(release: Release, number: int, rng: random.Random) -> judge.Seen:
    """What so many requests come to."""
    totals = [0.0] * table.TOTALS
    failed = bursts(number, release.failed, rng)
    totals[table.REQUESTS + 4], totals[table.REQUESTS + 1] = failed, number - failed
    slow = bursts(number, release.slow, rng)
    for seconds, count in ((release.quick, number - slow), (release.late, slow)):
        for _ in range(count):
            duration = seconds * rng.lognormvariate(0, 0.4)
            totals[table.DURATIONS + bisect_left(table.BOUNDS, duration)] += 1
    crashed = sum(rng.random() < release.crashed for _ in range(number)) if release.crashed else 0
    return judge.Seen(totals, totals, errors=failed, crashed=crashed)


def added(one: judge.Seen, other: judge.Seen) -> judge.Seen:
    """Both together."""
    totals = [a + b for a, b in zip(one.totals, other.totals, strict=True)]
    return judge.Seen(totals, totals, one.errors + other.errors, one.crashed + other.crashed)


def canary(old: Release, new: Release, requests: int, share: float, rng: random.Random) -> Iterator[int]:
    """How many requests the new one had at each look at which it is judged worse."""
    seen_old = seen_new = counted(GOOD, 0, rng)
    for _ in range(judge.LOOKS):
        each = max(1, requests // judge.LOOKS)
        here = sum(rng.random() < share for _ in range(each))
        seen_new, seen_old = added(seen_new, counted(new, here, rng)), added(seen_old, counted(old, each - here, rng))
        if judge.worse(seen_new, seen_old, judge.Bounds()):
            yield int(seen_new.requests)


def simulated(name: str, requests: int, share: float, runs: int, seed: int = 1) -> list[int]:
    """How many requests the new release had when it was handed back, of each run in which it was."""
    rng = random.Random(f"{name} {seed}")
    first = (next(canary(*CASES[name], requests, share, rng), 0) for _ in range(runs))
    return sorted(number for number in first if number)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--requests", type=int, nargs="*", default=[1200, 12000])
    arguments = parser.parse_args()
    print(f"{arguments.runs} canaries each with a share of {arguments.share:.0%}")
    for name in CASES:
        for requests in arguments.requests:
            found = simulated(name, requests, arguments.share, arguments.runs)
            middle = f", after {found[len(found) // 2]} requests of its own (median)" if found else ""
            print(f"{name}, {requests} requests: {len(found)} of {arguments.runs} handed back{middle}", flush=True)


if __name__ == "__main__":
    main()
