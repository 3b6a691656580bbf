"""The example of a whole application has variables that the role takes, and a list of packages that it can install."""

import re
from pathlib import Path
from typing import Any

import variables
import yaml
from gunicorn_fastapi_controller import checks, inputs

SHOP = Path(__file__).parent.parent / "examples/shop"


def test_its_variables_are_right() -> None:
    options = variables.options()
    said: dict[str, Any] = yaml.safe_load((SHOP / "shop.yml").read_text())
    given = {name: option["default"] for name, option in options.items()}
    given |= {"gunicorn_fastapi_log_quiet": ["/healthz"], **said}
    given["gunicorn_fastapi_app_source"] = str(SHOP / said["gunicorn_fastapi_app_source"])
    converted, wrong = inputs.inputs_and_problems(given, options)
    assert wrong + checks.problems(converted) == []


def test_what_it_runs_is_there() -> None:
    """A module for each command, and one list for the packages that its modules import."""
    modules = set(re.findall(r"\bshop\.(?!yml)\w+", (SHOP / "shop.yml").read_text()))
    assert modules == {"shop.worker", "shop.sweep", "shop.report", "shop.web"}
    project = SHOP / "project"
    for name in modules:
        assert (project / name.replace(".", "/")).with_suffix(".py").exists(), name
    locked = {line.partition("==")[0] for line in (project / "requirements.txt").read_text().split("\n")}
    asked = {line.partition("[")[0] for line in (project / "requirements.in").read_text().split() if line[0].isalpha()}
    assert {"alembic", "fastapi", "psycopg", "redis", "sqlalchemy"} <= asked & locked
