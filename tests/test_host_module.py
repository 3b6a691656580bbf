"""What a look at a host executes there."""

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

FILE = Path(__file__).parent.parent / "plugins" / "modules" / "gunicorn_fastapi_host.py"
NOTHING = {"release": "", "current": "", "complete": [], "released": [], "busy": ""}


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
    }
    assert settled(json.dumps(said), is_ours=True) == said


@pytest.mark.parametrize("printed", [None, "", "usage: shopctl", "{}"])
def test_one_of_another_version_says_nothing(settled: Callable[..., Any], printed: str | None) -> None:
    assert settled(printed, is_ours=True) == NOTHING


def test_a_foreign_command_is_not_executed(settled: Callable[..., Any]) -> None:
    """And what it would have said is there, as nothing."""
    assert settled(json.dumps({"release": "x", "busy": "y"}), is_ours=False) == NOTHING


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        ("#!/bin/sh\necho no such module >&2\nexit 3\n", 0o755, "no such module"),
        ("#!/bin/sh\nexit 3\n", 0o755, "it ended with 3 and named no version"),
        ("#!/bin/sh\necho hello\n", 0o755, "it ended with 0 and named no version"),
        ("garbage", 0o755, "Exec format error"),
        ("#!/bin/sh\nkill -SEGV $$\n", 0o755, "it was killed by signal 11"),
        (
            "#!/nowhere/python\n",
            0o755,
            "what has to start it is missing: the program in its first line, or its loader",
        ),
        ("", 0o644, "it is not executable"),
        (None, 0, "it is a link that leads nowhere"),
        ("directory", 0, "it is no file"),
    ],
)
def test_why_an_interpreter_tells_no_version(
    host_module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, mode: int, why: str
) -> None:
    monkeypatch.setattr(host_module.os, "geteuid", lambda: 1000)
    python = tmp_path / "python3"
    if content is None:
        python.symlink_to("gone")
    elif content == "directory":
        python.mkdir()
    else:
        python.write_text(content)
        python.chmod(mode)
    look = host_module.Host(SimpleNamespace(params={"name": "shop", "directory": "/opt/shop", "python": str(python)}))
    assert look.python() == ("", str(python), why)


def test_an_interpreter_that_the_service_cannot_see(host_module: Any, tmp_path: Path) -> None:
    (tmp_path / "python3").symlink_to("/root/bin/python3")
    assert host_module.version_of(str(tmp_path / "python3")) == (
        "",
        "/root/bin/python3 lies below /root, which the service cannot see",
    )
    assert host_module.version_of("/home/alice/python3")[1].startswith("/home/alice/python3 lies below /home")


def test_an_interpreter_in_a_closed_directory(
    host_module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks may be root, whom it is open to."""

    def run(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(host_module.subprocess, "run", run)
    directory = tmp_path / "closed"
    directory.mkdir(mode=0o700)
    (directory / "python3").write_text("")
    (tmp_path / "python3").symlink_to(directory / "python3")
    why = host_module.version_of(str(tmp_path / "python3"))[1]
    assert re.fullmatch(r"the directory /.* is closed to others \(mode 0[0-7]{2}[0246]\)", why)


def test_a_name_that_is_nowhere_has_no_reason(host_module: Any) -> None:
    parameters = {"name": "shop", "directory": "/opt/shop", "python": "python9.9"}
    assert host_module.Host(SimpleNamespace(params=parameters)).python() == ("", "", "")


def test_places_that_are_mounted_read_only(host_module: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A directory that is not there yet is made where its parents are."""
    assert host_module.read_only(str(tmp_path), str(tmp_path / "a/b")) == []
    monkeypatch.setattr(host_module.os, "statvfs", lambda path: SimpleNamespace(f_flag=int(path == tmp_path)))
    escaped = str(tmp_path).replace("-", "\\055")
    mounts = f"/dev/a / ext4 rw 0 0\n/dev/a {escaped} ext4 ro 0 0\n/dev/a {escaped}/a/bc ext4 ro 0 0\n"
    monkeypatch.setattr(host_module, "read", lambda _: mounts)
    assert host_module.read_only(str(tmp_path / "a/b"), str(tmp_path), "/") == [str(tmp_path)]


def test_a_file_that_is_not_wanted_is_not_there(host_module: Any, tmp_path: Path) -> None:
    wanted = {"path": str(tmp_path / "fastapi-metrics.socket"), "mode": "absent", "content": ""}
    assert host_module.is_as_wanted(wanted)
    Path(wanted["path"]).touch()
    assert not host_module.is_as_wanted(wanted)
