"""What a look at a host executes there."""

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gunicorn_fastapi_mounts as mounts
import pytest

FILE = Path(__file__).parent.parent / "plugins" / "modules" / "gunicorn_fastapi_host.py"
NOTHING = {"release": "", "current": "", "complete": [], "released": [], "busy": "", "handed_back": ""}


@pytest.fixture
def host_module() -> Any:
    spec = importlib.util.spec_from_file_location("gunicorn_fastapi_host", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def settled(host_module: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Asks a control command that is there and prints a text, or fails with None."""
    module = host_module
    monkeypatch.setattr(module.os, "access", lambda *_: True)

    def ask(printed: str | None, *, is_ours: bool) -> Any:
        ran: list[list[str]] = []

        def run_command(command: list[str], **_: object) -> tuple[int, str, str]:
            ran.append(command)
            return (0, printed, "") if printed is not None else (1, "", "")

        parameters = {"name": "shop", "directory": "/opt/shop", "addresses": "{}"}
        answer = module.Host(SimpleNamespace(params=parameters, run_command=run_command)).settled(is_ours)
        assert ran == [["/usr/local/sbin/shopctl", "settled", "--json", "--addresses={}"]] * is_ours
        return answer

    return ask


def test_a_command_of_ours_is_believed(settled: Callable[..., Any]) -> None:
    said = {
        "release": "0d6a72e61398",
        "current": "0d6a72e61398",
        "complete": ["0d6a72e61398"],
        "released": ["4c1d"],
        "busy": "handover",
        "handed_back": "",
    }
    assert settled(json.dumps(said), is_ours=True) == said


@pytest.mark.parametrize("printed", [None, "", "usage: shopctl", "{}"])
def test_one_of_another_version_says_nothing(settled: Callable[..., Any], printed: str | None) -> None:
    assert settled(printed, is_ours=True) == NOTHING


def test_a_foreign_command_is_not_executed(settled: Callable[..., Any]) -> None:
    """And what it would have said is there, as nothing."""
    assert settled(json.dumps({"release": "x", "busy": "y"}), is_ours=False) == NOTHING


def test_places_that_are_mounted_read_only_or_noexec(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A directory that is not there yet is made where its parents are."""
    assert mounts.read_only(str(tmp_path), str(tmp_path / "a/b")) == []
    assert mounts.noexec(str(tmp_path / "a/b")) == ""
    escaped = str(tmp_path).replace("-", "\\055")
    (tmp_path / "mounts").write_text(
        f"/dev/a / ext4 rw 0 0\n/dev/a {escaped} ext4 ro 0 0\n/dev/a {escaped}/a/bc ext4 ro 0 0\n"
    )
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mounts")
    flags = os.ST_RDONLY | os.ST_NOEXEC
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_flag=flags if path == tmp_path else 0))
    assert mounts.read_only(str(tmp_path / "a/b"), str(tmp_path), "/") == [str(tmp_path)]
    assert mounts.noexec(str(tmp_path / "a/b")) == str(tmp_path)


def test_a_file_that_is_not_wanted_is_not_there(host_module: Any, tmp_path: Path) -> None:
    wanted = {"path": str(tmp_path / "fastapi-metrics.socket"), "mode": "absent", "content": ""}
    assert host_module.is_as_wanted(wanted)
    Path(wanted["path"]).touch()
    assert not host_module.is_as_wanted(wanted)
