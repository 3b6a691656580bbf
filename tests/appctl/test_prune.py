"""Old releases go, and what no release refers to; nothing that is needed does."""

import argparse

from appctl import releases
from appctl.prune import command_prune as prune_command
from ctl_host import Host


def prune(host: Host, keep: int) -> list[str]:
    prune_command(host, argparse.Namespace(keep=keep))
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
    prune(host, 2)
    assert sorted(path.name for path in (host.virtualenvs).iterdir()) == ["next", "shared"]
