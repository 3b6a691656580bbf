"""Old releases go, and what no release refers to; nothing that is needed does."""

import argparse
import os

import pytest
from appctl import releases
from appctl.prune import command_prune as prune_command
from ctl_host import Host


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appctl.prune.running", lambda _: set())


def prune(host: Host, keep: int) -> list[str]:
    prune_command(host, argparse.Namespace(keep=keep, lock_wait=1))
    return releases.names(host)


def test_prune_keeps_the_newest(host: Host) -> None:
    host.serves("ccc4")
    assert prune(host, 2) == ["ccc4", "bbb3"]


def test_prune_never_takes_the_current_or_the_previous(host: Host) -> None:
    host.was("", "aab2")
    host.was("aab2", "aaa1")
    host.serves("aaa1")
    assert prune(host, 2) == ["aab2", "aaa1"]
    assert not (host.release("ccc4")).exists()


def test_prune_takes_nothing_while_there_is_room(host: Host) -> None:
    host.serves("ccc4")
    assert len(prune(host, 4)) == 4


def test_prune_takes_the_credentials_of_releases_that_are_gone(host: Host) -> None:
    for release in ("aaa1", "bbb3", "half"):
        (host.credentials / release).mkdir(parents=True)
    (host.release("half")).mkdir()  # another run is building it
    prune(host, 2)
    assert sorted(path.name for path in (host.credentials).iterdir()) == ["bbb3", "half"]


def test_prune_takes_the_virtualenvs_that_no_release_uses(host: Host) -> None:
    host.serves("ccc4")
    (host.release("half")).mkdir()  # another run is building it
    for release, virtualenv in {"aaa1": "old", "bbb3": "shared", "ccc4": "shared", "half": "next"}.items():
        (host.virtualenvs / virtualenv).mkdir(parents=True, exist_ok=True)
        (host.release(release) / "venv").symlink_to(f"../../virtualenvs/{virtualenv}")
        os.utime(host.virtualenvs / virtualenv, (0, 0))
    (host.virtualenvs / "fresh").mkdir()  # a prepare command has just worked with it
    prune(host, 2)
    assert sorted(path.name for path in (host.virtualenvs).iterdir()) == ["fresh", "next", "shared"]


def test_prune_takes_what_is_half_built_and_a_link_that_leads_nowhere(host: Host) -> None:
    host.incoming.mkdir()
    left = host.incoming / "build-1"
    left.symlink_to("/nonexistent")
    prune(host, 2)
    assert not os.path.lexists(left)


def test_prune_takes_what_never_served_before_what_did(host: Host) -> None:
    host.was("", "aaa1")
    host.was("aaa1", "aab2")
    host.serves("aab2")  # bbb3 and ccc4 were built later, and failed their proof
    assert prune(host, 2) == ["aab2", "aaa1"]


def test_prune_takes_what_is_not_complete_though_there_is_room(host: Host) -> None:
    host.was("", "aaa1")
    host.was("aaa1", "ccc4")
    host.serves("ccc4")
    host.damaged["bbb3"] = "its manifest is empty"
    assert prune(host, 5) == ["ccc4", "aab2", "aaa1"]


def test_prune_never_takes_what_runs(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.serves("ccc4")
    monkeypatch.setattr("appctl.prune.running", lambda _: {"aaa1"})
    assert prune(host, 2) == ["ccc4", "aaa1"]
