"""What check mode asks uv: in a unit of its own, and nothing stays of it."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from appctl import cli, fetch, sandbox
from appctl.app import App
from appctl.process import CtlError

REQUEST = {
    "list": "idna==3.11 --hash=sha256:00\n",
    "python": "/usr/bin/python3",
    "version": "3.13.5",
    "index": ["--index-url", "https://example.org/simple"],
    "uv": {"version": "0.9.0"},
}


@pytest.fixture
def app(tmp_path: Path) -> App:
    return App("fastapi", tmp_path)


def ask(
    monkeypatch: pytest.MonkeyPatch, app: App, request: Any, answer: tuple[int, str, str] = (0, "", "")
) -> list[Any]:
    """What the command has asked of systemd."""
    asked: list[Any] = []

    def confined(*arguments: Any) -> tuple[int, str, str]:
        asked.extend(arguments)
        return answer

    monkeypatch.setattr(sandbox, "confined", confined)
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(request)))
    arguments = cli.parser("fastapi", "resolve").parse_args(["resolve"])
    assert arguments.function(app, arguments) == {"changed": False, "resolved": True}
    return asked


def test_uv_is_asked_what_it_would_install(monkeypatch: pytest.MonkeyPatch, app: App) -> None:
    unit, command, properties, stdin, _, disks = ask(monkeypatch, app, REQUEST)
    assert unit not in ("fastapi.service", fetch.unit(app))
    assert unit.startswith("fastapi-resolve-")
    assert {"--dry-run", "--require-hashes", "--no-build", "https://example.org/simple"} <= set(command[2].split())
    assert stdin == REQUEST["list"]
    assert set(sandbox.CONFINED) <= set(properties)
    assert disks == (fetch.TEMPORARY,)


def test_nothing_stays_of_it(monkeypatch: pytest.MonkeyPatch, app: App) -> None:
    ask(monkeypatch, app, REQUEST)
    with pytest.raises(CtlError):
        ask(monkeypatch, app, REQUEST, (1, "", "no"))
    assert not list(app.private.iterdir())
    assert not app.virtualenvs.exists()
    assert not app.releases.exists()


def test_what_uv_says_is_the_reason(monkeypatch: pytest.MonkeyPatch, app: App) -> None:
    with pytest.raises(CtlError, match=r"^there is no version of idna==3\.99$"):
        ask(monkeypatch, app, REQUEST, (1, "", "there is no version of idna==3.99\n"))
    with pytest.raises(CtlError, match=r"^uv exited with status 2$"):
        ask(monkeypatch, app, REQUEST, (2, "", ""))


@pytest.mark.parametrize("request_", [{}, [], "x", {**REQUEST, "index": None}, {**REQUEST, "uv": None}])
def test_an_odd_request_is_said(monkeypatch: pytest.MonkeyPatch, app: App, request_: Any) -> None:
    with pytest.raises(CtlError, match="is not understood"):
        ask(monkeypatch, app, request_)


@pytest.mark.parametrize("version", ["", "..", "1/../../../tmp/uv", "/tmp/uv", "1.0\n", "$(id)", "1" * 65])
def test_the_version_of_uv_names_no_other_place(monkeypatch: pytest.MonkeyPatch, app: App, version: str) -> None:
    with pytest.raises(CtlError, match=r"^resolve: the request names no version of uv$"):
        ask(monkeypatch, app, {**REQUEST, "uv": {"version": version}})


@pytest.mark.parametrize("text", ["", "{", "[" * 200_000])
def test_what_is_no_request_is_said(monkeypatch: pytest.MonkeyPatch, app: App, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    arguments = cli.parser("fastapi", "resolve").parse_args(["resolve"])
    with pytest.raises(CtlError, match=r"^resolve: the request on standard input is not valid JSON$"):
        arguments.function(app, arguments)
