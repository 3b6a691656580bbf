"""The way back from a release that fails as the service, when that goes wrong, too."""

import errno
import os
import re
from typing import Any

import pytest
from appctl import bounded, disk, handover, health, instance, releases
from appctl.disk import Replacement
from appctl.process import CtlError
from ctl_host import Host

FULL = OSError(errno.ENOSPC, "No space left on device")


class Change:
    """A change of addresses that does not fit on the disk, neither there nor back."""

    def write(self) -> list[str]:
        raise FULL

    def undo(self) -> list[str]:
        raise FULL

    def finish(self) -> None: ...

    def undone(self) -> None: ...


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What systemd was asked to do."""
    found: list[str] = []

    def change(verb: str, *units: str, **_: Any) -> None:
        found.append(" ".join([verb, *units]))
        if verb == "stop":
            raise CtlError("it does not stop")

    monkeypatch.setattr(bounded, "change", change)
    monkeypatch.setattr(handover, "run", lambda *words, **_: found.append(" ".join(words[1:])))
    return found


def test_a_full_disk_leaves_the_former_release_in_service(host: Host, asked: list[str]) -> None:
    host.serves("bbb3")
    before = host.unit.read_text()
    replacement = Replacement(host.unit, f"WorkingDirectory={host.releases}/ccc4/app\n")
    said = r"(.|\n)*No space left(.|\n)*Its previous addresses could not be restored: (.|\n)*No space left"
    with pytest.raises(CtlError, match=rf"failed on it and serves bbb3 again: {said}"):
        handover.switch(host, "ccc4", replacement, Change())  # type: ignore[arg-type]
    assert host.unit.read_text() == before
    assert asked == ["daemon-reload", "restart fastapi.service fastapi-probe.socket"]


def test_a_first_release_leaves_nothing_though_it_does_not_stop(host: Host, asked: list[str]) -> None:
    replacement = Replacement(host.unit, f"WorkingDirectory={host.releases}/ccc4/app\n")
    with pytest.raises(CtlError, match="No space left"):
        handover.switch(host, "ccc4", replacement, Change())  # type: ignore[arg-type]
    assert not host.unit.exists()
    assert asked == ["stop fastapi.service fastapi.socket", "daemon-reload"]


@pytest.mark.parametrize(
    ("service", "private"),
    [
        ("shop.service", "shop-probe.socket"),
        ("shop-candidate.service", "shop-candidate.socket"),
        ("shop-preflight.service", "shop-preflight.socket"),
    ],
)
def test_a_restart_opens_the_private_socket_anew(asked: list[str], service: str, private: str) -> None:
    instance.start(service, "restart", "shop.socket")
    instance.start(service)
    assert asked == [f"restart {service} {private} shop.socket", f"start {service}"]


def test_a_start_is_not_held_up_by_a_full_run(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise FULL

    monkeypatch.setattr(releases, "note_started", full)
    monkeypatch.setenv("GUNICORN_FASTAPI_RELEASE", "aaa1")
    monkeypatch.setenv("INVOCATION_ID", "1")
    health.note(host, "main")


@pytest.mark.parametrize(("number", "step"), [(errno.EROFS, "Remount it writable"), (errno.ENOSPC, "Free disk space")])
def test_a_directory_that_cannot_be_written_is_seen_before_anything_is_started(
    host: Host, asked: list[str], monkeypatch: pytest.MonkeyPatch, number: int, step: str
) -> None:
    host.serves("bbb3")
    noted: list[Any] = []

    def refuse(directory: Any) -> None:
        assert directory == host.root
        raise OSError(number, os.strerror(number), str(directory))

    monkeypatch.setattr(handover, "try_to_write", refuse)
    monkeypatch.setattr(handover, "record", lambda *words: noted.append(words))
    with pytest.raises(OSError, match=os.strerror(number)) as raised:
        handover.execute(host, "ccc4")
    assert asked == []
    assert re.fullmatch(rf".*/opt/fastapi: {os.strerror(number)}\. .*{step}.*", disk.told(raised.value))
    assert noted[0][3] == "failed"
    assert step in noted[0][4]


def test_trying_to_write_leaves_nothing(host: Host) -> None:
    before = sorted(host.root.iterdir())
    disk.try_to_write(host.root)
    assert sorted(host.root.iterdir()) == before
