"""Packages that are taken newer than a list pins them, so that a project of years ago need not be changed for it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from .problem import InputError, visible
from .toml import table, texts

VARIABLE = "gunicorn_fastapi_upgrade"


def keys(upgrade: Iterable[str]) -> frozenset[str]:
    """The normalized names of packages."""
    return frozenset(canonicalize_name(name) for name in upgrade)


def loosened(text: str, upgrade: Collection[str]) -> str:
    """A requirement (PEP 508) without its versions, where its package is one of these. Any other line as it is."""
    try:
        asked = Requirement(text)
    except InvalidRequirement:
        return text
    return without_versions(asked) if canonicalize_name(asked.name) in upgrade and not asked.url else text


def without_versions(asked: Requirement) -> str:
    """A requirement that any version fits."""
    extras = f"[{','.join(sorted(asked.extras))}]" if asked.extras else ""
    return f"{asked.name}{extras}{f' ; {asked.marker}' if asked.marker else ''}"


def of_project(text: str, content: dict[str, Any], upgrade: Collection[str]) -> str:
    """A pyproject.toml, where [project] and its groups ask for these packages in any version."""
    project = table(content.get("project"))
    tables = (table(project.get("optional-dependencies")), table(content.get("dependency-groups")))
    lists = [project.get("dependencies"), *(value for found in tables for value in found.values())]
    for asked in {requirement for listed in lists for requirement in texts(listed)}:
        new = loosened(asked, upgrade)
        if new != asked:
            quoted = '"' + new.replace('"', "'") + '"'
            text = re.sub(f"([\"']){re.escape(asked)}\\1", quoted.replace("\\", r"\\"), text)
    return text


def require_known(upgrade: Collection[str], known: Collection[str], path: Path) -> None:
    """Raise InputError for one that a lock does not have, such as one that is misspelt."""
    if unknown := sorted(set(upgrade) - set(known)):
        raise InputError(f"{VARIABLE}: {path} has no package {visible(unknown[0])}. Correct or remove the name.")


def refuse(upgrade: Iterable[str], path: Path) -> None:
    """Raise InputError for a list that is installed as it stands."""
    if list(upgrade):
        raise InputError(
            f"{VARIABLE}: {path} has hashes, and is installed as it stands. Remove the variable and make the list "
            "again, or name what it was made from in gunicorn_fastapi_requirements."
        )
