"""One list of variables: the defaults and the README's table follow from the argument specification."""

import re
from pathlib import Path

import variables
import yaml

ROOT = Path(__file__).parent.parent
ROLE = ROOT / "roles/gunicorn_fastapi"
DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
OPTIONS = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
TYPES = {"str": str, "int": int, "list": list, "dict": dict, "bool": bool, "raw": object}


def test_defaults_and_specification_list_the_same_variables() -> None:
    assert list(DEFAULTS) == list(OPTIONS)
    assert list(DEFAULTS.values()) == [option["default"] for option in OPTIONS.values()]


def test_each_default_is_of_its_type() -> None:
    for name, option in OPTIONS.items():
        assert isinstance(DEFAULTS[name], TYPES[option["type"]]), name


def test_what_follows_from_the_specification_is_written() -> None:
    for path, text in variables.written().items():
        assert path.read_text() == text, "run tools/variables.py"


def test_a_default_is_read_back_as_it_was_described() -> None:
    for value in (
        "any",
        "",
        "yes",
        "5",
        "1.5",
        "a: b",
        "#",
        "é",
        "{{ x }}",
        "~/src",
        True,
        5,
        [],
        ["*", "80:80"],
        {"a": [1]},
    ):
        assert yaml.safe_load(variables.as_yaml(value)) == value


def test_names_begin_with_the_role() -> None:
    assert all(name.startswith("gunicorn_fastapi_") for name in DEFAULTS)
    internal = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    assert all(name.startswith("__gunicorn_fastapi_") for name in internal)


def test_every_variable_is_used() -> None:
    paths = [*ROLE.glob("tasks/*.yml"), *ROLE.glob("vars/*.yml"), *ROLE.rglob("*.j2")]
    role = "".join(path.read_text() for path in paths)
    for name in DEFAULTS:
        assert re.search(rf"\b{name}\b", role), f"{name} changes nothing"


def test_the_readme_has_the_table() -> None:
    assert variables.table() in (ROOT / "README.md").read_text(), "run tools/variables.py"


def test_a_release_is_proved_before_it_serves() -> None:
    tasks = [task for phase in ("prove", "serve") for task in yaml.safe_load((ROLE / f"tasks/{phase}.yml").read_text())]
    words = ("ansible.builtin.import_tasks", "ansible.builtin.include_tasks")
    files = [task[word] for task in tasks for word in words if word in task]
    assert files == [
        "check.yml", "hooks.yml", "prepare.yml", "control.yml", "python.yml", "keep.yml", "release.yml", "edge.yml",
        "units.yml", "import.yml", "release_command.yml", "preflight.yml", "release_command.yml",
        "input.yml", "handover.yml", "domains.yml", "prune.yml",
    ]  # fmt: skip
