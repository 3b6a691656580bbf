"""What a build is asked for comes on standard input, and nothing in it leads root elsewhere."""

import argparse
import errno
import io
import json
import pwd
import sys
from pathlib import Path
from typing import Any

import pytest
from appctl import build, disk, handover
from appctl.process import CtlError
from ctl_host import Host

WHOLE: dict[str, Any] = {
    "release": "a" * 40,
    "virtualenv": "b" * 40,
    "archive": "/root/.ansible/tmp/1/release.tar.gz",
    "python": "/usr/bin/python3",
    "uv": {"version": "0.9.11", "list": ""},
}


def test_a_whole_request_is_taken() -> None:
    assert build.Request(WHOLE).release == "a" * 40


@pytest.mark.parametrize(
    "odd",
    [
        {"release": "../../etc"},
        {"release": "a" * 40 + "\n"},
        {"virtualenv": "../releases"},
        {"virtualenv": ""},
        {"archive": "release.tar.gz"},
        {"archive": ""},
        {"archive": None},
        {"uv": {"version": "0.9.11/../../../../../etc/systemd/system/fastapi.service.d", "list": ""}},
        {"uv": {"version": "..", "list": ""}},
        {"uv": {"version": "", "list": ""}},
        {"uv": "0.9.11"},
        {"credentials": ["x"]},
        {"index": 1},
    ],
)
def test_a_request_that_leads_elsewhere_is_refused(odd: dict[str, Any]) -> None:
    with pytest.raises(CtlError, match=r"^build: the request"):
        build.Request(WHOLE | odd)


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, "[]", "null", '"x"', "{}", "1", '{"release": {}}'])
def test_what_is_no_request_is_refused(host: Host, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    with pytest.raises(CtlError, match=r"^build: the request"):
        build.command_build(host, argparse.Namespace(lock_wait=0.0))


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (CtlError("there is no version of six==999"), "there is no version of six==999"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/opt/shop/incoming"),
            "No space left on device. Free disk space",
        ),
    ],
)
def test_a_build_that_fails_says_what_serves_then(
    host: Host, monkeypatch: pytest.MonkeyPatch, failure: Exception, why: str
) -> None:
    """Another run may have changed that while this one waited for it."""

    def fails(*_: object) -> bool:
        raise failure

    monkeypatch.setattr(build, "build", fails)
    monkeypatch.setattr(handover, "serving", lambda _: "shop keeps serving 0123456789ab")
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(WHOLE)))
    said = f"^release {'a' * 12} was not built; shop keeps serving 0123456789ab: .*{why}"
    with pytest.raises(CtlError, match=said):
        build.command_build(host, argparse.Namespace(lock_wait=0.0))


def test_a_build_after_an_uninstallation_ends_before_it_makes_anything(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.damaged["a" * 40] = "it is not on this host"
    monkeypatch.setattr(pwd, "getpwnam", lambda name: {}[name])
    with pytest.raises(
        CtlError, match=r"there is no user fastapi any more: it was uninstalled meanwhile\. Deploy again"
    ):
        build.build(host, build.Request(WHOLE))
    assert not host.incoming.exists()


def test_what_a_build_has_worked_in_does_not_come_back(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut takes back what is not on the disk, and who finds the release whole builds nothing."""
    synced: list[tuple[Path, list[Path]]] = []
    monkeypatch.setattr(disk, "sync_directory", lambda path: synced.append((path, list(path.iterdir()))))
    host.incoming.mkdir(parents=True)
    with build.workshop(host) as work:
        (work / "release").mkdir()
    assert synced[-1] == (host.incoming, [])
