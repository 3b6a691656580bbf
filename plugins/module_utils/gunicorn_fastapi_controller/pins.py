"""poetry.lock and pdm.lock: which versions and files they pin, and what their project asks for.

uv works out which of the pinned packages a host needs; what it chooses has to be in the lock, with the lock's hashes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from .newer import without_versions
from .problem import InputError, visible
from .requirements import Entry, Requirements
from .toml import load, rows, table, texts

REMEDIES = {
    "poetry.lock": "Write it in another form: poetry export --format requirements.txt --output requirements.txt",
    "pdm.lock": "Write it in another form: pdm export --prod --output requirements.txt",
}


def pinned(path: Path) -> dict[str, dict[str, set[str]]]:
    """The digests of each version of each package, by its normalized name."""
    remedy = REMEDIES[path.name]
    lock = load(path, remedy)
    # Poetry before 1.3 had the files of all packages in one table.
    beside = table(table(lock.get("metadata")).get("files"))
    found: dict[str, dict[str, set[str]]] = {}
    for package in rows(lock.get("package")):
        name, version = str(package.get("name", "")), str(package.get("version", ""))
        files = rows(package.get("files")) or rows(beside.get(name))
        hashes = {str(file.get("hash", "")).lower() for file in files} - {""}
        found.setdefault(canonicalize_name(name), {}).setdefault(version, set()).update(hashes)
    if not found:
        raise InputError(f"gunicorn_fastapi_requirements: {path} names no package. {remedy}")
    return found


def constraints(pins: dict[str, dict[str, set[str]]], upgrade: Collection[str] = ()) -> str:
    """What uv is told of them, but for those to upgrade. One that has several versions, by conditions, is only compared
    afterwards.
    """
    told = {name: versions for name, versions in pins.items() if name not in upgrade}
    return "".join(f"{name}=={next(iter(versions))}\n" for name, versions in told.items() if len(versions) == 1)


def wanted(project: dict[str, Any], path: Path, extras: Sequence[str], groups: Sequence[str]) -> str:
    """The packages that a project asks for, without their versions, as a list. Raises InputError."""
    poetry = table(table(project.get("tool")).get("poetry"))
    own = table(project.get("project"))
    lines = [_unpinned(text) for text in texts(own.get("dependencies"))]
    optional = table(own.get("optional-dependencies"))
    of_poetry = table(poetry.get("extras"))
    for extra in extras:
        if extra not in optional and extra not in of_poetry:
            raise InputError(f"gunicorn_fastapi_extras: {path} has no extra {visible(extra)}. Correct the name.")
        lines += [_unpinned(text) for text in texts(optional.get(extra))]
    chosen: set[str] = {canonicalize_name(name) for extra in extras for name in texts(of_poetry.get(extra))}
    lines += _of_poetry(table(poetry.get("dependencies")), path, chosen)
    lines += _of_groups(project, poetry, path, groups)
    return "".join(f"{line}\n" for line in dict.fromkeys(lines))


def _of_groups(project: dict[str, Any], poetry: dict[str, Any], path: Path, groups: Sequence[str]) -> list[str]:
    """What groups ask for; of PEP 735, of Poetry or of PDM."""
    standard, of_poetry = table(project.get("dependency-groups")), table(poetry.get("group"))
    of_pdm = table(table(table(project.get("tool")).get("pdm")).get("dev-dependencies"))
    lines: list[str] = []
    names = list(groups)
    for group in names:  # those that it includes are put to the end
        if group not in {**standard, **of_poetry, **of_pdm}:
            raise InputError(f"gunicorn_fastapi_groups: {path} has no group {visible(group)}. Correct the name.")
        lines += _of_poetry(table(table(of_poetry.get(group)).get("dependencies")), path, set())
        lines += [_unpinned(text) for text in [*texts(standard.get(group)), *texts(of_pdm.get(group))]]
        included = [str(row["include-group"]) for row in rows(standard.get(group)) if "include-group" in row]
        names += [name for name in dict.fromkeys(included) if name not in names]
    return lines


def _unpinned(text: str) -> str:
    """A requirement (PEP 508) without its versions."""
    try:
        asked = Requirement(text)
    except InvalidRequirement as error:
        raise InputError(
            f"gunicorn_fastapi_requirements: pyproject.toml: '{visible(text)}' is not valid. Correct it."
        ) from error
    return without_versions(asked)


def _of_poetry(asked: dict[str, Any], path: Path, chosen: set[str]) -> list[str]:
    """What a table of Poetry's asks for; optional ones where an extra has chosen them."""
    lines = []
    for name, value in asked.items():
        if name.lower() == "python":
            continue
        for one in value if isinstance(value, list) else [value]:
            said = table(one)
            if said.get("optional") and canonicalize_name(name) not in chosen:
                continue
            if elsewhere := {"git", "path", "url"} & said.keys():
                raise InputError(
                    f"gunicorn_fastapi_requirements: {path}: {visible(name)} comes from a {min(elsewhere)}, and only "
                    "wheels of an index are installed. Build one, and put it into gunicorn_fastapi_wheelhouse."
                )
            extras = f"[{','.join(sorted(texts(said.get('extras'))))}]" if said.get("extras") else ""
            marker = said.get("markers")
            lines.append(f"{name}{extras} ; {marker}" if marker else f"{name}{extras}")
    return lines


def verified(chosen: Requirements, path: Path, upgrade: Collection[str] = ()) -> Requirements:
    """What was chosen, with the hashes of the lock alone. Raises InputError for what the lock does not pin.

    What is to be upgraded has the index's hashes, as what has no lock.
    """
    pins = pinned(path)
    entries: list[Entry] = []
    for entry in chosen.entries:
        hashes = tuple(h for h in entry.hashes if h in pins.get(entry.key, {}).get(entry.version, set()))
        if entry.key in upgrade:
            hashes = entry.hashes
        if not hashes:
            there = " or ".join(sorted(pins.get(entry.key, {}))) or "no version of it"
            raise InputError(
                f"gunicorn_fastapi_requirements: {path} does not pin {entry.key} {entry.version}, which the project "
                f"needs here: it has {there}, with other files. Make the lock again, with all groups and for this "
                f"Python, name {entry.key} in gunicorn_fastapi_upgrade, or "
                f"{REMEDIES[path.name][0].lower()}{REMEDIES[path.name][1:]}"
            )
        entries.append(replace(entry, hashes=hashes))
    return Requirements(tuple(entries), chosen.options)
