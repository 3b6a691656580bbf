"""What a look at a host executes there."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

FILE = Path(__file__).parent.parent / "plugins" / "modules" / "gunicorn_fastapi_host.py"
NOTHING = {"release": "", "current": "", "complete": [], "busy": ""}


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Asks a control command that is there and prints a text, or fails with None."""
    spec = importlib.util.spec_from_file_location("gunicorn_fastapi_host", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
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
    said = {"release": "0d6a72e61398", "current": "0d6a72e61398", "complete": ["0d6a72e61398"], "busy": "handover"}
    assert settled(json.dumps(said), is_ours=True) == said


@pytest.mark.parametrize("printed", [None, "", "usage: shopctl", "{}"])
def test_one_of_another_version_says_nothing(settled: Callable[..., Any], printed: str | None) -> None:
    assert settled(printed, is_ours=True) == NOTHING


def test_a_foreign_command_is_not_executed(settled: Callable[..., Any]) -> None:
    """And what it would have said is there, as nothing."""
    assert settled(json.dumps({"release": "x", "busy": "y"}), is_ours=False) == NOTHING
