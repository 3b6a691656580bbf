"""Which hosts of the inventory have what runs beside the server, whatever --limit says."""

import pytest
from gunicorn_fastapi_controller import placing

GROUPS = {"all": ["one", "two", "db"], "web": ["one", "two"], "empty": []}


def hosts(wanted: str, play: list[str], name: str = "beat", groups: dict[str, list[str]] = GROUPS) -> list[str]:
    """Those that have it."""
    return [host for host in groups["all"] if placing.of_host({name: {"hosts": wanted}}, host, groups, play)]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("all", "one two db"), ("web", "one two"), ("first:web", "one"), ("db", "db"), ("first:all", "one"),
        ("first:empty", ""), ("one:empty", ""), ("empty", ""), ("first", "two"),
    ],
)  # fmt: skip
def test_it_runs_where_it_is_to(wanted: str, expected: str) -> None:
    play = ["two", "db"]
    assert hosts(wanted, play) == expected.split()
    assert not placing.unknown("variable", {"beat": {"hosts": wanted}}, GROUPS, play)


@pytest.mark.parametrize("wanted", ["one", "one:web"])
def test_one_host_has_it_and_another_one_when_that_has_left(wanted: str) -> None:
    groups = {"all": ["a", "b", "c"], "web": ["a", "b", "c"]}
    play = groups["web"]
    names = [f"timer{number}" for number in range(20)]
    had = {name: hosts(wanted, play, name, groups) for name in names}
    assert all(len(found) == 1 for found in had.values())
    assert len({found[0] for found in had.values()}) > 1, "they are not all on one"
    for gone in groups["all"]:
        left = {group: [host for host in members if host != gone] for group, members in groups.items()}
        for name in names:
            (host,) = hosts(wanted, left["web"], name, left)
            assert host != gone
            assert host == had[name][0] or had[name] == [gone], "nothing else has moved"


@pytest.mark.parametrize(
    ("wanted", "word"),
    [
        ("first", "Say of which group: first:GROUP"),
        ("queue", "neither a group nor a host"),
        ("first:one", "neither a group nor a host"),
        ("one:queue", "neither a group nor a host"),
    ],
)
def test_hosts_that_nobody_knows_are_refused(wanted: str, word: str) -> None:
    assert word in placing.unknown("variable", {"beat": {"hosts": wanted}}, GROUPS)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["web"], "one two"), (["web,db"], "one two db"), (["db", "web"], "db one two"), (["all:!db"], ""),
        (["w*"], ""), ([], ""),
    ],
)  # fmt: skip
def test_the_hosts_of_a_play_are_known_where_it_names_them(patterns: list[str], expected: str) -> None:
    assert placing.of_play(patterns, GROUPS) == expected.split()
