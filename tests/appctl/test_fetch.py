"""What root gets to read of a build."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from appctl import disk, fetch, sandbox
from appctl.app import App
from appctl.interpreter import Interpreter

WARNS = "1 is 1\n"
"""The compiler says something about each such line."""


def test_what_the_compiler_says_of_packages_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    app = App("shop", tmp_path)
    monkeypatch.setattr(fetch, "TOOLS", tmp_path / "tools")
    uv = fetch.Uv("1.0", "")
    (uv.directory / "bin").mkdir(parents=True)
    (uv.directory / "bin/uv").write_text("#!/bin/sh\n")  # installs nothing
    (uv.directory / "bin/uv").chmod(0o755)
    package = app.virtualenvs / "abcd/lib/python3/site-packages/package.py"
    source = app.release("abcd") / "app/main.py"
    for file in (package, source):
        file.parent.mkdir(parents=True)
        file.write_text(WARNS * 1000)
    (app.release("abcd") / "lib").mkdir()
    work = tmp_path / "work"
    (work / "release").mkdir(parents=True)
    (work / "release/requirements.txt").touch()
    (app.cache / "abcd").mkdir(parents=True)
    printed: list[str] = []

    def confined(_: str, command: list[str], *__: Any) -> tuple[int, str, str]:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        printed.append(done.stdout + done.stderr)
        return done.returncode, done.stdout, done.stderr

    monkeypatch.setattr(sandbox, "confined", confined)
    python = Interpreter("3.13.0", sys.executable)
    fetch.fetch(app, uv, [], work, python, "abcd", "abcd", install=True)
    assert printed == [""]
    assert list(package.parent.glob("__pycache__/package.*.pyc"))


def test_fetched_packages_go_when_the_disk_is_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    app = App("shop", tmp_path)
    monkeypatch.setattr(sandbox, "stop", lambda _: None)
    fetch.clear(app)  # the first one in this boot
    for name in (".cache-61234", "abcd", fetch.COMPILED):
        (app.cache / name).mkdir(parents=True)
    fetch.clear(app)
    assert [path.name for path in app.cache.iterdir()] == [".cache-61234"]
    monkeypatch.setattr(disk, "ROOM", 1 << 60)
    fetch.clear(app)
    assert not list(app.cache.iterdir())


def test_packages_that_another_boot_has_fetched_are_not_believed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After a loss of power some of their files are empty. Neither uv nor the one after it would ever notice."""
    app = App("shop", tmp_path)
    monkeypatch.setattr(sandbox, "stop", lambda _: None)
    fetched = app.cache / ".cache-61234"
    fetched.mkdir(parents=True)
    fetch.clear(app)
    assert not fetched.exists()
    fetched.mkdir()
    fetch.clear(app)
    assert fetched.exists()
    shutil.rmtree(app.runtime)  # as a boot does
    fetch.clear(app)
    assert not fetched.exists()


def test_a_uv_has_its_name_when_it_is_on_the_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    app = App("shop", tmp_path)
    monkeypatch.setattr(fetch, "TOOLS", tmp_path / "tools")
    uv = fetch.Uv("1.0", "")
    work = tmp_path / "work"
    work.mkdir()

    def confined(*_: Any) -> tuple[int, str, str]:
        (app.cache / fetch.TOOL / "bin").mkdir(parents=True)
        (app.cache / fetch.TOOL / "bin/uv").write_text("uv")
        return 0, "", ""

    def synced(*command: str, **_: Any) -> None:
        assert command == ("sync", "--file-system", str(work))
        there.append(((work / "uv/bin/uv").exists(), uv.directory.exists()))

    there: list[tuple[bool, bool]] = []
    monkeypatch.setattr(sandbox, "confined", confined)
    monkeypatch.setattr(fetch, "run", synced)
    fetch.fetch_uv(app, uv, [], work)
    assert there == [(True, False)]
    assert (uv.directory / "bin/uv").read_text() == "uv"


def test_compiled_files_go_where_no_link_leads(tmp_path: Path) -> None:
    """Neither a link of the source nor one in the place of its __pycache__."""
    app = App("shop", tmp_path / "host")
    final, work = app.release("abcd"), tmp_path / "work"
    (precious := tmp_path / "precious").mkdir(mode=0o700)
    for package in ("plain", "linked"):
        (work / "release/app" / package).mkdir(parents=True)
        compiled = (app.cache / fetch.COMPILED).joinpath(*final.parts[1:], "app", package)
        compiled.mkdir(parents=True)
        (compiled / "main.cpython-313.pyc").touch()
    (work / "release/app/linked/__pycache__").symlink_to(precious)
    fetch.take_compiled(app.cache / fetch.COMPILED, final, work)
    assert (work / "release/app/plain/__pycache__/main.cpython-313.pyc").exists()
    assert not list(precious.iterdir())
    assert precious.stat().st_mode & 0o777 == 0o700
