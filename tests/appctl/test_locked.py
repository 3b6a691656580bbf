"""Lists that uv makes: once, in the sandbox of a build, and kept."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from appctl import cli, disk, fetch, interpreter, locked, sandbox, talk, wheels
from appctl.interpreter import Interpreter
from appctl.process import CtlError
from ctl_host import Host

KEY = "a" * 40
REQUEST: dict[str, Any] = {
    "key": KEY,
    "relock": False,
    "resolves": True,
    "command": ["pip", "compile", "--no-build", "--generate-hashes", "pyproject.toml"],
    "directory": ".",
    "files": {"pyproject.toml": "[project]", "api/pyproject.toml": ""},
    "python": "/usr/bin/python3",
    "index": ["--index-url", "https://example.org/simple"],
    "uv": {"version": "0.9.0", "list": "uv==0.9.0"},
}


class Uv:
    """uv in its sandbox: what it was asked, and what it says."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.asked: list[tuple[Any, ...]] = []
        self.sent: dict[str, str] = {}
        self.answer = (0, "six==1\n", "")
        self.answers: list[tuple[int, str, str]] = []

    def confined(self, *words: Any) -> tuple[int, str, str]:
        self.asked.append(words)
        (bind,) = [line for line in words[2] if line.startswith("BindReadOnlyPaths=") and "/project:" in line]
        project = Path(bind.partition("=")[2].partition(":")[0])
        files = [path for path in project.rglob("*") if path.is_file()]
        self.sent = {str(path.relative_to(project)): path.read_text() for path in files}
        return self.answers.pop(0) if self.answers else self.answer


@pytest.fixture
def uv(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Uv:
    uv = Uv(host)
    tool = tmp_path / "uv-0.9.0/bin/uv"
    tool.parent.mkdir(parents=True)
    tool.touch()
    monkeypatch.setattr(fetch, "TOOLS", tmp_path)
    monkeypatch.setattr(sandbox, "confined", uv.confined)
    monkeypatch.setattr(interpreter, "tried", lambda *_: Interpreter("3.13.5", "/usr/bin/python3.13"))
    return uv


def ask(host: Host, monkeypatch: pytest.MonkeyPatch, word: str, request: Any) -> Any:
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(request)))
    arguments = cli.parser("fastapi", word).parse_args([word])
    return arguments.function(host, arguments)


def test_a_list_is_made_once(host: Host, uv: Uv, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ask(host, monkeypatch, "lock", REQUEST)
    assert first["changed"]
    assert first["lines"] == ["six==1"]
    uv.answer = (0, "six==2\n", "")
    assert ask(host, monkeypatch, "lock", REQUEST) == {**first, "changed": False}
    assert ask(host, monkeypatch, "locked", {"key": KEY}) == {**first, "changed": False}
    assert len(uv.asked) == 1
    assert ask(host, monkeypatch, "lock", {**REQUEST, "relock": True})["lines"] == ["six==2"]
    assert ask(host, monkeypatch, "locked", {"key": KEY})["lines"] == ["six==2"]
    assert ask(host, monkeypatch, "locked", {"key": "b" * 40}) == {"changed": False}


def test_uv_is_asked_in_the_sandbox_of_a_build(host: Host, uv: Uv, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(host, monkeypatch, "lock", {**REQUEST, "directory": "api"})
    unit, command, properties, _, _, disks = uv.asked[0]
    assert unit == fetch.unit(host)
    assert set(sandbox.CONFINED) <= set(properties)
    assert disks == (host.cache, fetch.TEMPORARY)
    assert f"cd {host.root}/project/api\n" in command[2]
    assert (
        "pip compile --no-build --generate-hashes pyproject.toml --python=/usr/bin/python3.13 --index-url https://example.org/simple"
        in command[2]
    )
    assert uv.sent == REQUEST["files"]
    assert not list(host.incoming.iterdir())


def test_all_that_has_no_wheel_is_named_where_one_cannot_be_built(
    host: Host, uv: Uv, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: Any) -> None:
        raise CtlError("docopt was not built")

    monkeypatch.setattr(wheels, "build", build)
    other = PYLOCK[PYLOCK.rindex("[[packages]]") :].replace("docopt", "other")
    uv.answers = [(0, "", ""), (0, PYLOCK + other, "")]
    with pytest.raises(CtlError, match=r"^docopt was not built\. Without a wheel are: docopt, other$"):
        ask(host, monkeypatch, "lock", {**REQUEST, "command": ["export"], "resolves": False})


def test_a_package_of_the_project_is_built_of_what_was_sent(
    host: Host, uv: Uv, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = '[[packages]]\nname = "lib"\ndirectory = {path = "../lib"}\n'
    uv.answers = [(0, "./lib\n", ""), (0, lock, "")]
    made: list[Any] = []

    def build(*words: Any) -> tuple[str, str, list[str]]:
        made.extend(words[-2:])
        return "lib-1-py3-none-any.whl", "22", ["eA=="]

    monkeypatch.setattr(wheels, "build", build)
    request = {"sources": {"lib/x.py": "eCA9IDE="}, "directory": "api", "command": ["export"], "resolves": False}
    answer = ask(host, monkeypatch, "lock", {**REQUEST, **request})
    assert answer["lines"] == ["./wheels/lib-1-py3-none-any.whl --hash=sha256:22"]
    assert answer["wheels"] == {"lib-1-py3-none-any.whl": ["eA=="]}
    assert made[0].url == f"dir+{host.root}/project/lib"
    assert made[1][0].endswith(f"/project:{host.root}/project")
    assert uv.sent["lib/x.py"] == "x = 1"


def test_a_lock_that_uv_changes_is_a_copy(host: Host, uv: Uv, monkeypatch: pytest.MonkeyPatch) -> None:
    uv.answers = [(0, "six==1\n", ""), (0, "packages = []", "")]
    words = ["export", "--upgrade-package=six", "--format=requirements-txt"]
    ask(host, monkeypatch, "lock", {**REQUEST, "directory": "api", "command": words})
    assert f"cp -R {host.root}/project /tmp/project\ncd /tmp/project/api\n" in uv.asked[0][1][2]
    assert uv.sent == REQUEST["files"]


def test_what_resolves_nothing_reaches_no_index(host: Host, uv: Uv, monkeypatch: pytest.MonkeyPatch) -> None:
    uv.answers = [(0, "six==1\n", ""), (0, "packages = []", "")]
    ask(host, monkeypatch, "lock", {**REQUEST, "resolves": False, "command": ["export", "--format=requirements-txt"]})
    assert "PrivateNetwork=yes" in uv.asked[0][2]
    assert "--index-url" not in uv.asked[0][1][2]


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (
            "cause: Because you require uvicorn==0.20.0 and uvicorn>=0.30,<0.55, we can conclude.",
            "Leave the server out of",
        ),
        (
            "No solution found\n uvicorn[standard]==0.32.0 depends on httptools>=0.6.3 and httptools==0.6.1, we can",
            "name it in gunicorn_fastapi_upgrade",
        ),
        ("No solution found: x>=1 and x==0", "gunicorn_fastapi_lock_date"),
        ("ModuleNotFoundError: No module named 'pkg_resources'", "gunicorn_fastapi_lock_date"),
    ],
)
def test_what_to_do_is_said(host: Host, uv: Uv, monkeypatch: pytest.MonkeyPatch, words: str, advice: str) -> None:
    uv.answer = (1, "", words)
    with pytest.raises(CtlError) as failure:
        ask(host, monkeypatch, "lock", REQUEST)
    assert str(failure.value).startswith(f"{words.rstrip('.')}. ")
    assert advice in str(failure.value)


def test_uv_s_words_are_told_and_nothing_is_kept(host: Host, uv: Uv, monkeypatch: pytest.MonkeyPatch) -> None:
    uv.answer = (1, "", "No solution found when resolving")
    with pytest.raises(
        CtlError, match=r"^No solution found when resolving\. For a list of years ago, gunicorn_fastapi_lock_date"
    ):
        ask(host, monkeypatch, "lock", REQUEST)
    assert ask(host, monkeypatch, "locked", {"key": KEY}) == {"changed": False}
    assert not list(host.incoming.iterdir())


def test_a_list_of_another_host_is_kept(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    request = {"key": KEY, "made": 5.5, "lines": ["six==1"], "wheels": {}}
    assert ask(host, monkeypatch, "keep", request) == {"changed": True}
    assert ask(host, monkeypatch, "keep", request) == {"changed": False}
    assert ask(host, monkeypatch, "locked", request) == {
        "changed": False,
        "made": 5.5,
        "lines": ["six==1"],
        "wheels": {},
    }


def test_the_oldest_lists_are_forgotten(host: Host) -> None:
    for number in range(locked.KEPT + 3):
        locked.keep(host, f"{number:040x}", float(number), {"lines": [], "wheels": {}})
        path = host.locks / f"{number:040x}.json"
        if path.exists():
            os.utime(path, (number, number))
    assert len(list(host.locks.iterdir())) == locked.KEPT
    assert locked.kept(host, f"{locked.KEPT + 2:040x}")


def test_what_cannot_be_read_is_not_kept(host: Host) -> None:
    host.locks.mkdir(parents=True)
    for text in ("", "[]", '{"made": "x", "lines": []}', '{"made": 1, "lines": 5}', "[" * 100_000):
        disk.durable(host.locks / f"{KEY}.json", text)
        assert locked.kept(host, KEY) == {}


@pytest.mark.parametrize(
    "odd",
    [
        {"key": "../x"},
        {"files": {"../x": ""}},
        {"files": {"/x": ""}},
        {"directory": "../.."},
        {"files": []},
        {"uv": {}},
    ],
)
def test_no_request(host: Host, uv: Uv, monkeypatch: pytest.MonkeyPatch, odd: dict[str, Any]) -> None:
    with pytest.raises(CtlError, match="the request"):
        ask(host, monkeypatch, "lock", {**REQUEST, **odd})
    assert not uv.asked


def test_a_long_list_is_answered_whole(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"package-{number}==1 --hash=sha256:{'0' * 64}" for number in range(500)]
    locked.keep(host, KEY, 1.0, {"lines": lines, "wheels": {"x.whl": ["0" * 16000] * 3}})
    monkeypatch.setattr(cli, "App", lambda _: host)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(talk, "quiet", False)  # given back afterwards: --json sets it for the whole process
    monkeypatch.setattr(talk, "said", [])
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"key": KEY})))
    cli.main("fastapi", ["locked", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["lines"] == lines
    assert answer["wheels"] == {"x.whl": ["0" * 16000] * 3}


PYLOCK = """
[[packages]]
name = "six"
version = "1"
wheels = [{name = "six-1-py3-none-any.whl"}]
[[packages]]
name = "docopt"
version = "0.6.2"
sdist = {url = "https://example.org/docopt.tar.gz", hashes = {sha256 = "11"}}
"""


def test_what_has_no_wheel_is_built(host: Host, uv: Uv, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*words: Any) -> tuple[str, str, list[str]]:
        assert words[-2] == wheels.Source("docopt", "0.6.2", "https://example.org/docopt.tar.gz", "11")
        return "docopt-0.6.2-py3-none-any.whl", "22", ["texts"]

    monkeypatch.setattr(wheels, "build", build)
    monkeypatch.setattr(talk, "said", [])
    lines = "docopt==0.6.2 ; python_version > '3' \\\n    --hash=sha256:11\nsix==1 \\\n    --hash=sha256:00\n"
    uv.answers = [(1, "", "docopt has no usable wheels"), (0, lines, ""), (0, PYLOCK, "")]
    made = ask(host, monkeypatch, "lock", REQUEST)
    assert made["lines"] == [
        "./wheels/docopt-0.6.2-py3-none-any.whl ; python_version > '3' --hash=sha256:22",
        "six==1 \\",
        "    --hash=sha256:00",
    ]
    assert made["wheels"] == {"docopt-0.6.2-py3-none-any.whl": ["texts"]}
    assert ask(host, monkeypatch, "locked", {"key": KEY}) == {**made, "changed": False}
    commands = [asked[1][2] for asked in uv.asked]
    assert ["--no-build" in command for command in commands] == [True, False, False]
    assert commands[2].partition("exec ")[2].split()[1:5] == [
        "pip",
        "compile",
        "pyproject.toml",
        "--format=pylock.toml",
    ]
    assert "docopt 0.6.2 has no wheel for this host: docopt-0.6.2-py3-none-any.whl was built of its source" in talk.said
