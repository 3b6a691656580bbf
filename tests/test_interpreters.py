"""Which interpreter a host has, and what it lacks for a version."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gunicorn_fastapi_interpreters as interpreters
import pytest

BUILD = {"version": "3.14.2", "name": "3.14.2-20260127-0123456789ab", "place": "/mirror/x.tar.gz"}
BUILDS = {platform.machine(): BUILD}
OF_BUILD = f"{interpreters.PYTHONS}/3.14.2-20260127-0123456789ab/bin/python3.14"
SHOWN = "Package: python3.14\nVersion: {}\nDepends: python3.14-minimal (= 3.14.9-1)\n"

Look = Callable[..., dict[str, Any]]


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Look:
    """What is found of "3.14" on a host with these interpreters, and an apt that knows a version of the package."""

    def look(
        there: dict[str, str], apt: str = "", builds: dict[str, Any] = BUILDS, wanted: str = "3.14"
    ) -> dict[str, Any]:
        paths = {path.removeprefix("/usr/bin/"): path for path in there}
        monkeypatch.setattr(shutil, "which", {**paths, "apt-cache": "/usr/bin/apt-cache"}.get)
        monkeypatch.setattr(interpreters, "version_of", lambda path: (there[path], ""))
        found = interpreters.look(wanted, builds, lambda *_: SHOWN.format(apt) if apt else "")
        return {name: value for name, value in found.items() if value}

    return look


def test_the_host_s_own_comes_first(look: Look) -> None:
    there = {"/usr/bin/python3.14": "3.14.0", OF_BUILD: "3.14.2"}
    assert look(there, "3.14.1-1") == {"python": "3.14.0", "python_path": "/usr/bin/python3.14"}
    assert look({"/usr/bin/python3": "3.14.0"}) == {"python": "3.14.0", "python_path": "/usr/bin/python3"}


def test_a_build_that_is_there_comes_before_a_package_that_is_not(look: Look) -> None:
    """Else the choice would change once apt has learnt of one."""
    assert look({OF_BUILD: "3.14.2"}, "3.14.1-1") == {"python": "3.14.2", "python_path": OF_BUILD}
    found = look({}, "3.14.1-1")
    assert found == {"python": "3.14.1", "python_path": "/usr/bin/python3.14", "python_package": "python3.14"}


@pytest.mark.parametrize("apt", ["", "3.14.0~rc2-1", "3.14.0rc2-1", "3.13.5-1", "3.14-1"])
def test_a_build_is_installed_where_nothing_else_is_to_be_had(look: Look, apt: str) -> None:
    found = look({"/usr/bin/python3": "3.13.5"}, apt)
    assert found == {"python": "3.14.2", "python_path": OF_BUILD, "python_build": BUILD}


def test_a_damaged_build_is_installed_again(look: Look) -> None:
    assert look({OF_BUILD: ""})["python_build"] == BUILD


@pytest.mark.parametrize(
    "builds", [{}, {"vax": BUILD}, {platform.machine(): {**BUILD, "place": ""}}], ids=["none", "machine", "mirror"]
)
def test_nothing_to_be_had(look: Look, builds: dict[str, Any]) -> None:
    assert look({"/usr/bin/python3": "3.13.5"}, builds=builds) == {}


def test_a_whole_version_is_that_one_alone(look: Look) -> None:
    there = {"/usr/bin/python3.14": "3.14.20"}
    assert look(there, "3.14.1-1", {}, "3.14.2") == {}
    assert look(there, "3.14.2-1", {}, "3.14.2")["python_package"] == "python3.14"
    assert look(there, wanted="3.14.2")["python_build"] == BUILD
    assert look({"/usr/bin/python3.1": "3.1.4"}, "", {}, "3.14") == {}


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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, mode: int, why: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    python = tmp_path / "python3"
    if content is None:
        python.symlink_to("gone")
    elif content == "directory":
        python.mkdir()
    else:
        python.write_text(content)
        python.chmod(mode)
    assert interpreters.named(str(python)) == ("", str(python), why)


def test_an_interpreter_that_the_service_cannot_see(tmp_path: Path) -> None:
    (tmp_path / "python3").symlink_to("/root/bin/python3")
    assert interpreters.version_of(str(tmp_path / "python3")) == (
        "",
        "/root/bin/python3 lies below /root, which the service cannot see",
    )
    assert interpreters.version_of("/home/alice/python3")[1].startswith("/home/alice/python3 lies below /home")


def test_an_interpreter_in_a_closed_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks may be root, whom it is open to."""

    def run(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(subprocess, "run", run)
    directory = tmp_path / "closed"
    directory.mkdir(mode=0o700)
    (directory / "python3").write_text("")
    (tmp_path / "python3").symlink_to(directory / "python3")
    why = interpreters.version_of(str(tmp_path / "python3"))[1]
    assert re.fullmatch(r"the directory /.* is closed to others \(mode 0[0-7]{2}[0246]\)", why)


def test_a_name_that_is_nowhere_has_no_reason() -> None:
    assert interpreters.named("python9.9") == ("", "", "")
