"""The application's secrets: files, and variables that it gets from one more file, which is encrypted as the others."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import environment
from .problem import InputError, visible

FILE = "gunicorn_fastapi_env_file"
GIVEN = "gunicorn_fastapi_secret_environment"
OPEN = "gunicorn_fastapi_environment"

CREDENTIAL = "gunicorn_fastapi_environment"
"""The name of the credential that has the secret variables, as a shell reads them."""

MOST = 900 * 1024
"""Bytes of all secret variables together: systemd takes 1 MiB for one credential."""


def read(path: str) -> dict[str, str]:
    """The variables of a file in dotenv's syntax. Raises InputError, which names lines and no values.

    ${NAME} is another variable of the file: those of the controller are nobody else's business.
    """
    given: dict[str, str] = {}
    for number, name, value in lines(path):
        said = f"{FILE}: {visible(path)}, line {number}"
        if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
            raise InputError(f"{said}: {visible(name)} is not a valid variable name. Use letters, digits and _.")
        parts = []
        for atom in library("variables").parse_variables(value):
            wanted = getattr(atom, "name", None)
            if wanted is not None and wanted not in given and atom.default is None:
                raise InputError(
                    f"{said}: {visible(name)} needs ${{{visible(wanted)}}}, which is not in the file before it. Add "
                    "it, or give the variable by gunicorn_fastapi_secret_environment, which takes values as they are."
                )
            parts.append(atom.resolve(given))
        given[name] = "".join(parts)
    return given


def lines(path: str) -> Iterator[tuple[int, str, str]]:
    """Number, name and value of each entry. A name without = is left out, as dotenv does."""
    place = Path(os.path.expandvars(path)).expanduser()
    if place.exists() and not place.is_file():  # a pipe could be read once, and would be waited for
        raise InputError(f"{FILE}: {visible(path)} is not a file. Give the path of a .env file.")
    try:
        with place.open(encoding="utf-8-sig") as file:
            bindings = list(library("parser").parse_stream(file))
    except UnicodeDecodeError:
        raise InputError(f"{FILE}: {visible(path)} is not UTF-8. Write it so.") from None
    except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(
            f"{FILE}: {visible(path)} cannot be read on the controller: {why}. Give the path of a .env file."
        ) from None
    for binding in bindings:
        if binding.error:
            raise InputError(
                f"{FILE}: {visible(path)}, line {binding.original.line} is not of the form NAME=VALUE, or its "
                "quotes do not end. Correct it."
            )
        if binding.key is not None and binding.value is not None:
            yield binding.original.line, binding.key, binding.value


def library(module: str) -> Any:
    """A module of python-dotenv. Raises InputError where that is not installed."""
    try:
        return importlib.import_module(f"dotenv.{module}")
    except ImportError:
        raise InputError(
            f"{FILE}: python-dotenv, which reads such a file, is not there for {sys.executable}, which runs Ansible. "
            f"Install it: {sys.executable} -m pip install python-dotenv."
        ) from None


def variables(given: Mapping[str, Any], path: str) -> dict[str, Any]:
    """All secret variables."""
    return {**(read(path) if path else {}), **given}


def credentials(files: Mapping[str, Any], given: Mapping[str, Any], path: str) -> dict[str, str]:
    """All that the host is to keep encrypted, by its name."""
    kept = {name: str(value) for name, value in files.items()}
    if given or path:
        kept[CREDENTIAL] = environment.rendered(variables(given, path))
    return kept


def env_file(inputs: Mapping[str, Any]) -> str:
    """What is wrong with the file, and with its variables beside those that are given otherwise."""
    path = inputs[FILE]
    try:
        found = read(path) if path else {}
    except InputError as error:
        return str(error)
    return (
        environment.wrong(FILE, found)
        or twice(FILE, found, OPEN, inputs[OPEN])
        or twice(FILE, found, GIVEN, inputs[GIVEN])
        or too_much(FILE, found)
    )


def secret_environment(inputs: Mapping[str, Any]) -> str:
    """What is wrong with the variables. Names them, never their values."""
    values = inputs[GIVEN]
    return environment.wrong(GIVEN, values) or twice(GIVEN, values, OPEN, inputs[OPEN]) or too_much(GIVEN, values)


def twice(one: str, values: Mapping[str, Any], other: str, others: Mapping[str, Any]) -> str:
    """Which variables are given in two places."""
    both = sorted(name for name in values if others.get(name) is not None and values[name] is not None)
    if not both:
        return ""
    return f"{one}: {', '.join(map(visible, both))} is in {other}, too. Remove it from one of them."


def too_much(variable: str, values: Mapping[str, Any]) -> str:
    """That the variables are more than the host can keep."""
    if len(environment.rendered(dict(values)).encode()) <= MOST:
        return ""
    return f"{variable}: it has more than {MOST // 1024} KiB. Give what is large by gunicorn_fastapi_credentials."
