"""What a prepare command leaves: made in a sandbox, taken as files of the source, and kept for all hosts."""

import argparse
import hashlib
import io
import json
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from appctl import build, interpreter, prepared, sandbox, tree
from appctl.interpreter import Interpreter
from appctl.process import CtlError
from ctl_host import Host

KEY, RELEASE, VIRTUALENV = "c" * 40, "a" * 40, "b" * 40
FILES = {"main.py": "app", "static/old.css": "old"}


class Command:
    """The unit that runs it: what it was, and what it does in the copy of the source."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.script, self.properties, self.most = "", [""], 0.0
        self.answer = 0, "", ""
        self.makes: dict[str, str] = {}
        self.links: dict[str, str] = {}

    def confined(
        self, _: str, command: list[str], properties: list[str], __: str, most: float, ___: Any
    ) -> tuple[int, str, str]:
        self.script, self.properties, self.most = command[2], properties, most
        source = next(line for line in properties if line.endswith(f":{self.host.root}/source"))
        copy = self.host.cache / "app"
        tree.remove(copy)
        tree.copy(Path(source.removeprefix("BindReadOnlyPaths=").rpartition(":")[0]), copy)
        for name, text in self.makes.items():
            (copy / name).parent.mkdir(exist_ok=True)
            (copy / name).write_text(text)
        for name, target in self.links.items():
            (copy / name).symlink_to(target)
        return self.answer


@pytest.fixture
def command(host: Host, monkeypatch: pytest.MonkeyPatch) -> Command:
    command = Command(host)
    monkeypatch.setattr(sandbox, "confined", command.confined)
    monkeypatch.setattr(prepared, "run", lambda *_, **__: "")
    monkeypatch.setattr(build, "packages_installed", lambda *_: True)
    monkeypatch.setattr(interpreter, "tried", lambda _, path, __: Interpreter("3.13.5", path))
    host.incoming.mkdir(parents=True)
    host.cache.mkdir(parents=True)
    return command


def sent(host: Host) -> Path:
    """The archive of a release without what the command makes."""
    archive = host.base / "release.tar.gz"
    manifest = json.dumps({"release": RELEASE, "files": {}, "packages": []})
    files = {f"app/{name}": text for name, text in FILES.items()}
    files |= {
        "manifest.building": manifest,
        f"systemd/{host.service}": "MemoryDenyWriteExecute=no\n",
        "etc/environment": "",
    }
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(f"{RELEASE}/{name}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return archive


def prepare(host: Host, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> dict[str, Any]:
    asked = {
        "release": RELEASE, "virtualenv": VIRTUALENV, "archive": str(sent(host)), "python": "/usr/bin/python3",
        "uv": {"version": "0.9.11", "list": ""}, "key": KEY, "command": "make 'all things'", "directory": "",
        "timeout": 30, "again": False,
    }  # fmt: skip
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(asked | changes)))
    return prepared.command_prepare(host, argparse.Namespace(lock_wait=0.0))


def left(host: Host) -> dict[str, str]:
    with tarfile.open(host.prepared / f"{KEY}.tar.gz") as tar:
        files = {info.name: tar.extractfile(info) for info in tar if info.isfile()}
        links = {info.name: f"-> {info.linkname}" for info in tar if info.issym()}
        assert all(info.uid == info.mtime == 0 for info in tar)
        return links | {name: file.read().decode() for name, file in files.items() if file}


def test_what_is_new_or_changed_is_kept(host: Host, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    command.makes = {"static/new.css": "new", "static/old.css": "other", "main.py": "app", "__pycache__/x.pyc": "x"}
    command.links = {"static/link.css": "new.css"}
    answer = prepare(host, monkeypatch)
    assert left(host) == {
        "prepared/static/new.css": "new", "prepared/static/old.css": "other", "prepared/static/link.css": "-> new.css",
    }  # fmt: skip
    digest = hashlib.sha256((host.prepared / f"{KEY}.tar.gz").read_bytes()).hexdigest()
    assert (answer["changed"], answer["files"], answer["digest"]) == (True, 3, digest)
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({"key": KEY})))
    assert prepared.command_prepared(host, argparse.Namespace())["digest"] == digest


def test_it_runs_once_until_it_is_asked_again(host: Host, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(host, monkeypatch)
    command.makes = {"new.css": "new"}
    assert prepare(host, monkeypatch) == {name: first[name] for name in ("made", "digest")} | {"changed": False}
    assert prepare(host, monkeypatch, again=True)["digest"] != first["digest"]


def test_equal_files_are_an_equal_archive(host: Host, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    command.makes = {"static/new.css": "new"}
    first = prepare(host, monkeypatch)["digest"]
    assert prepare(host, monkeypatch, again=True)["digest"] == first


def test_it_has_the_packages_and_nothing_else(host: Host, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(host, monkeypatch, directory="data")
    has = command.properties
    assert set(sandbox.CONFINED) | set(prepared.LIMITS) <= set(has)
    assert "PrivateNetwork=yes" in has
    assert f"InaccessiblePaths=-{host.state}" in has
    assert f"BindReadOnlyPaths={host.virtualenvs / VIRTUALENV}" in has
    assert [line for line in has if line.startswith("BindPaths=")] == [f"BindPaths={host.cache}:{host.root}/prepare"]
    assert not [line for line in has if line.startswith("LoadCredential")]
    # As the application's own unit has it, later, so that it counts.
    assert has.index("MemoryDenyWriteExecute=no") > has.index("MemoryDenyWriteExecute=yes")
    lines = command.script.splitlines()
    assert f"cd {host.root}/prepare/app/data" in lines
    assert lines[-1] == """exec /bin/sh -c 'make '"'"'all things'"'"'' 2>&1 </dev/null"""
    assert command.most == 30


@pytest.mark.parametrize(
    ("status", "why"), [(3, "failed with status 3"), (143, "was not over after 30 s"), (137, "was not over after 30 s")]
)
def test_its_failure_has_its_last_lines(
    host: Host, command: Command, monkeypatch: pytest.MonkeyPatch, status: int, why: str
) -> None:
    command.answer = status, "".join(f"line {number}\n" for number in range(100)), ""
    with pytest.raises(CtlError) as failure:
        prepare(host, monkeypatch)
    told = str(failure.value)
    assert told.startswith(
        f"gunicorn_fastapi_prepare_command {why}, and nothing that serves has changed. It has no network"
    )
    assert told.splitlines()[1:] == [f"line {number}" for number in range(80, 100)]
    assert not host.prepared.exists()
    assert list(host.incoming.iterdir()) == []


def test_a_link_that_leads_out_is_refused(host: Host, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    command.links = {"passwd": "/etc/passwd"}
    with pytest.raises(CtlError, match="passwd: what was built has a link to a place outside"):
        prepare(host, monkeypatch)
    assert not host.prepared.exists()


def test_more_than_a_release_should_have_is_refused(
    host: Host, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "SIZE_MAX", 10)
    command.makes = {"big": "x" * 11}
    with pytest.raises(CtlError, match=r"has left more than 0 MB. Have it make less"):
        prepare(host, monkeypatch)


@pytest.mark.parametrize("odd", [{"key": "../x"}, {"timeout": "long"}, {"release": "../x"}, {"archive": "x.tar.gz"}])
def test_a_request_that_leads_elsewhere_is_refused(
    host: Host, command: Command, monkeypatch: pytest.MonkeyPatch, odd: dict[str, str]
) -> None:
    with pytest.raises(CtlError, match="the request"):
        prepare(host, monkeypatch, **odd)
    assert command.script == ""


@pytest.mark.usefixtures("command")
def test_the_oldest_are_forgotten(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.prepared.mkdir(parents=True)
    for number in range(prepared.KEPT + 3):
        (host.prepared / f"{number}.tar.gz").touch()
        os.utime(host.prepared / f"{number}.tar.gz", (number, number))
    prepare(host, monkeypatch)
    there = {path.name for path in host.prepared.iterdir()}
    assert there == {f"{KEY}.tar.gz", *(f"{number}.tar.gz" for number in range(4, prepared.KEPT + 3))}
