"""Hooks run once in a run, on the controller, with a document that has no secret, and are told when they fail."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from gunicorn_fastapi_controller import hooks

ROOT = Path(__file__).parent.parent
NOW, NEXT = "0d6a72e61398", "a6bdd18596b9"


def document(event: str, directory: Path) -> list[Any]:
    """What the hook of an event was given, each time that it ran."""
    path = directory / event
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Playbook:
    """Runs plays whose hooks append what they get to files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        script = directory / "hook"
        script.write_text(
            f'#!/bin/sh\ncat >>"{directory}/$1"\n[ ! -e "{directory}/fail-$1" ] || {{ echo no ticket; exit 3; }}\n'
        )
        script.chmod(0o755)
        self.hooks: dict[str, Any] = {event: [str(script), event] for event in hooks.EVENTS}

    def run(
        self,
        *tasks: dict[str, Any],
        hosts: int = 3,
        arguments: tuple[str, ...] = (),
        environment: Any = (),
        **play: Any,
    ) -> str:
        """The output of a run on some hosts; its status is in `status`."""
        # Naming the role makes its plugins known.
        known = {"ansible.builtin.import_role": {"name": "gunicorn_fastapi", "tasks_from": "status"}, "when": False}
        head = {
            "hosts": "all", "connection": "local", "gather_facts": False, "tasks": [known, *tasks],
            "vars": {
                "ansible_python_interpreter": sys.executable,
                "gunicorn_fastapi_hooks": self.hooks,
                "gunicorn_fastapi_credentials": {"password": "hunter2hunter2"},
            },
        }  # fmt: skip
        (self.directory / "play.yml").write_text(yaml.safe_dump([{**head, **play}]))
        inventory = ",".join(f"web{number}" for number in range(1, hosts + 1)) + ","
        done = subprocess.run(
            [
                Path(sys.executable).parent / "ansible-playbook",
                f"--inventory={inventory}",
                *arguments,
                str(self.directory / "play.yml"),
            ],
            env={
                **{name: value for name, value in os.environ.items() if name != hooks.VARIABLE},
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
                "ANSIBLE_HOME": str(self.directory / "home"),
                **dict(environment),
            },
            cwd=self.directory, capture_output=True, text=True, check=False,
        )  # fmt: skip
        self.status = done.returncode
        return done.stdout + done.stderr


@pytest.fixture
def playbook(tmp_path: Path) -> Playbook:
    return Playbook(tmp_path)


def begin(to: str = NEXT, now: str = NOW) -> dict[str, Any]:
    """The task that says that hosts are going to change."""
    hosts = (
        "{%- set found = [] -%}{%- for host in ansible_play_hosts_all -%}"
        f"{{%- set _ = found.append({{'name': host, 'from': '{now}', 'to': '{to}', 'changes': {now != to}}}) -%}}"
        "{%- endfor -%}{{- found -}}"
    )
    return {
        "name": "begin", "run_once": True,
        "gunicorn_fastapi_hook": {"application": "shop", "action": "deploy", "commit": "c0ffee", "hosts": hosts},
    }  # fmt: skip


def test_hooks_run_once_whatever_the_number_of_hosts_and_batches(playbook: Playbook, tmp_path: Path) -> None:
    output = playbook.run(begin(), serial=[1, 1])
    assert playbook.status == 0, output
    (before,), (after,) = document("before_deploy", tmp_path), document("after_deploy", tmp_path)
    assert not document("on_failure", tmp_path)
    about = {"application": "shop", "action": "deploy", "from": NOW, "to": NEXT, "commit": "c0ffee", "reason": None}
    assert about.items() <= before.items()
    assert (before["outcome"], before["seconds"]) == (None, None)
    assert before["hosts"] == [
        {"name": f"web{number}", "from": NOW, "to": NEXT, "outcome": None} for number in (1, 2, 3)
    ]
    assert about.items() <= after.items()
    assert (after["outcome"], after["who"]) == ("done", before["who"])
    assert isinstance(after["seconds"], float)


def test_before_deploy_stops_the_run(playbook: Playbook, tmp_path: Path) -> None:
    (tmp_path / "fail-before_deploy").touch()
    changed = {"ansible.builtin.file": {"path": str(tmp_path / "changed"), "state": "touch", "mode": "0600"}}
    output = playbook.run(begin(), changed, serial=1)
    assert playbook.status == 2
    message = "before_deploy has failed, so nothing was changed: exit status 3: no ticket. Do what it asks for"
    assert message in " ".join(output.split())
    assert not (tmp_path / "changed").exists()
    (failure,) = document("on_failure", tmp_path)
    assert failure["outcome"] == "failed"
    assert "exit status 3: no ticket" in failure["reason"]
    assert not document("after_deploy", tmp_path)


def test_a_failure_is_told_without_secrets(playbook: Playbook, tmp_path: Path) -> None:
    fail = {
        "ansible.builtin.fail": {"msg": "password hunter2hunter2 is wrong\nTraceback"},
        "when": "inventory_hostname == 'web2'",
    }
    output = playbook.run(begin(), fail)
    assert playbook.status == 2, output
    (failure,) = document("on_failure", tmp_path)
    assert failure["reason"] == "web2: password *** is wrong"
    assert [host["outcome"] for host in failure["hosts"]] == ["unchanged", "failed", "unchanged"]
    assert not document("after_deploy", tmp_path)


def test_a_lost_host_is_a_failure(playbook: Playbook, tmp_path: Path) -> None:
    lose = {
        "ansible.builtin.raw": "true",
        "vars": {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1},
    }
    output = playbook.run(begin(), {**lose, "when": "inventory_hostname == 'web1'"}, hosts=2)
    assert playbook.status == 4, output
    (failure,) = document("on_failure", tmp_path)
    assert [host["outcome"] for host in failure["hosts"]] == ["failed", "unchanged"]
    assert failure["reason"].startswith("web1: ")


def test_a_rescued_failure_is_none(playbook: Playbook, tmp_path: Path) -> None:
    tried = {"block": [{"ansible.builtin.fail": {"msg": "no"}}], "rescue": [{"ansible.builtin.debug": {"msg": "yes"}}]}
    playbook.run(begin(), tried, hosts=1)
    assert playbook.status == 0
    (after,) = document("after_deploy", tmp_path)
    assert (after["outcome"], after["reason"]) == ("done", None)
    assert not document("on_failure", tmp_path)


@pytest.mark.parametrize("event", ["after_deploy", "on_failure"])
def test_what_fails_afterwards_is_said_and_harms_nothing(playbook: Playbook, tmp_path: Path, event: str) -> None:
    (tmp_path / f"fail-{event}").touch()
    then = [{"ansible.builtin.fail": {"msg": "no"}}] if event == "on_failure" else []
    output = playbook.run(begin(), *then, hosts=1)
    assert playbook.status == (2 if then else 0)
    assert len(document(event, tmp_path)) == 1
    assert f"{event} has failed, which changes nothing else: exit status 3: no ticket" in " ".join(output.split())


def test_check_mode_runs_none_and_says_so(playbook: Playbook, tmp_path: Path) -> None:
    output = playbook.run(begin(), arguments=("--check",))
    assert playbook.status == 0
    assert output.count("not run in check mode: after_deploy, before_deploy, on_failure") == 1
    assert not any(document(event, tmp_path) for event in hooks.EVENTS)


def test_where_nothing_changes_none_is_run(playbook: Playbook, tmp_path: Path) -> None:
    playbook.run(begin(to=NOW))
    assert playbook.status == 0
    assert not any(document(event, tmp_path) for event in hooks.EVENTS)


def test_without_the_callback_the_run_is_refused(playbook: Playbook, tmp_path: Path) -> None:
    """A collection's is not loaded by itself, and then on_failure would never come."""
    places = {"ANSIBLE_LIBRARY": str(ROOT / "plugins/modules"), "ANSIBLE_ACTION_PLUGINS": str(ROOT / "plugins/action")}
    output = playbook.run(hosts=1, tasks=[begin()], environment={**places, hooks.VARIABLE: "1"})
    assert playbook.status == 2
    assert "Ansible has not loaded the callback gunicorn_fastapi_hooks." in " ".join(output.split())
    assert not any(document(event, tmp_path) for event in hooks.EVENTS)


@pytest.mark.parametrize(
    ("command", "words"),
    [("hooks/notify --to 'the shop'", ["hooks/notify", "--to", "the shop"]), (["a b", "$HOME"], ["a b", "$HOME"])],
)
def test_no_shell_reads_a_command(command: object, words: list[str]) -> None:
    assert hooks.words(command) == words


@pytest.mark.parametrize("command", ["", [], "'", {}, None, [1], [""], ["a\0"]])
def test_what_is_no_command(command: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        hooks.words(command)
    assert hooks.wrong({"after_deploy": command}).startswith("after_deploy must be a command")


def test_a_hook_gets_its_document_and_is_bounded() -> None:
    assert hooks.run(["grep", "-q", '^{"a": "b"}$'], {"a": "b"}, 30) == ""
    assert hooks.run("cat", {"a": "b" * 1000000}, 30) == ""  # nobody reads what it prints
    assert hooks.run(["sh", "-c", "printf 'x\\033[2J'; exit 2"], {}, 30) == "exit status 2: x?[2J"
    assert hooks.run(["sh", "-c", "kill -9 $$"], {}, 30) == "killed by signal 9"
    assert hooks.run("/nonexistent", {}, 30).startswith("it cannot be started: ")
    assert hooks.run(["sh", "-c", "sleep 1000"], {}, 0.1) == "it did not end within 0.1 s and was killed"


def test_a_reason_is_one_line_without_secrets() -> None:
    assert hooks.hidden("no\x1b[2J tea\nfor two", []) == "no?[2J tea"
    assert hooks.hidden("password1234 of user", ["password1234", "password", "user", 5]) == "*** of user"


def result(action: str, answer: dict[str, Any], **arguments: object) -> Any:
    """A result as Ansible gives it to a callback."""
    return SimpleNamespace(
        host=SimpleNamespace(name="web1"), task=SimpleNamespace(action=action, args=arguments), result=answer
    )


@pytest.mark.parametrize("prefix", ["", "gunicorn_fastapi.systemd."])
def test_a_host_is_done_when_it_was_handed_over(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    specification = importlib.util.spec_from_file_location(
        "hooks_plugin", ROOT / "plugins/callback/gunicorn_fastapi_hooks.py"
    )
    assert specification
    assert specification.loader
    plugin = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(plugin)
    monkeypatch.setenv(hooks.VARIABLE, "")
    monkeypatch.setattr(plugin.CallbackModule, "_values", lambda *_: {})
    callback = plugin.CallbackModule()
    hosts = [{"name": name, "from": NOW, "to": NEXT, "outcome": None} for name in ("web1", "web2")]
    about = {"application": "shop", "action": "deploy", "commit": None, "who": "me@here", "hosts": hosts}
    callback.v2_runner_on_ok(result(f"{prefix}gunicorn_fastapi_hook", {"about": about}))
    assert os.environ[hooks.VARIABLE] == f"{os.getpid()} shop"
    callback.v2_runner_on_ok(result(f"{prefix}gunicorn_fastapi_ctl", {"changed": True}, command=["preflight", NEXT]))
    (run,) = callback._runs.values()  # noqa: SLF001
    assert run.outcomes == {"web1": "unchanged", "web2": "unchanged"}
    callback.v2_runner_on_ok(result(f"{prefix}gunicorn_fastapi_ctl", {"changed": True}, command=["handover", NEXT]))
    assert run.over({"web2"})[0] == "on_failure"
    assert run.outcomes == {"web1": "done", "web2": "failed"}
    callback.v2_playbook_on_stats(SimpleNamespace(processed={}))
    assert os.environ[hooks.VARIABLE] == str(os.getpid())
