"""The file of a backup, and what a restore does with what is there. The sandbox is a bare process here."""

import argparse
import json
import os
import pwd
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from appctl import backup, behind, bounded, disk, instance, lock, packing, restoring, sandbox, talk
from appctl.process import CtlError
from ctl_host import Host


class Systemd:
    """Which units are up, and what was asked of them."""

    def __init__(self) -> None:
        self.up: list[str] = []
        self.asked: list[str] = []

    def run(self, *command: str, **_: object) -> str:
        if command[1] == "list-units":
            return "".join(f"{unit} loaded active running x\n" for unit in self.up)
        return self.change(command[1], *(word for word in command[2:] if word != "--"))

    def change(self, verb: str, *units: str, **_: object) -> str:
        self.asked += [f"{verb} {unit}" for unit in units]
        self.up = [unit for unit in self.up if unit not in units] + (list(units) if verb == "start" else [])
        return ""

    def start(self, unit: str) -> str:
        self.change("start", unit)
        return "0.1 s"


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Systemd:
    made = Systemd()
    monkeypatch.setattr(restoring, "run", made.run)
    monkeypatch.setattr(bounded, "change", made.change)
    monkeypatch.setattr(instance, "start", made.start)
    return made


@pytest.fixture
def app(host: Host, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> Host:
    """An application that has written a file, and serves release bbb3."""
    bare: Callable[..., tuple[str, ...]] = lambda _unit, command, _properties, _most: tuple(command)  # noqa: E731
    monkeypatch.setattr(sandbox, "words", bare)
    monkeypatch.setattr(sandbox, "stop", lambda _: None)
    monkeypatch.setattr(talk, "said", [])
    me = pwd.getpwuid(os.getuid())
    monkeypatch.setattr(pwd, "getpwnam", lambda _: me)
    monkeypatch.setattr(behind, "state", lambda _: None)
    host.serves("bbb3")
    host.state.mkdir(parents=True)
    (host.state / "file").write_text("of before")
    (host.root / "released.jsonl").write_text("{}\n")
    assert systemd.up == []
    return host


def write(app: Host, name: str = "b.tar") -> Path:
    target = app.base / name
    backup.command_backup(app, argparse.Namespace(file=str(target), lock_wait=1.0))
    return target


def restore(app: Host, path: Path, *, stop: bool = False) -> dict[str, Any]:
    return restoring.command_restore(app, argparse.Namespace(file=str(path), lock_wait=1.0, stop=stop))


def test_any_tar_reads_it_and_root_alone(app: Host) -> None:
    target = write(app)
    assert target.stat().st_mode & 0o777 == 0o600
    with tarfile.open(target) as archive:
        assert archive.getnames() == ["meta.json", "record/released.jsonl", "record/manifest.json", "state.tar.gz"]
        meta = json.load(archive.extractfile("meta.json") or pytest.fail("none"))
        assert (meta["name"], meta["release"], meta["bytes"]) == ("fastapi", "bbb3", 9)
        with tarfile.open(fileobj=archive.extractfile("state.tar.gz")) as state:
            assert state.getnames() == ["file"]


def test_a_restore_brings_back_what_was(app: Host) -> None:
    target = write(app)
    (app.state / "file").write_text("of later")
    (app.state / "more").touch()
    app.released.write_text('{"later": 1}\n')
    answer = restore(app, target)
    assert {path.name: path.read_text() for path in app.state.iterdir()} == {"file": "of before"}
    aside = Path(answer["aside"])
    assert sorted(path.name for path in aside.iterdir()) == ["file", "more"]
    assert app.released.read_text() == "{}\n"
    assert (app.root / "released.jsonl.before").read_text() == '{"later": 1}\n'
    assert [path.name for path in app.state.parent.iterdir() if path.name.startswith(".")] == []


def test_a_restore_on_a_host_without_any_state(app: Host) -> None:
    target = write(app)
    (app.state / "file").unlink()
    app.state.rmdir()
    restore(app, target)
    assert (app.state / "file").read_text() == "of before"


def test_what_runs_is_not_restored_under(app: Host, systemd: Systemd) -> None:
    target = write(app)
    (app.state / "file").write_text("of later")
    systemd.up = [
        "fastapi.socket",
        "fastapi.service",
        "fastapi.slice",
        "fastapi-metrics.service",
        "fastapishop.service",
    ]
    with pytest.raises(CtlError, match=r"^fastapi runs \(fastapi.service, fastapi.socket\) and would .* Say --stop"):
        restore(app, target)
    assert (app.state / "file").read_text() == "of later"
    assert systemd.asked == []


def test_it_is_stopped_and_started_when_that_is_said(app: Host, systemd: Systemd) -> None:
    target = write(app)
    systemd.up = ["fastapi.service", "fastapi.socket", "fastapi-processes.target", "fastapi-worker-b@1-1.service",
                  "fastapi-night.timer", "fastapi-night-bbb3.service"]  # fmt: skip
    restore(app, target, stop=True)
    assert systemd.asked == [
        "stop fastapi-night.timer", "stop fastapi-processes.target", "stop fastapi.socket",
        "stop fastapi-night-bbb3.service", "stop fastapi-worker-b@1-1.service", "stop fastapi.service",
        "start fastapi.socket", "start fastapi.service", "start fastapi-processes.target", "start fastapi-night.timer",
    ]  # fmt: skip
    assert any(line.startswith("stopped for a restore: ") for line in talk.said)


def test_a_state_with_which_it_does_not_start_is_taken_back(
    app: Host, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = write(app)
    (app.state / "file").write_text("of later")
    systemd.up = ["fastapi.service"]
    before = app.released.read_text()
    tried: list[str] = []

    def start(unit: str) -> str:
        tried.append((app.state / "file").read_text())
        systemd.change("start", unit)
        if len(tried) == 1:
            raise CtlError("it is broken")
        return "0.1 s"

    monkeypatch.setattr(instance, "start", start)
    with pytest.raises(CtlError, match=r"did not start, so what was before is back: it is broken$"):
        restore(app, target, stop=True)
    assert tried == ["of before", "of later"]
    assert (app.state / "file").read_text() == "of later"
    assert app.released.read_text() == before
    assert sorted(path.name for path in app.state.parent.iterdir()) == ["fastapi"]


def test_an_archive_that_is_damaged_changes_nothing(app: Host, systemd: Systemd) -> None:
    target = write(app)
    content = bytearray(target.read_bytes())
    at = content.index(b"\x1f\x8b") + 20
    content[at : at + 40] = bytes(40)
    target.write_bytes(content)
    systemd.up = ["fastapi.service"]
    with pytest.raises(CtlError, match=r"/var/lib/.fastapi.restoring could not be restored: "):
        restore(app, target, stop=True)
    assert systemd.asked == []
    assert [path.name for path in app.state.parent.iterdir()] == ["fastapi"]


@pytest.mark.parametrize("content", [b"", b"x" * 2000, b"\0" * 2000])
def test_another_file_is_no_backup(app: Host, content: bytes) -> None:
    (app.base / "odd").write_bytes(content)
    with pytest.raises(CtlError, match=r"odd is no backup, or not a whole one\. Name a file that fastapictl backup"):
        restore(app, app.base / "odd")
    with pytest.raises(CtlError, match=r"none: No such file or directory. Name a file"):
        restore(app, app.base / "none")


def test_that_of_another_application_is_refused(app: Host) -> None:
    target = write(app)
    other = Host("shop", app.base)
    with pytest.raises(CtlError, match=r"is a backup of fastapi, not of shop\. Nothing has changed$"):
        restore(other, target)


def test_a_directory_that_cannot_be_replaced_is_refused(app: Host) -> None:
    target = write(app)
    app.state.rename(app.base / "elsewhere")
    app.state.symlink_to(app.base / "elsewhere")
    with pytest.raises(CtlError, match="is a link or a file system of its own, and cannot be replaced"):
        restore(app, target)


def test_there_is_room_first(app: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(place: Path, what: str, size: int = 0) -> None:
        raise CtlError(f"{what} needs {size} bytes in {place}")

    target = write(app)
    monkeypatch.setattr(disk, "spare", none)
    with pytest.raises(CtlError, match="a backup of fastapi needs 9 bytes"):
        write(app, "second")
    with pytest.raises(CtlError, match="the restore of fastapi needs 9 bytes"):
        restore(app, target)
    assert not list(app.base.glob("*second*"))


def test_files_that_root_must_not_write(app: Host) -> None:
    target = write(app)
    with pytest.raises(CtlError, match=r"is there already. Name another file"):
        write(app)
    for name, said in [("var/lib/fastapi/x", "where fastapi itself writes"), ("nowhere/x", "is no directory. Make it")]:
        with pytest.raises(CtlError, match=said):
            write(app, name)
    (app.base / "link").symlink_to(app.state)
    with pytest.raises(CtlError, match="where fastapi itself writes"):
        write(app, "link/x")
    target.unlink()


def test_a_failure_leaves_no_half_a_file(app: Host) -> None:
    (app.state / "odd.db").write_bytes(packing.SQLITE + b"\xff" * 4096)
    with pytest.raises(CtlError, match=r"fastapi: .*/var/lib/fastapi could not be read: odd.db is a database"):
        write(app)
    assert not [path for path in app.base.iterdir() if "b.tar" in path.name]
    assert not lock.holder(app)


def test_what_the_application_prints_is_shown_safely(app: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def words(*_: object) -> Sequence[str]:
        return ("/bin/sh", "-c", "printf 'a\\033[2Jb\\n' >&2; exit 3")

    monkeypatch.setattr(sandbox, "words", words)
    with pytest.raises(CtlError, match=r"could not be read: a\\x1b\[2Jb$"):
        write(app)


def test_its_unit_has_no_right_but_those_of_the_application(app: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Sequence[str]] = []

    def words(unit: str, command: Sequence[str], properties: Sequence[str], _most: float) -> Sequence[str]:
        seen.append([unit, *properties])
        return command

    monkeypatch.setattr(sandbox, "words", words)
    write(app)
    for unit in seen:
        assert {
            "User=fastapi", "Group=fastapi", "CapabilityBoundingSet=", "NoNewPrivileges=yes", "PrivateNetwork=yes",
            "ProtectSystem=strict", "PrivateTmp=yes", f"ReadWritePaths={app.state}",
        } <= set(unit)  # fmt: skip
        assert "DynamicUser=yes" not in unit
