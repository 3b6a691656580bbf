"""Secret variables: read as dotenv reads them, delivered to the last byte, and named without their values."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values
from gunicorn_fastapi_controller import secret
from gunicorn_fastapi_controller.problem import InputError

TEXT = """
# a comment
export A=plain # not this
B = " two words "
C='single $A'
D="${A} and ${NOWHERE:-default}"
E="line
two"
F=
G
H=a=b#c
A=again
I="\\n \\" \\\\"
Z="${A}"
"""


@pytest.fixture
def env(tmp_path: Path) -> Path:
    path = tmp_path / ".env"
    path.write_text(TEXT)
    return path


def test_a_file_is_read_as_dotenv_reads_it(env: Path) -> None:
    wanted = {name: value for name, value in dotenv_values(env).items() if value is not None}
    assert secret.read(str(env)) == wanted
    assert wanted["E"] == "line\ntwo"
    assert wanted["Z"] == "again"


def test_nothing_of_the_controller_gets_into_it(env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOWHERE", "of the controller")
    assert secret.read(str(env))["D"] == "plain and default"
    env.write_text("A=1\nURL=postgres://me:s3cr3t@${HOME}/x\n")
    with pytest.raises(InputError, match=r"line 2: URL needs \$\{HOME\}, which is not in the file") as caught:
        secret.read(str(env))
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"A=1\nKEY='s3cr3t\nB=2\n", "line 2 is not of the form NAME=VALUE"),
        (b"A=1\nMY-KEY=s3cr3t\n", "line 2: MY-KEY is not a valid variable name"),
        (b"A=\xff\n", "is not UTF-8"),
    ],
)
def test_what_is_no_such_file_is_told_without_its_values(text: bytes, says: str, env: Path) -> None:
    env.write_bytes(text)
    with pytest.raises(InputError, match=rf"gunicorn_fastapi_env_file: \S*\.env.*{says}") as caught:
        secret.read(str(env))
    assert "s3cr3t" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read on the controller: No such file"):
        secret.read(str(tmp_path / "nothing"))


def test_what_can_be_read_only_once_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is not a file"):
        secret.read(str(tmp_path / "pipe"))


def test_a_controller_without_the_library_says_so(env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(InputError, match=f"python-dotenv, .* not there for {sys.executable}.* pip install"):
        secret.read(str(env))


def inputs(**given: Any) -> dict[str, Any]:
    values = {"environment": {}, "secret_environment": {}, "env_file": "", **given}
    return {f"gunicorn_fastapi_{name}": value for name, value in values.items()}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"secret_environment": {"A": "s3cr3t"}, "environment": {"A": "1"}}, "A is in gunicorn_fastapi_env"),
        ({"secret_environment": {"LISTEN_FDS": "s3cr3t"}}, "LISTEN_FDS.* is set by systemd"),
        ({"secret_environment": {"A": "s3cr3t\0"}}, "A.* contains a NUL byte"),
        ({"secret_environment": {"A": "s3cr3t" * 30000}}, "A.* is longer than a variable can be, 128 KiB"),
        ({"secret_environment": {f"A{n}": "s3cr3t" * 20000 for n in range(9)}}, "more than 900 KiB"),
        ({"secret_environment": {"GUNICORN_CMD_ARGS": "s3cr3t"}}, "would override the role's"),
        ({"environment": {"H": "1"}}, "H is in gunicorn_fastapi_environment, too"),
        ({"secret_environment": {"H": "s3cr3t"}}, "H is in gunicorn_fastapi_secret_environment, too"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_without_its_value(given: dict[str, Any], says: str, env: Path) -> None:
    of_file = "secret_environment" not in given or "H" in given["secret_environment"]
    asked = inputs(**given, **({"env_file": str(env)} if of_file else {}))
    told = secret.env_file(asked) if of_file else secret.secret_environment(asked)
    assert re.search(says, told)
    assert "s3cr3t" not in told


def test_the_same_variable_left_out_elsewhere_is_no_collision(env: Path) -> None:
    assert secret.env_file(inputs(env_file=str(env), environment={"H": None})) == ""


def test_they_are_one_credential_beside_the_others(env: Path) -> None:
    kept = secret.credentials({"password": "x"}, {"N": [1], "LEFT_OUT": None}, str(env))
    assert set(kept) == {"password", "gunicorn_fastapi_environment"}
    done = subprocess.run(
        ["/bin/sh", "-c", "set -a && . /dev/stdin && exec env --null"],
        input=kept["gunicorn_fastapi_environment"].encode(), capture_output=True, check=True, env={},
    )  # fmt: skip
    arrived = dict(entry.split("=", 1) for entry in done.stdout.decode().split("\0") if entry)
    assert {name: arrived[name] for name in "BN"} == {"B": " two words ", "N": "[1]"}
    assert secret.credentials({"password": "x"}, {}, "") == {"password": "x"}
