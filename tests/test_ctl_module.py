"""How the control command's answer becomes a task's result."""

import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).parent.parent / "plugins" / "modules" / "gunicorn_fastapi_ctl.py"


class End(Exception):  # noqa: N818 (a module ends by one, also when all is well)
    """The task's result."""

    def __init__(self, **result: Any) -> None:
        self.result = result


class Module:
    """An AnsibleModule on a host whose control command prints something."""

    printed = (0, "{}", "")
    check_mode = False
    is_there = True
    command = ("rollback",)
    advice = ""

    def __init__(self, **_: Any) -> None:
        self.params = {"name": "shop", "command": list(self.command), "stdin": None, "advice": self.advice}
        self.ran: list[list[str]] = []

    def run_command(self, command: list[str], *, expand_user_and_vars: bool = True, **_: Any) -> tuple[int, str, str]:
        self.ran.append([os.path.expandvars(word) for word in command] if expand_user_and_vars else command)
        return self.printed

    def exit_json(self, **result: Any) -> None:
        raise End(failed=False, ran=self.ran, **result)

    def fail_json(self, **result: Any) -> None:
        raise End(failed=True, ran=self.ran, **result)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("gunicorn_fastapi_ctl", FILE)
    assert spec
    assert spec.loader
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    monkeypatch.setattr(program.os, "access", lambda *_: Module.is_there)
    monkeypatch.setattr(program, "AnsibleModule", Module)
    return program


def result_of(program: ModuleType) -> dict[str, Any]:
    with pytest.raises(End) as end:
        program.main()
    return end.value.result


def test_what_was_said_and_answered(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"release": "a", "said": ["line"], "changed": True}
    monkeypatch.setattr(Module, "printed", (0, json.dumps(answer), ""))
    assert result_of(program) == {
        "failed": False, "changed": True, "said": ["line"], "answer": {"release": "a"},
        "ran": [["/usr/local/sbin/shopctl", "rollback", "--json"]],
    }  # fmt: skip


def test_a_list_is_rows(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Module, "printed", (0, "[1]", ""))
    assert result_of(program)["answer"] == {"rows": [1]}


@pytest.mark.parametrize("code", [0, 1])
def test_the_reason_of_a_failure(program: ModuleType, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(Module, "printed", (code, '{"reason": "no room", "failed": true}', "noise"))
    result = result_of(program)
    assert (result["failed"], result["msg"]) == (True, "no room")


@pytest.mark.parametrize(("reason", "told"), [("TypeError: x\n  at y", True), ("refused by TypeError, a host", False)])
def test_packages_that_may_not_fit_are_told(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, reason: str, told: bool
) -> None:
    monkeypatch.setattr(Module, "advice", "Take older ones")
    monkeypatch.setattr(Module, "printed", (1, json.dumps({"failed": True, "reason": reason}), ""))
    assert result_of(program)["msg"] == (f"{reason}\nTake older ones" if told else reason)


def test_what_is_no_answer_is_shown_safely(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an interpreter that has crashed, or of whatever is in the command's place."""
    monkeypatch.setattr(Module, "printed", (1, "out\x9b\udcff", "Traceback\n\x1b[2Jx\u2028\u202e"))
    result = result_of(program)
    assert (result["failed"], result["msg"]) == (True, "Traceback\n\\x1b[2Jx\\u2028\\u202eout\\x9b\\udcff")


def test_silence_has_its_status(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Module, "printed", (137, "", ""))
    assert result_of(program)["msg"] == "/usr/local/sbin/shopctl exited with status 137"


def test_without_the_command_nothing_runs(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Module, "is_there", False)
    result = result_of(program)
    assert (result["failed"], result["ran"]) == (True, [])
    assert "shopctl not found: shop is not installed on this host" in result["msg"]


def test_check_mode_changes_nothing(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Module, "check_mode", True)
    assert result_of(program) == {
        "failed": False, "changed": False, "skipped": True, "said": [], "answer": {}, "ran": [],
    }  # fmt: skip


def test_a_word_is_passed_on_as_it_is(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ansible would put variables of root's in, unless it is told not to."""
    monkeypatch.setattr(Module, "command", ["rollback", "$HOME"])
    assert result_of(program)["ran"][0][1:] == ["rollback", "--json", "$HOME"]
