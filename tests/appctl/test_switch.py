"""The way back from a release that fails as the service, when that goes wrong, too."""

import errno
import os
import re
from typing import Any

import pytest
from appctl import bounded, disk, handover, health, instance, releases, static
from appctl.disk import Replacement
from appctl.process import CtlError
from ctl_host import Host

FULL = OSError(errno.ENOSPC, "No space left on device")


class Kept:
    """The addresses stay as they are."""

    def write(self) -> list[str]:
        return []

    def undo(self) -> list[str]:
        return []

    def finish(self) -> None: ...

    def undone(self) -> None: ...


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


def staged(host: Host, release: str) -> tuple[Replacement, Replacement]:
    """The unit and the link of a release, beside those that are there."""
    text = f"WorkingDirectory={host.releases}/{release}/app\n"
    unit = Replacement(host.unit, lambda new: disk.durable(new, text))
    return unit, Replacement(host.link, lambda new: new.symlink_to(f"releases/{release}"))


@pytest.mark.usefixtures("asked")
def test_what_switches_takes_no_room(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills while the service restarts would otherwise have a new release serve that the link denies."""
    host.serves("bbb3")
    replacement, link = staged(host, "ccc4")

    opened = os.open

    def full(*words: Any, **more: Any) -> Any:
        if words[1:] and isinstance(words[1], int) and not words[1] & os.O_CREAT:
            return opened(*words, **more)
        raise FULL

    for name in ("open", "link", "symlink", "mkdir"):
        monkeypatch.setattr(os, name, full)
    handover.switch(host, "ccc4", replacement, link, Kept())  # type: ignore[arg-type]
    assert releases.current(host) == "ccc4"
    assert releases.is_pointed(host)


def test_a_link_that_cannot_be_put_in_place_leaves_the_former_release_in_service(
    host: Host, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host.serves("bbb3")
    releases.point(host)
    replacement, link = staged(host, "ccc4")
    monkeypatch.setattr(link, "put_in_place", lambda: disk.durable(host.root / "no/such", ""))
    with pytest.raises(CtlError, match=r"failed on it and serves bbb3 again: .*No such file"):
        handover.switch(host, "ccc4", replacement, link, Kept())  # type: ignore[arg-type]
    assert releases.current(host) == "bbb3"
    assert releases.is_pointed(host)
    assert asked == ["daemon-reload", "restart fastapi.service fastapi-probe.socket"] * 2


@pytest.mark.usefixtures("asked")
def test_static_files_that_find_no_room_are_told_by_a_release_that_serves(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: Host) -> None:
        raise FULL

    host.serves("bbb3")
    monkeypatch.setattr(static, "point", full)
    replacement, link = staged(host, "ccc4")
    handover.switch(host, "ccc4", replacement, link, Kept())  # type: ignore[arg-type]
    assert releases.is_pointed(host)
    told = "serves, and the next handover puts its static files in order: No space left on device"
    assert told in "".join(capsys.readouterr())


def test_a_full_disk_leaves_the_former_release_in_service(host: Host, asked: list[str]) -> None:
    host.serves("bbb3")
    before = host.unit.read_text()
    replacement, link = staged(host, "ccc4")
    said = r"(.|\n)*No space left(.|\n)*Its previous addresses could not be restored: (.|\n)*No space left"
    with pytest.raises(CtlError, match=rf"failed on it and serves bbb3 again: {said}"):
        handover.switch(host, "ccc4", replacement, link, Change())  # type: ignore[arg-type]
    assert host.unit.read_text() == before
    assert asked == ["daemon-reload", "restart fastapi.service fastapi-probe.socket"]


def test_a_first_release_leaves_nothing_though_it_does_not_stop(host: Host, asked: list[str]) -> None:
    replacement, link = staged(host, "ccc4")
    with pytest.raises(CtlError, match="No space left"):
        handover.switch(host, "ccc4", replacement, link, Change())  # type: ignore[arg-type]
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
