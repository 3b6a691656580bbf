"""The release command in a play: on which host it runs, and what becomes of the others."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parent.parent
MODULE = """
import json, os, sys
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({"name": {"type": "str"}, "command": {"type": "list", "elements": "str"}})
with open(os.environ["ASKED"], "a") as asked:
    asked.write(json.dumps(module.params["command"]) + "\\n")
if "fails" in os.environ["CASE"] and not any("ran-on" in word for word in module.params["command"]):
    module.fail_json(msg="it failed; the database may have changed\\n    the last words", answer={}, said=[])
module.exit_json(changed=True, said=["done"], answer={"release": module.params["command"][1], "ran": True})
"""
BUNDLE = {"release": "abcd", "release_command": "0123"}


class Play(NamedTuple):
    """What came of it."""

    asked: list[list[str]]
    failed: dict[str, str]
    """Why a host was not switched."""


def play(directory: Path, case: str, hosts: dict[str, dict[str, Any]]) -> Play:
    """Come to the release command with some hosts in a play as the playbook has it."""
    (directory / "library").mkdir()
    (directory / "library/gunicorn_fastapi_ctl.py").write_text(MODULE)
    (directory / "asked").touch()
    keep = {
        "ansible.builtin.copy": {
            "content": "{{ ansible_failed_result.msg }}",
            "dest": f"{directory}/failed-{{{{ inventory_hostname }}}}",
            "mode": "0600",
        },
        "delegate_to": "here",
    }
    task = {"ansible.builtin.include_tasks": str(ROOT / "roles/gunicorn_fastapi/tasks/release_command.yml")}
    tasks = [{"block": [task], "rescue": [keep]}]
    plays = [{"hosts": "all,!here", "gather_facts": False, "any_errors_fatal": True, "tasks": tasks}]
    (directory / "play.yml").write_text(yaml.safe_dump(plays))
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "gunicorn_fastapi_name": "shop",
        "__gunicorn_fastapi_bundle": BUNDLE,
        "__gunicorn_fastapi_inputs": {"gunicorn_fastapi_lock_wait": 5},
    }
    inventory = {"all": {"vars": common, "hosts": {**hosts, "here": {}}}}
    (directory / "hosts.yml").write_text(yaml.safe_dump(inventory))
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "--inventory=hosts.yml", "play.yml"],
        cwd=directory,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_LIBRARY": str(directory / "library"),
            "ASKED": str(directory / "asked"),
            "CASE": case,
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    failed = {path.name.removeprefix("failed-"): path.read_text() for path in directory.glob("failed-*")}
    assert (done.returncode == 0) or failed, done.stdout + done.stderr
    return Play([json.loads(line) for line in (directory / "asked").read_text().splitlines()], failed)


ASKED = ["release-command", "abcd", "--lock-wait=5"]


@pytest.mark.parametrize(("released", "where"), [({}, ""), ({"web1": ["other"], "web3": ["0123", "other"]}, "web3")])
def test_one_host_runs_it_unless_one_has(tmp_path: Path, released: dict[str, list[str]], where: str) -> None:
    hosts = {f"web{i}": {"__gunicorn_fastapi_host": {"released": released.get(f"web{i}", [])}} for i in (1, 2, 3)}
    asked, failed = play(tmp_path, "", hosts)
    noted = [*ASKED, f"--ran-on={where or 'web1'}"]
    assert asked[0] == (noted if where else ASKED)
    assert asked[1:] == [noted, noted]
    assert failed == {}


def test_a_failure_is_one_of_all_hosts(tmp_path: Path) -> None:
    asked, failed = play(tmp_path, "fails", {"web1": {}, "web2": {}})
    assert asked == [ASKED]
    assert failed == {
        "web1": "web1: it failed; the database may have changed\n    the last words",
        "web2": "web1: it failed; the database may have changed",
    }


def test_a_host_that_is_lost_meanwhile_switches_nobody(tmp_path: Path) -> None:
    lost = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    asked, failed = play(tmp_path, "", {"web1": lost, "web2": {}})
    assert asked == []
    for said in failed.values():
        assert "web1: what came of the release command is unknown, and it may still run" in said
        assert "the database may have changed. Deploy again when the host can be reached: " in said
    assert sorted(failed) == ["web1", "web2"]


def test_it_comes_between_the_import_and_the_proof_or_after_both() -> None:
    tasks = yaml.safe_load((ROOT / "roles/gunicorn_fastapi/tasks/prove.yml").read_text())
    files = [value for task in tasks for way, value in task.items() if way.startswith("ansible.builtin.i")]
    order = files.index("release.yml")
    assert files[order:] == [
        "release.yml", "edge.yml", "units.yml", "import.yml", "release_command.yml", "preflight.yml",
        "release_command.yml",
    ]  # fmt: skip
    whens = [task["when"] for task in tasks if str(task.get("when")).startswith("__gunicorn_fastapi_is_commanded")]
    assert [re.findall("(before|after)_proof", when) for when in whens] == [["before"], ["before"], ["after"]]
