"""Every way into the role checks its variables first, and uses them in their types wherever they come from."""

import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import variables
import yaml
from gunicorn_fastapi_controller import release

ROOT = Path(__file__).parent.parent
ROLE = ROOT / "roles/gunicorn_fastapi"
ENTRIES = ["main", "prove", "serve", "rollback", "restart", "run", "status", "doctor", "logs", "history", "uninstall"]


def told(directory: Path, tasks: list[dict[str, Any]], *arguments: str) -> Any:
    """What the variable `told` is after the tasks of a play on this machine."""
    write = {
        "ansible.builtin.copy": {"content": "{{ told | to_json }}", "dest": str(directory / "told"), "mode": "0600"}
    }
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [*tasks, write]}
    options = [
        "--inventory=localhost,",
        f"-erole_path={ROLE}",
        f"-eansible_python_interpreter={sys.executable}",
        *arguments,
    ]
    (directory / "play.yml").write_text(yaml.safe_dump([play]))
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", *options, directory / "play.yml"],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_ROLES_PATH": str(ROOT / "roles")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((directory / "told").read_text())


def test_each_entry_point_is_described() -> None:
    described = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]
    assert list(described) == ENTRIES
    assert all(entry["options"] == described["main"]["options"] for entry in described.values())


def test_each_entry_point_refuses_wrong_variables_before_all_else(tmp_path: Path) -> None:
    remember = "{{ told | default([]) + [ansible_failed_task.name ~ ': ' ~ ansible_failed_result.msg] }}"
    tasks = []
    for entry in ENTRIES:
        role = {"name": "gunicorn_fastapi", "tasks_from": entry, "rolespec_validate": False}
        task = {"ansible.builtin.include_role": role}
        tasks.append({"block": [task], "rescue": [{"ansible.builtin.set_fact": {"told": remember}}]})
    wrong = {"name": "Web App", "backlog": "many", "environment": {"A": "{{ nope }}"}, "app_module": "{{ omit }}"}
    said = told(tmp_path, tasks, "-e", json.dumps({f"gunicorn_fastapi_{name}": value for name, value in wrong.items()}))
    assert len(said) == len(ENTRIES)
    for text in said:
        assert re.fullmatch(
            "input . Refuse invalid variables: "
            "gunicorn_fastapi_environment: its value cannot be had: 'nope' is undefined\n"
            "gunicorn_fastapi_app_module: null is not .*\n"
            'gunicorn_fastapi_backlog: "many" is not .*\n'
            'gunicorn_fastapi_name: "Web App" names units.*',
            text,
        )


def test_each_playbook_goes_in_by_an_entry_point() -> None:
    plays = [play for path in (ROOT / "playbooks").glob("*.yml") for play in yaml.safe_load(path.read_text())]
    ways = ("ansible.builtin.import_role", "ansible.builtin.include_role")
    roles = [task.get(way) for play in plays for task in play["tasks"] for way in ways]
    used = [role["tasks_from"] for role in roles if role]
    assert sorted(used) == sorted(set(ENTRIES) - {"main"})


def test_the_templates_get_variables_of_the_command_line_in_their_types(tmp_path: Path) -> None:
    tasks: list[dict[str, Any]] = [
        {"ansible.builtin.include_role": {"name": "gunicorn_fastapi", "tasks_from": "input", "public": True}},
        {"ansible.builtin.set_fact": {"__gunicorn_fastapi_host": {"systemd": 257}}},
        {
            "ansible.builtin.set_fact": {
                "told": ["{{ __gunicorn_fastapi_files | from_json }}", "{{ __gunicorn_fastapi_addresses | from_json }}"]
            }
        },
    ]
    given = {
        "start_timeout": "7", "graceful_timeout": "20", "executable_memory": "no",
        "bind": "127.0.0.1:8001,[::1]:8001", "egress": '["10.0.0.0/8"]', "workers": "3", "log_quiet": "/a,/b",
    }  # fmt: skip
    arguments = (f"-egunicorn_fastapi_{name}={value}" for name, value in given.items())
    options = {
        "gunicorn_fastapi_uvicorn_settings": {"root_path": "/shop", "ws_ping_timeout": None},
        "gunicorn_fastapi_allowed_clients": {"/b": ["10.0.0.1"], "/a": ["::1"]},
    }
    files, addresses = told(tmp_path, tasks, *arguments, f"-e{json.dumps(options)}")
    unit = files["systemd/fastapi.service"].splitlines()
    assert {"TimeoutStartSec=89", "MemoryDenyWriteExecute=yes"} <= set(unit)
    assert "graceful_timeout = 20\n" in files["etc/gunicorn.conf.py"]
    assert [line for line in unit if line.startswith("IPAddressAllow=")] == ["IPAddressAllow=10.0.0.0/8"]
    # Under a root_path paths are logged with it.
    assert '"quiet": ["/a", "/b", "/shop/a", "/shop/b"]' in files["etc/logging.conf"]
    assert re.search(r"\nhooks.uvicorn\(.*'root_path', '/shop'.*'ws_ping_timeout', None", files["etc/gunicorn.conf.py"])
    # In the same order always, for the release's id.
    assert '\nDrainingUvicornWorker.allowed = {"/a": ["::1"], "/b": ["10.0.0.1"]}\n' in files["etc/gunicorn.conf.py"]
    assert addresses["bind"] == ["127.0.0.1:8001", "[::1]:8001"]
    assert addresses["backlog"] == 4096


def test_no_template_goes_without_them() -> None:
    text = (ROLE / "vars/main.yml").read_text()
    lookups = re.findall(r"lookup\('ansible\.builtin\.template'.*?\.j2'(.*?)\)", text, re.DOTALL)
    assert lookups
    for rest in lookups:
        assert re.search(r"template_vars=(dict\()?__gunicorn_fastapi_inputs", rest), rest


# A mapping has one type alone; a text is one. A list is not: Ansible leaves the spaces in "a, b".
@pytest.mark.parametrize(
    "name",
    [
        name
        for name, o in variables.options().items()
        if o["type"] not in ("str", "dict") and o.get("elements") != "dict"
    ],
)
def test_no_task_reckons_with_a_variable_that_could_be_a_string(name: str) -> None:
    bare_use = "" if variables.options()[name]["type"] == "list" else rf"|{{{{ {name} }}}}"
    for path in [*ROLE.glob("tasks/*.yml"), ROLE / "vars/main.yml"]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            bare = re.sub(rf"__gunicorn_fastapi_inputs\.{name}\b{bare_use}|\b{name}: |-e {name}=|^ *#.*", "", line)
            assert not re.search(rf"\b{name}\b", bare), f"{path.name}:{number}: use __gunicorn_fastapi_inputs.{name}"


def test_whatever_waits_for_the_lock_is_told_how_long() -> None:
    changes = [
        (path.name, str(task[module]))
        for path in ROLE.glob("tasks/*.yml")
        for task in flat(yaml.safe_load(path.read_text()))
        for module in task
        if module == "gunicorn_fastapi_ctl"
    ]
    waiting = [name for name, asked in changes if "lock_wait" in asked or "__gunicorn_fastapi_uninstall" in asked]
    assert sorted(waiting) == sorted(
        name
        for name, asked in changes
        if not re.search(r"'(status|packages|resolve|list|locked|prepared|run|logs|history)'", asked)
    )
    assert len(waiting) == 13
    assert "lock_wait" in (ROLE / "tasks/uninstall.yml").read_text()


def test_a_release_is_packed_with_what_its_action_takes() -> None:
    action = ROOT / "plugins/action/gunicorn_fastapi_bundle.py"
    packing = importlib.util.spec_from_file_location("packing", action)
    assert packing
    assert packing.loader
    module = importlib.util.module_from_spec(packing)
    packing.loader.exec_module(module)
    (asked,) = [
        task["gunicorn_fastapi_bundle"]
        for task in flat(yaml.safe_load((ROLE / "tasks/pack.yml").read_text()))
        if "gunicorn_fastapi_bundle" in task
    ]
    assert set(asked) == set(module.OPTIONS) == set(inspect.signature(release.bundle).parameters)


def test_a_rollback_that_is_done_again_goes_no_further(tmp_path: Path) -> None:
    """Ansible does a task again after a lost connection, and "previous" is another release then."""
    (task,) = [
        task["gunicorn_fastapi_ctl"] | {"vars": task["vars"]}
        for task in yaml.safe_load((ROLE / "tasks/rollback.yml").read_text())
        if "rollback" in task.get("gunicorn_fastapi_ctl", {}).get("command", "")
    ]
    word = task["command"][1].strip("{} ")
    wanted = task["vars"][word]
    listed = {"rows": [{"role": "current", "release": "b" * 40}, {"role": "previous", "release": "a" * 40}]}
    tasks = []
    for given, answer in (("previous", listed), ("previous", {"rows": []}), ("previous", None), ("3f9a", None)):
        values = {
            "__gunicorn_fastapi_rollback_to": given,
            "__gunicorn_fastapi_list": {"answer": answer} if answer else {},
        }
        tasks.append(
            {
                "ansible.builtin.set_fact": {"told": f"{{{{ told | default([]) + [{word}] }}}}"},
                "vars": {**values, word: wanted},
            }
        )
    assert told(tmp_path, tasks) == ["a" * 40, "previous", "previous", "3f9a"]


def flat(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tasks, with those of blocks."""
    return [inner for task in tasks for inner in [task, *flat(task.get("block", []))]]
