"""Builds of Python that stand alone: unpacked by nobody, root's own afterwards, and gone when no release needs them."""

import argparse
import io
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from appctl import complete, interpreter, pythons, sandbox, tree
from appctl.interpreter import Interpreter
from appctl.process import CtlError
from ctl_host import Host

NAME = "3.14.2-20260127-0123456789ab"


class Unpacking:
    """The unit that unpacks: what it was, and what it says and leaves."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.script, self.properties = "", [""]
        self.answer: tuple[int, str, str] = (0, json.dumps(["3.14.2", f"{host.pythons / NAME}/bin/python3.14"]), "")

    def confined(self, _: str, command: list[str], properties: list[str], *__: Any) -> tuple[int, str, str]:
        self.script, self.properties = command[2], properties
        tree.remove(self.host.cache / NAME)  # as the start of each build does
        program = self.host.cache / NAME / "bin/python3.14"
        program.parent.mkdir(parents=True)
        program.write_text("program")
        program.chmod(0o777)
        (program.parent / "python3").symlink_to("python3.14")
        return self.answer


@pytest.fixture
def unpacking(host: Host, monkeypatch: pytest.MonkeyPatch) -> Unpacking:
    unpacking = Unpacking(host)
    monkeypatch.setattr(sandbox, "confined", unpacking.confined)
    monkeypatch.setattr(pythons, "run", lambda *_, **__: "")
    monkeypatch.setattr(interpreter, "tried", lambda _, path, __: Interpreter("3.14.2", path))
    return unpacking


def install(host: Host, monkeypatch: pytest.MonkeyPatch, **changes: str) -> dict[str, object]:
    host.incoming.mkdir(parents=True, exist_ok=True)
    sent = host.base / "sent.tar.gz"
    sent.write_text("archive")
    asked = json.dumps({"name": NAME, "archive": str(sent), **changes})
    monkeypatch.setattr(sys, "stdin", io.StringIO(asked))
    return pythons.command_python(host, argparse.Namespace(lock_wait=0.0))


def used_by(host: Host, name: str, app: str = "other") -> None:
    """A virtualenv of an application with the interpreter of a build."""
    link = host.base / "opt" / app / "virtualenvs" / name / "bin/python"
    link.parent.mkdir(parents=True)
    link.symlink_to(host.pythons / name / "bin/python3.14")


def test_a_build_is_unpacked_by_nobody_and_belongs_to_root(
    host: Host, unpacking: Unpacking, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert install(host, monkeypatch) == {"changed": True, "python": NAME}
    program = host.pythons / NAME / "bin/python3.14"
    assert stat.S_IMODE(program.stat().st_mode) == 0o755
    assert program.stat().st_uid == os.geteuid()
    assert stat.S_IMODE(program.parent.stat().st_mode) == 0o755
    assert tree.broken(host.pythons / NAME) == ""
    assert set(sandbox.CONFINED) <= set(unpacking.properties)
    assert "PrivateNetwork=yes" in unpacking.properties
    assert [p for p in unpacking.properties if p.endswith(f"/archive:{host.root}/python.tar.gz")]
    assert "--no-same-owner" in unpacking.script
    assert [path.name for path in host.pythons.iterdir()] == [NAME]


def test_a_whole_one_is_left_alone_and_a_damaged_one_replaced(
    host: Host, unpacking: Unpacking, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(host, monkeypatch)
    unpacking.script = ""
    assert install(host, monkeypatch)["changed"] is False
    assert unpacking.script == ""
    (host.pythons / NAME / "bin/python3.14").write_text("cut")
    assert install(host, monkeypatch)["changed"] is True
    assert (host.pythons / NAME / "bin/python3.14").read_text() == "program"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((126, "", "x\nsh: 1: python3.14: Exec format error"), "sh: 1: python3.14: Exec format error"),
        ((1, "", "libc.so.6: version `GLIBC_2.99' not found"), "libc.so.6: version `GLIBC_2.99' not found"),
        ((0, '["3.13.5", "/x"]', ""), 'it says that it is \\["3.13.5", "/x"\\]'),
        ((0, "", ""), "it says that it is nothing"),
    ],
)
def test_one_that_does_not_run_here_is_refused(
    host: Host, unpacking: Unpacking, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, str, str], why: str
) -> None:
    unpacking.answer = answer
    with pytest.raises(CtlError, match=f"its build does not run on this host: {why}. Put another one into"):
        install(host, monkeypatch)
    assert list(host.pythons.iterdir()) == []


@pytest.mark.parametrize("odd", [{"name": "../x"}, {"name": f"{NAME}/.."}, {"archive": "x.tar.gz"}, {"name": ""}])
def test_a_request_that_leads_elsewhere_is_refused(
    host: Host, unpacking: Unpacking, monkeypatch: pytest.MonkeyPatch, odd: dict[str, str]
) -> None:
    with pytest.raises(CtlError, match="names no build and no archive"):
        install(host, monkeypatch, **odd)
    assert unpacking.script == ""


def test_what_no_release_of_any_application_needs_goes(host: Host) -> None:
    names = [f"3.14.{patch}-20260127-0123456789ab" for patch in range(4)]
    for name in names:
        (host.pythons / name / "bin").mkdir(parents=True)
        os.utime(host.pythons / name, (0, 0))
    used_by(host, names[0])
    used_by(host, names[1], host.name)
    pythons.keep(host, str(host.pythons / names[2] / "bin/python3.14"))  # a build has just begun with it
    (host.pythons / ".building-x").mkdir()
    os.utime(host.pythons / ".building-x", (0, 0))
    pythons.prune(host)
    assert sorted(path.name for path in host.pythons.iterdir()) == names[:3]


def test_a_host_without_builds_has_none_to_remove(host: Host) -> None:
    pythons.keep(host, "/usr/bin/python3.13")
    pythons.prune(host)
    assert not host.pythons.exists()


@pytest.mark.usefixtures("unpacking")
def test_a_release_is_incomplete_without_all_of_its_python(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    install(host, monkeypatch)
    program = host.pythons / NAME / "bin/python3.14"
    made = host.virtualenvs / "a"
    (made / "bin").mkdir(parents=True)
    (made / "bin/python").symlink_to(program)
    tree.seal(made, {"executable": str(program), "minor": "3.14", "mark": interpreter.mark(str(program))})
    assert complete.virtualenv(host, "a", complete.Memory(host)) == ""
    (host.pythons / NAME / "bin/python3").unlink()
    assert complete.virtualenv(host, "a", complete.Memory(host), thorough=True) == (
        f"{host.pythons / NAME}/bin/python3 is missing"
    )


@pytest.mark.parametrize(
    ("there", "newest", "newer"),
    [([], "", ""), (["3.14.10-20261110-0123456789ab"], "", "3.14.10"), ([], "3.14.3", "3.14.3"), ([], "3.15.0", "")],
)
def test_status_says_which_python_and_what_is_newer(host: Host, there: list[str], newest: str, newer: str) -> None:
    for name in (NAME, *there):
        (host.pythons / name).mkdir(parents=True)
    release = host.release("a" * 40)
    release.mkdir(parents=True)
    path = str(host.pythons / NAME / "bin/python3.14")
    manifest = {"release": "a" * 40, "files": {}, "python": "3.14.2", "python_path": path}
    (release / "manifest.json").write_text(json.dumps(manifest))
    found = pythons.told(host, "a" * 40, newest)
    assert found == {"version": "3.14.2", "path": path, "built": "20260127", "newer": newer}
    assert pythons.behind(found) == (f", Python {newer} is known" if newer else "")
    known = f", Python {newer} is known: deploy again to have it" if newer else ""
    assert pythons.words(found) == f"3.14.2, a build of 2026-01-27 that no distribution keeps up to date{known}"


def test_status_says_which_python_of_the_host(host: Host) -> None:
    release = host.release("a" * 40)
    release.mkdir(parents=True)
    manifest = {"release": "a" * 40, "files": {}, "python": "3.13.5", "python_path": "/usr/bin/python3"}
    (release / "manifest.json").write_text(json.dumps(manifest))
    assert pythons.words(pythons.told(host, "a" * 40)) == "3.13.5 (/usr/bin/python3)"
    assert pythons.told(host, "b" * 40) == {}


def test_no_place_of_a_build_is_anybody_else_s(host: Host) -> None:
    assert pythons.of_executable(host, str(host.pythons / NAME / "bin/python3.14")) == host.pythons / NAME
    for other in ("/usr/bin/python3", str(host.pythons), str(Path(f"{host.pythons}x") / "bin/python3")):
        assert pythons.of_executable(host, other) is None
