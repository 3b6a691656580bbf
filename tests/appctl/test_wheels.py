"""Packages that exist as source only: fetched with the network, built without it, and taken as one wheel."""

import base64
import hashlib
import http.server
import io
import os
import re
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from appctl import fetch, sandbox, sdist, tags, wheels
from appctl.interpreter import Interpreter
from appctl.process import CtlError
from appctl.wheels import Source
from ctl_host import Host
from repositories import Repository

DOCOPT = Source("docopt", "0.6.2", "https://example.org/docopt-0.6.2.tar.gz", "1" * 64)
WHEEL = "docopt-0.6.2-py3-none-any.whl"
PYTHON = Interpreter("3.13.5", "/usr/bin/python3.13")
UV = fetch.Uv("0.9.0", "")


class Builds:
    """The units that build: what they were, and what the last one leaves."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.units: list[tuple[str, str, list[str]]] = []
        self.leaves = {WHEEL: b"content"}
        self.fails: dict[int, str] = {}

    def confined(self, unit: str, command: list[str], properties: list[str], *_: Any) -> tuple[int, str, str]:
        self.units.append((unit, command[2], properties))
        if told := self.fails.get(len(self.units)):
            return 1, "", told
        if len(self.units) == 2:
            (self.host.cache / "building/out").mkdir(parents=True)
            for name, content in self.leaves.items():
                (self.host.cache / "building/out" / name).write_bytes(content)
        return 0, "", ""


@pytest.fixture
def builds(host: Host, monkeypatch: pytest.MonkeyPatch) -> Builds:
    builds = Builds(host)
    monkeypatch.setattr(sandbox, "confined", builds.confined)
    return builds


def build(host: Host, tmp_path: Path) -> tuple[str, str, list[str]]:
    work = tmp_path / "work"
    work.mkdir()
    return wheels.build(host, UV, ["--index-url", "https://example.org/simple"], work, PYTHON, DOCOPT)


def test_a_package_is_fetched_with_the_network_and_built_without(host: Host, builds: Builds, tmp_path: Path) -> None:
    builds.leaves = {WHEEL: b"x" * 30_000}
    file, digest, texts = build(host, tmp_path)
    assert (file, digest) == (WHEEL, hashlib.sha256(b"x" * 30_000).hexdigest())
    assert b"".join(map(base64.b64decode, texts)) == b"x" * 30_000
    assert max(map(len, texts)) <= 16_000
    (first, fetching, open_), (second, building, closed) = builds.units
    assert first == second == fetch.unit(host)
    assert set(sandbox.CONFINED) <= set(open_)
    assert set(sandbox.CONFINED) <= set(closed)
    assert "PrivateNetwork=no" in open_
    assert "PrivateNetwork=yes" in closed
    assert set(wheels.LIMITS) <= set(closed)
    assert f"{DOCOPT.url} {DOCOPT.digest} {host.virtualenvs}/building" in fetching
    assert "--no-build" in fetching
    assert {"--offline", "--no-build-isolation"} <= set(building.split())


@pytest.mark.parametrize(
    ("leaves", "reason"),
    [
        ({}, "has left no wheel"),
        ({WHEEL: b"", "other-1-py3-none-any.whl": b""}, "has left docopt-0.6.2-py3-none-any.whl, other-1"),
        ({"other-0.6.2-py3-none-any.whl": b""}, "has left other-0.6.2"),
        ({"docopt-0.6.3-py3-none-any.whl": b""}, "has left docopt-0.6.3"),
        ({WHEEL: b"x" * (wheels.SIZE_MAX + 1)}, "has more than 16 MB"),
    ],
)
def test_what_is_not_its_wheel_is_refused(
    host: Host, builds: Builds, tmp_path: Path, leaves: dict[str, bytes], reason: str
) -> None:
    builds.leaves = leaves
    with pytest.raises(CtlError, match=reason):
        build(host, tmp_path)


@pytest.mark.parametrize(
    ("at", "told", "advice"),
    [
        (1, "cannot be fetched: URLError", "gunicorn_fastapi_upgrade: [docopt]"),
        (2, "x.c:1: fatal error: Python.h: No such file or directory", "lacks python3-dev: name"),
        (2, "error: command 'gcc' failed: No such file or directory", "lacks build-essential: name"),
        (1, "https://a/b is a repository, and git is not on this host", "lacks git: name what it needs in"),
        (2, "Error: pg_config executable not found.", "lacks libpq-dev: name"),
        (2, "Package libffi was not found: ffi.h: No such file; pg_config", "lacks libpq-dev, libffi-dev: name"),
    ],
)
def test_what_a_build_lacks_is_named(
    host: Host, builds: Builds, tmp_path: Path, at: int, told: str, advice: str
) -> None:
    builds.fails = {at: told}
    with pytest.raises(CtlError) as failure:
        build(host, tmp_path)
    assert str(failure.value).startswith(
        f"docopt 0.6.2 has no wheel for this host, and was not built: {told.rstrip('.')}. "
    )
    assert advice in str(failure.value)
    assert len(builds.units) == at


def sources(pylock: str) -> list[Source]:
    return wheels.sources(pylock, Path("/srv/project/apps/api"), Path("/srv/project"), "3.13.5")


@pytest.mark.parametrize(
    ("file", "usable"),
    [
        ("a-1-py3-none-any.whl", True),
        ("a-1-py2.py3-none-any.whl", True),
        ("a-1-py313-none-any.whl", True),
        ("a-1-py314-none-any.whl", False),
        ("a-1-cp313-cp313-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", True),
        ("a-1-1-cp313-cp313-linux_x86_64.whl", True),
        ("a-1-cp312-cp312-manylinux_2_17_x86_64.whl", False),
        ("a-1-cp313-cp313t-manylinux_2_17_x86_64.whl", False),
        ("a-1-cp39-abi3-manylinux_2_28_x86_64.whl", True),
        ("a-1-cp314-abi3-manylinux_2_28_x86_64.whl", False),
        ("a-1-cp313-cp313-manylinux_2_17_aarch64.whl", False),
        ("a-1-cp313-cp313-musllinux_1_2_x86_64.whl", False),
        ("a-1-cp313-cp313-macosx_11_0_arm64.whl", False),
        ("a-1-py3-none-win_amd64.whl", False),
        ("a.whl", False),
    ],
)
def test_which_wheels_a_host_can_install(file: str, usable: bool) -> None:
    assert tags.fits(file, "3.13.5", "x86_64") is usable


@pytest.mark.parametrize(
    ("marker", "holds"),
    [
        ("", True),
        ("sys_platform == 'win32'", False),
        ("python_full_version >= '3.9' and (sys_platform != 'win32' or 'x' in os_name)", True),
        ("python_version < '3.10'", False),
        ("python_full_version < '3.13'", False),
        ("platform_python_implementation != 'CPython'", False),
        ("python_full_version >= '3.13.*'", None),
        ("extra == 'pg'", None),
        ("__import__('os')", None),
    ],
)
def test_which_packages_are_for_this_host(marker: str, holds: bool | None) -> None:
    assert tags.holds(marker, "3.13.5") is holds


def test_a_package_for_other_systems_is_not_built() -> None:
    text = """[[packages]]
name = "pywin32"
version = "308"
marker = "{}"
wheels = [{{name = "pywin32-308-cp313-cp313-win_amd64.whl"}}]
"""
    assert sources(text.format("sys_platform == 'win32'")) == sources(text.format("extra == 'x'")) == []


def test_a_package_without_a_wheel_for_this_python_is_built() -> None:
    text = """[[packages]]
name = "markupsafe"
version = "2.1.5"
wheels = [{url = "https://a/markupsafe-2.1.5-cp312-cp312-linux_x86_64.whl#x"}, {path = "w/x%2B1-1-py2-none-any.whl"}]
sdist = {url = "https://a/markupsafe-2.1.5.tar.gz", hashes = {sha256 = "11"}}
"""
    assert sources(text) == [Source("markupsafe", "2.1.5", "https://a/markupsafe-2.1.5.tar.gz", "11")]


def test_a_package_of_the_workspace_is_built_where_it_lies() -> None:
    (found,) = sources('[[packages]]\nname = "My.Lib"\ndirectory = {path = "../../libs/my lib"}\n')
    assert found == Source("my-lib", "", "dir+/srv/project/libs/my lib", "", inside="./libs/my lib")


def test_its_source_is_copied(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/pyproject.toml").write_text('[build-system]\nrequires = ["hatchling"]\n')
    (tmp_path / "here").mkdir()
    sdist.main(f"dir+{tmp_path}/lib", "", tmp_path / "here", "")
    assert (tmp_path / "here/source/pyproject.toml").exists()
    assert (tmp_path / "here/requires.txt").read_text() == "hatchling\n"


def test_a_list_has_its_wheel() -> None:
    lines = ["./libs/lib ; python_version > '3'", "six==1 \\", "    --hash=sha256:11"]
    built = {"./libs/lib": ("lib-1-py3-none-any.whl", "22")}
    first = "./wheels/lib-1-py3-none-any.whl ; python_version > '3' --hash=sha256:22"
    assert wheels.listed(lines, built) == [first, *lines[1:]]


def test_only_what_has_no_wheel_is_built() -> None:
    text = '[[packages]]\nname = "A_b"\nversion = "1"\nwheels = [{name = "a_b-1-py3-none-any.whl"}]\n'
    sourced = '[[packages]]\nname = "Doc.opt"\nversion = "1"\nsdist = {url = "https://a/b", hashes = {sha256 = "11"}}\n'
    assert sources(text + sourced) == [Source("doc-opt", "1", "https://a/b", "11")]
    for elsewhere in ('vcs = {url = "https://a"}', 'sdist = {path = "x.tar.gz"}'):
        with pytest.raises(CtlError, match="c has no wheel, and its source comes from neither an index"):
            sources(f'[[packages]]\nname = "c"\n{elsewhere}\n')


def test_a_commit_of_a_repository_is_built() -> None:
    commit = "c" * 40
    text = f'[[packages]]\nname = "Tiny"\n{{}}vcs = {{{{type = "git", url = "{{}}", commit-id = "{commit}"{{}}}}}}\n'
    found = sources(text.format('version = "1.2"\n', "https://a/b.git", ', subdirectory = "lib"'))
    assert found == [Source("tiny", "1.2", "git+https://a/b.git", commit, "lib")]
    for unreachable in ("ssh://git@a/b.git", "file:///srv/b.git"):
        with pytest.raises(CtlError, match=r"nor a repository that this host can reach \(git\+https"):
            sources(text.format("", unreachable, ""))


def test_a_version_that_the_lock_does_not_know_is_the_wheel_s(host: Host, builds: Builds, tmp_path: Path) -> None:
    assert builds.leaves
    (tmp_path / "work").mkdir()
    source = Source("docopt", "", "git+https://a/b.git", "c" * 40, "lib")
    assert wheels.build(host, UV, [], tmp_path / "work", PYTHON, source)[0] == WHEEL
    assert f"git+https://a/b.git {'c' * 40} {host.virtualenvs}/building lib" in builds.units[0][1]


def test_wheels_take_the_place_of_repositories() -> None:
    lines = ["tiny @ git+https://a/b@cccc#subdirectory=lib ; python_version < '4'", "six==1 \\", "    --hash=sha256:02"]
    listed = wheels.listed(lines, {"tiny": ("w.whl", "ff")})
    assert listed == ["./wheels/w.whl ; python_version < '4' --hash=sha256:ff", *lines[1:]]


def test_wheels_take_the_place_of_sources() -> None:
    lines = [
        "doc_opt[x]==1.0 \\",
        "    --hash=sha256:00 \\",
        "    --hash=sha256:01",
        "six==1 \\",
        "    --hash=sha256:02",
    ]
    assert wheels.listed(lines, {"doc-opt": ("w.whl", "ff")}) == ["./wheels/w.whl --hash=sha256:ff", *lines[3:]]
    assert wheels.listed(lines, {}) == lines


def archive(tmp_path: Path, files: dict[str, str], kind: str = "tar") -> tuple[str, str]:
    """An archive of a source: its address and digest."""
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as whole:
            for name, text in files.items():
                whole.writestr(name, text)
    else:
        with tarfile.open(path, "w:gz") as tar:
            for name, text in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))
    return path.as_uri(), hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize(
    ("files", "requires"),
    [
        ({"x-1/pyproject.toml": '[build-system]\nrequires = ["hatchling", "x>1"]\n'}, "hatchling\nx>1\n"),
        ({"x-1/setup.py": ""}, "setuptools >= 40.8.0\n"),
        ({"x-1/pyproject.toml": "[project]\n"}, "setuptools >= 40.8.0\n"),
    ],
)
def test_a_source_is_unpacked_and_executed_by_nobody(
    tmp_path: Path, kind: str, files: dict[str, str], requires: str
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    sdist.main(*archive(tmp_path, files, kind), here, "")
    assert (here / "requires.txt").read_text() == requires
    assert {path.name for path in (here / "source").iterdir()} == {name.partition("/")[2] for name in files}


@pytest.mark.parametrize(
    ("files", "digest", "reason"),
    [
        ({"x/a": ""}, "0" * 64, "has the sha256 .*, and the list has 0000"),
        ({"../a": ""}, "", "cannot be fetched: OutsideDestinationError"),
        ({"x/pyproject.toml": "["}, "", "cannot be fetched: TOMLDecodeError"),
    ],
)
def test_an_odd_source_is_refused(tmp_path: Path, files: dict[str, str], digest: str, reason: str) -> None:
    here = tmp_path / "here"
    here.mkdir()
    url, right = archive(tmp_path, files)
    program = [sys.executable, "-IS", sdist.__file__, url, digest or right, str(here)]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert re.search(reason, done.stderr)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "a").exists()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Repository]]:
    """A repository, and its address at a server."""
    repository = Repository(tmp_path / "repository")
    for name in ("lib/a.py", "lib/pyproject.toml", "main.py"):
        repository.commit(name, "")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given, directory=str(repository.path))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"git+http://127.0.0.1:{server.server_port}/.git", repository
        server.shutdown()
        thread.join()


def run_sdist(tmp_path: Path, *words: str, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    here = tmp_path / "here"
    here.mkdir()
    program = [sys.executable, "-IS", sdist.__file__, words[0], words[1], str(here), *words[2:]]
    environment = {"PATH": path, "HOME": "/nonexistent", "no_proxy": "127.0.0.1"}
    return subprocess.run(program, capture_output=True, text=True, check=False, timeout=60, env=environment)


def test_the_commit_of_a_repository_is_fetched_with_what_is_in_a_directory(
    tmp_path: Path, served: tuple[str, Repository]
) -> None:
    url, repository = served
    commit = repository.git("rev-parse", "HEAD")
    repository.commit("lib/later.py", "")
    repository.git("update-server-info")
    done = run_sdist(tmp_path, url, commit, "lib")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "here/source").iterdir()) == ["a.py", "pyproject.toml"]
    assert (tmp_path / "here/requires.txt").read_text() == "setuptools >= 40.8.0\n"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"commit": "d" * 40}, "cannot be fetched: "),
        ({"inside": "nowhere"}, "has no directory nowhere"),
        ({"inside": "../.."}, r"has no directory \.\./\.\."),
        ({"url": "git+file:///srv/x"}, "transport 'file' not allowed"),
        ({"path": "/nonexistent"}, "git is not on this host"),
    ],
)
def test_an_odd_repository_is_refused(
    tmp_path: Path, served: tuple[str, Repository], change: dict[str, str], reason: str
) -> None:
    url, repository = served
    repository.git("update-server-info")
    commit = change.get("commit", repository.git("rev-parse", "HEAD"))
    words = (change.get("url", url), commit, change.get("inside", ""))
    done = run_sdist(tmp_path, *words, path=change.get("path", os.environ["PATH"]))
    assert done.returncode == 1
    assert re.search(reason, done.stderr)
    assert "Traceback" not in done.stderr
