"""Whether a release is worse: what is told of which numbers, and how often that is wrong."""

import math
import random
import re

import canaries
import pytest
from appctl import judge, table
from appctl.judge import Bounds, Seen

LIMIT = judge.ALARM / (judge.LOOKS * len(judge.TESTS))


def seen(
    requests: int, failed: int = 0, refused: int = 0, errors: int = 0, crashed: float = 0, memory: int = 0
) -> Seen:
    """A release that has answered within milliseconds."""
    totals = [0.0] * table.TOTALS
    totals[table.REQUESTS + 1], totals[table.REQUESTS + 4] = requests - failed, failed
    totals[table.REFUSED] = refused
    totals[table.DURATIONS + 1] = requests
    return Seen(totals, totals, errors, crashed, memory)


def lasting(*counts: tuple[int, float]) -> list[float]:
    """So many answers in the interval that ends with a bound."""
    totals = [0.0] * table.TOTALS
    for count, bound in counts:
        totals[table.DURATIONS + table.BOUNDS.index(bound)] += count
    return totals


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (seen(300, failed=75), r"failed \(5xx\): 25\.00% of 300, and 0\.00% of 3000 of the other release"),
        (seen(60, failed=60), "failed"),
        (seen(300, errors=75), r"with an error logged: 25\.00% of 300"),
        (seen(300, errors=3000), r"with an error logged: 100\.00% of 300"),
        (seen(300, refused=150), r"refused: 33\.33% of 450, and 0\.00% of 3000"),
        (seen(500, crashed=10), "workers crashed: 10 in 500 requests, and 0 in 3000 of the other release"),
        (seen(0, refused=200), r"refused: 100\.00% of 200"),
        (seen(1, memory=300 * 2**20), "memory: 300 MiB of its largest worker, and 100 MiB of the other release's"),
    ],
)
def test_what_is_worse(new: Seen, told: str) -> None:
    (found,) = judge.worse(new, seen(3000, memory=100 * 2**20), Bounds())
    assert re.match(told, found)


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (seen(300), seen(3000)),
        (seen(300, failed=3), seen(3000)),  # single requests are not counted
        (seen(20, failed=5), seen(3000)),
        (seen(300, failed=60), seen(3000, failed=600)),
        (seen(3000, failed=60), seen(3000, failed=30)),
        (seen(300, failed=300), seen(0)),  # nothing to compare it with
        (seen(0), seen(3000)),
        (seen(0), seen(0)),
        (seen(300, errors=-1), seen(3000)),  # too many to be counted
        (seen(300, errors=300), seen(3000, errors=-1)),
        (seen(300, crashed=1), seen(3000)),
        (seen(300, memory=260 * 2**20), seen(3000, memory=100 * 2**20)),
        (seen(300, memory=2**40), seen(3000)),
    ],
)
def test_what_is_not(new: Seen, old: Seen) -> None:
    assert judge.worse(new, old, Bounds()) == []


def test_bounds_can_be_set() -> None:
    new, old = seen(3000, failed=300, crashed=30, memory=400 * 2**20), seen(3000, memory=100 * 2**20)
    assert len(judge.worse(new, old, Bounds())) == 3
    assert judge.worse(new, old, Bounds(failed=20, crashed=5, memory=5)) == []


def test_who_is_slower_is_told_at_which_percentile() -> None:
    old = lasting((8000, 0.005), (80, 0.1))
    all_slower, some_slower = lasting((2000, 0.025), (40, 0.5)), lasting((1600, 0.005), (400, 0.025))
    assert judge.slower(all_slower, old, 0.5, 2) < LIMIT
    assert judge.slower(some_slower, old, 0.5, 2) == 1
    assert judge.slower(some_slower, old, 0.95, 2) < LIMIT
    assert judge.slower(some_slower, old, 0.95, 10) == 1
    (told,) = judge.worse(Seen(some_slower, some_slower), Seen(old, old), Bounds())
    assert told == "slow: 21.2 ms at the 95th percentile, and 4.9 ms of the other release"


def test_what_is_quick_is_not_slow() -> None:
    assert judge.slower(lasting((2000, 0.005)), lasting((2000, 0.001)), 0.5, 2) == 1
    assert judge.slower(lasting((2000, 0.01)), lasting((2000, 0.001)), 0.5, 2) < LIMIT


def test_durations_beyond_the_last_bound_and_none_at_all() -> None:
    endless = [0.0] * table.TOTALS
    endless[table.SECONDS - 1] = 2000
    assert judge.slower(endless, lasting((2000, 0.005)), 0.95, 2) < LIMIT
    assert judge.slower(endless, endless, 0.95, 2) == 1
    assert judge.slower(lasting(), lasting((2000, 0.005)), 0.95, 2) == 1
    assert judge.slower(lasting((2000, 10.0)), lasting(), 0.95, 2) == 1


def test_the_least_number_of_requests() -> None:
    assert judge.is_judged(seen(100), seen(100), Bounds())
    assert not judge.is_judged(seen(99), seen(1000), Bounds())
    assert not judge.is_judged(seen(1000), seen(99), Bounds())


def test_the_bound_of_the_chance_holds() -> None:
    """What is said to happen with a chance of one in ten does so at most, by counting all that can happen."""
    for share, size in ((0.02, 40), (0.3, 25)):
        chances = [math.comb(size, k) * share**k * (1 - share) ** (size - k) for k in range(size + 1)]
        alarms = sum(
            new * old
            for bad_new, new in enumerate(chances)
            for bad_old, old in enumerate(chances)
            if judge.more(bad_new, size, bad_old, size, 0) < 0.1
        )
        assert 0 < alarms < 0.1


@pytest.mark.parametrize("name", list(canaries.CASES)[: canaries.FALSE])
def test_no_simulated_canary_of_a_release_that_is_no_worse_raises_an_alarm(name: str) -> None:
    assert canaries.simulated(name, requests=1800, share=0.2, runs=10) == []


@pytest.mark.parametrize(
    "name", ["all fail", "one in four fails", "five times as slow", "one in fifty ends its worker"]
)
def test_simulated_canaries_find_what_is_worse(name: str) -> None:
    assert len(canaries.simulated(name, requests=12000, share=0.1, runs=3)) == 3


def test_bursts_are_as_often_as_they_are_said_to_be() -> None:
    rng = random.Random(1)
    assert sum(canaries.bursts(1000, 0.2, rng) for _ in range(100)) == pytest.approx(20000, rel=0.1)
