"""Programs that root starts, but not as root."""

import grp
import pwd
from pathlib import Path
from typing import Any

import pytest
from appctl import disk, process, sandbox
from appctl.process import CtlError


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The commands that were started. The unit is not there."""
    commands: list[tuple[str, ...]] = []

    def finish(command: tuple[str, ...], *_: Any, **__: Any) -> tuple[int, str, str]:
        commands.append(command)
        return 0, "", ""

    monkeypatch.setattr(sandbox, "run", lambda *_, **__: "inactive\n")
    monkeypatch.setattr(sandbox, "finish", finish)
    return commands


def none(name: str) -> Any:
    raise KeyError(name)


@pytest.mark.parametrize(("module", "find", "kind"), [(pwd, "getpwnam", "user"), (grp, "getgrnam", "group")])
def test_a_build_does_not_get_the_rights_of_a_user_that_is_called_like_it(
    monkeypatch: pytest.MonkeyPatch, started: list[tuple[str, ...]], module: Any, find: str, kind: str
) -> None:
    monkeypatch.setattr(pwd, "getpwnam", none)
    monkeypatch.setattr(grp, "getgrnam", none)
    sandbox.confined("shop-build.service", ["true"], sandbox.CONFINED)
    assert len(started) == 1
    monkeypatch.setattr(module, find, lambda name: name if name == "shop-build" else none(name))
    with pytest.raises(CtlError, match=f"the host has a {kind} shop-build"):
        sandbox.confined("shop-build.service", ["true"], sandbox.CONFINED)
    assert len(started) == 1
    sandbox.confined("shop-build.service", ["true"], ["User=shop"])
    assert len(started) == 2


def test_what_fills_a_disk_or_prints_without_an_end_is_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And not only systemd-run, which waits for it."""
    stopped: list[str] = []
    monkeypatch.setattr(sandbox, "stop", stopped.append)
    monkeypatch.setattr(process, "ENVIRONMENT", {"PATH": f"{tmp_path}"})
    (tmp_path / "systemd-run").write_text("#!/bin/sh\nexec /bin/sleep 600\n")
    (tmp_path / "systemd-run").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(disk, "ROOM", 1 << 60)
    with pytest.raises(
        CtlError, match=rf"^shop-build\.service needs .* are free on the disk of {tmp_path}\. Free disk space"
    ):
        sandbox.confined("shop-build.service", ["true"], [], disks=[tmp_path])
    assert stopped == ["shop-build.service"] * 2
    (tmp_path / "systemd-run").write_text("#!/bin/sh\nexec /bin/cat /dev/zero\n")
    monkeypatch.setattr(process, "MOST", 1_000_000)
    with pytest.raises(CtlError, match="it printed more than"):
        sandbox.confined("shop-build.service", ["true"], [])
    assert stopped == ["shop-build.service"] * 4
