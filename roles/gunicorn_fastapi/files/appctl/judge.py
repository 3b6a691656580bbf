"""Whether a release answers worse than another one, by what both have counted.

Every test gives a bound for the chance that a release which is no worse looks as bad as this one does. It is Chernoff's
bound, which holds for any number of requests, few or many, and for any share of failures. Requests fail in bursts, so
that BURST of them count as one. All tests of all looks together raise a false alarm with the chance ALARM at most,
because each of them may use its part of that only.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from appctl import table

ALARM = 0.001
"""The chance of a false alarm in one canary, or in one watch."""

LOOKS = 60
"""How often what was counted is looked at, at most."""

BURST = 4
"""Requests that count as one."""

QUICK = 0.005
"""Seconds, one of table.BOUNDS: an answer that takes no longer is not slow, whatever the other release does."""

ROOM = 64 * 2**20
"""Bytes that a worker may take beside its multiple of the other's."""

TESTS = ("failed", "errors", "refused", "crashed", "p50", "p95")


class Bounds(NamedTuple):
    """By how much a release may be worse. Shares are percents of all requests."""

    failed: float = 1.0
    """Percentage points more requests that are answered with 5xx, that are refused, or that log an error."""
    crashed: float = 0.01
    """Percentage points more workers that crash, of the number of requests."""
    slower: float = 2.0
    """The 50th and the 95th percentile of the durations, as a multiple."""
    memory: float = 2.0
    """The memory of the largest worker, as a multiple."""
    requests: int = 100
    """Requests that each release has to have answered to be judged at all."""


class Seen(NamedTuple):
    """What a release has done in some time. A duration of its first moments is none of `durations`."""

    totals: Sequence[float]
    durations: Sequence[float]
    errors: int = 0
    """Errors that were logged. -1 when they were too many to be counted."""
    crashed: float = 0
    memory: int = 0
    """Bytes of the largest worker. 0 when that is unknown."""

    @property
    def requests(self) -> float:
        """How many were answered."""
        return table.requests(self.totals)

    @property
    def refused(self) -> float:
        """How many the server has refused. They are none of the answered ones."""
        return self.totals[table.REFUSED]


def worse(new: Seen, old: Seen, bounds: Bounds) -> list[str]:
    """In which ways the new release is worse than the old one, in words with both numbers. None when it is not."""
    limit = ALARM / (LOOKS * len(TESTS))
    found = []
    whole_new, whole_old = new.requests + new.refused, old.requests + old.refused
    shares = (
        ("failed (5xx)", bounds.failed, table.failed(new.totals), new.requests, table.failed(old.totals), old.requests),
        ("with an error logged", bounds.failed, new.errors, new.requests, old.errors, old.requests),
        ("refused", bounds.failed, new.refused, whole_new, old.refused, whole_old),
    )
    for what, bound, bad_new, all_new, bad_old, all_old in shares:
        if min(bad_new, bad_old) < 0:
            continue
        bad_new, bad_old = min(bad_new, all_new), min(bad_old, all_old)
        if more(bad_new / BURST, all_new / BURST, bad_old / BURST, all_old / BURST, bound / 100) < limit:
            found.append(f"{what}: {percent(bad_new, all_new)}, and {percent(bad_old, all_old)} of the other release")
    crashed_new, crashed_old = min(new.crashed, new.requests), min(old.crashed, old.requests)
    if more(crashed_new, new.requests, crashed_old, old.requests, bounds.crashed / 100) < limit:
        found.append(
            f"workers crashed: {new.crashed:.0f} in {new.requests:.0f} requests, and {old.crashed:.0f} in "
            f"{old.requests:.0f} of the other release"
        )
    for share in (0.5, 0.95):
        if slower(new.durations, old.durations, share, bounds.slower) < limit:
            both = [table.percentile(seen.durations, share) or 0.0 for seen in (new, old)]
            found.append(
                f"slow: {both[0] * 1000:.1f} ms at the {share:.0%} percentile".replace("%", "th")
                + f", and {both[1] * 1000:.1f} ms of the other release"
            )
    if old.memory and new.memory > bounds.memory * old.memory + ROOM:
        found.append(
            f"memory: {new.memory / 2**20:.0f} MiB of its largest worker, and {old.memory / 2**20:.0f} MiB of the "
            "other release's"
        )
    return found


def is_judged(new: Seen, old: Seen, bounds: Bounds) -> bool:
    """Whether both have answered enough."""
    return min(new.requests, old.requests) >= bounds.requests


def percent(part: float, whole: float) -> str:
    """A share of requests as it is shown."""
    return f"{part / whole if whole else 0:.2%} of {whole:.0f}"


def more(bad_new: float, all_new: float, bad_old: float, all_old: float, bound: float) -> float:
    """The chance of this when the new share is in truth at most the old one and `bound` more.

    Each n*KL(seen, true) is above x with a chance of at most exp(-x), so that the sum of two independent ones is with
    at most (1+x)*exp(-x). What is true is unknown: it is taken as what makes the sum the least.
    """
    if not (all_new and all_old):
        return 1.0
    new, old = bad_new / all_new, bad_old / all_old
    if new - bound <= old:
        return 1.0

    def evidence(true: float) -> float:
        return all_new * divergence(new, true + bound) + all_old * divergence(old, true)

    found = evidence(least(evidence, old, new - bound))
    return min((1 + found) * math.exp(-found), 1.0)


def slower(new: Sequence[float], old: Sequence[float], share: float, factor: float) -> float:
    """The chance of this when a percentile of the new durations is in truth at most `factor` times the old one.

    The percentile of the old ones is below a bound, as far as they show that; and so many of the new ones are above
    `factor` times that bound. Each of both can be chance.
    """
    first, last = table.DURATIONS, table.SECONDS
    all_new, all_old = sum(new[first:last]), sum(old[first:last])
    if not (all_new and all_old):
        return 1.0
    found = 1.0
    for number, bound in enumerate(table.BOUNDS):
        above = next((n for n, other in enumerate(table.BOUNDS) if other >= max(factor * bound, QUICK)), None)
        if above is None:
            break
        late_old = sum(old[first + number + 1 : last]) / all_old
        late_new = sum(new[first + above + 1 : last]) / all_new
        if late_old < 1 - share < late_new:
            both = (
                all_old / BURST * divergence(late_old, 1 - share),
                all_new / BURST * divergence(late_new, 1 - share),
            )
            found = min(found, 2 * math.exp(-min(both)))
    return found


def divergence(seen: float, true: float) -> float:
    """Kullback and Leibler's, of two shares."""
    if not 0 < true < 1:
        return 0.0 if seen == true else math.inf
    part = seen * math.log(seen / true) if seen else 0.0
    return part + ((1 - seen) * math.log((1 - seen) / (1 - true)) if seen < 1 else 0.0)


def least(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a convex function has its least value."""
    for _ in range(60):
        third = (high - low) / 3
        if function(low + third) <= function(high - third):
            high -= third
        else:
            low += third
    return (low + high) / 2
