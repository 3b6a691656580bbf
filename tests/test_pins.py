"""Locks of Poetry and PDM: what the project asks for, and only what the lock pins."""

from pathlib import Path

import pytest
from gunicorn_fastapi_controller import pins
from gunicorn_fastapi_controller.problem import InputError
from gunicorn_fastapi_controller.requirements import Entry, Requirements
from gunicorn_fastapi_controller.toml import load
from projects import Project

POETRY = """
[tool.poetry.dependencies]
python = "^3.11"
fastapi = {version = "^0.100", extras = ["all"]}
uvloop = [{version = "1", markers = "sys_platform == 'linux'"}, {version = "2"}]
asyncpg = {version = "*", optional = true}
[tool.poetry.extras]
pg = ["asyncpg"]
[tool.poetry.group.jobs.dependencies]
celery = "^5"
"""
STANDARD = """
[project]
dependencies = ["fastapi>=0.100 ; python_version > '3.10'"]
[project.optional-dependencies]
pg = ["asyncpg[x]==1"]
[dependency-groups]
jobs = ["celery>5", {include-group = "more"}]
more = [{include-group = "jobs"}, "flower"]
[tool.pdm.dev-dependencies]
lint = ["ruff"]
"""
ZEROS, ONES = "sha256:" + "0" * 64, "sha256:" + "1" * 64
LOCK = f"""
[[package]]
name = "Fast_API"
version = "1.0"
files = [{{file = "x.whl", hash = "{ZEROS}"}}]
[[package]]
name = "six"
version = "1"
[[package]]
name = "six"
version = "2"
[metadata.files]
six = [{{file = "y.whl", hash = "{ONES}"}}]
"""


@pytest.mark.parametrize(
    ("text", "extras", "groups", "asked"),
    [
        (POETRY, [], [], ["fastapi[all]", "uvloop ; sys_platform == 'linux'", "uvloop"]),
        (POETRY, ["pg"], ["jobs"], ["fastapi[all]", "uvloop ; sys_platform == 'linux'", "uvloop", "asyncpg", "celery"]),
        (STANDARD, [], [], ['fastapi ; python_version > "3.10"']),
        (
            STANDARD,
            ["pg"],
            ["jobs", "lint"],
            ['fastapi ; python_version > "3.10"', "asyncpg[x]", "celery", "ruff", "flower"],
        ),
    ],
)
def test_what_a_project_asks_for(
    tmp_path: Path, text: str, extras: list[str], groups: list[str], asked: list[str]
) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(text)
    assert pins.wanted(load(path, ""), path, extras, groups).splitlines() == asked


@pytest.mark.parametrize(
    ("text", "extras", "groups", "reason"),
    [
        (POETRY, ["my"], [], "gunicorn_fastapi_extras: .* has no extra my"),
        (STANDARD, [], ["my"], "gunicorn_fastapi_groups: .* has no group my"),
        ('[tool.poetry.dependencies]\na = {git = "https://example.com"}\n', [], [], "a comes from a git, and only"),
        ('[project]\ndependencies = ["a b"]\n', [], [], "'a b' is not valid"),
    ],
)
def test_what_a_project_cannot_ask_for(
    tmp_path: Path, text: str, extras: list[str], groups: list[str], reason: str
) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=reason):
        pins.wanted(load(path, ""), path, extras, groups)


def test_only_the_files_of_the_lock_are_installed(tmp_path: Path) -> None:
    path = tmp_path / "poetry.lock"
    path.write_text(LOCK)
    assert pins.constraints(pins.pinned(path)) == "fast-api==1.0\n"
    chosen = Requirements((Entry("fast-api", "1.0", (ZEROS, ONES)), Entry("six", "2", (ZEROS, ONES))))
    assert [entry.hashes for entry in pins.verified(chosen, path).entries] == [(ZEROS,), (ONES,)]
    assert [entry.hashes for entry in pins.verified(chosen, path, {"six"}).entries] == [(ZEROS,), (ZEROS, ONES)]
    assert "fast-api" not in pins.constraints(pins.pinned(path), {"fast-api"})


@pytest.mark.parametrize(
    "entry", [Entry("fast-api", "1.1", (ZEROS,)), Entry("fast-api", "1.0", (ONES,)), Entry("b", "1", (ZEROS,))]
)
def test_what_the_lock_does_not_pin_is_refused(tmp_path: Path, entry: Entry) -> None:
    project = Project(tmp_path)
    project.write("pyproject.toml", POETRY)
    project.write("poetry.lock", LOCK)
    locked = f"{entry.name}=={entry.version} --hash={entry.hashes[0]}\n"
    with pytest.raises(
        InputError, match=rf"poetry.lock does not pin {entry.name} {entry.version}, which the project needs"
    ):
        project.bundle(locked=locked)


def test_a_lock_of_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pdm.lock"
    path.write_text("")
    with pytest.raises(InputError, match=r"names no package\. Write it in another form: pdm export"):
        pins.pinned(path)
