"""pylock.toml (PEP 751): its entries for one host, as those of a list of requirements."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from packaging.markers import InvalidMarker, Marker

from .problem import InputError, visible
from .requirements import DIGITS, Entry, Requirements
from .toml import load, rows, table, texts

REMEDY = "Write the lock in the other form: uv export --format requirements-txt --output-file requirements.txt"
ELSEWHERE = {"vcs": "from a repository", "directory": "from a directory", "archive": "from an archive of its source"}


def read(path: Path, environment: dict[str, str], extras: Sequence[str], groups: Sequence[str]) -> Requirements:
    """The packages that a host with this environment installs. Raises InputError for one without a wheel."""
    lock = load(path, REMEDY)
    if not str(lock.get("lock-version", "")).startswith("1."):
        raise InputError(f"gunicorn_fastapi_requirements: {path} has a lock-version that is not 1. {REMEDY}")
    chosen = {"extras": set(extras), "dependency_groups": {*groups, *texts(lock.get("default-groups"))}}
    entries = []
    for package in rows(lock.get("packages")):
        name = visible(str(package.get("name", "")))
        if not _holds(package.get("marker"), {**environment, **chosen}, path, name):
            continue
        if found := [said for key, said in ELSEWHERE.items() if key in package]:
            raise InputError(
                f"gunicorn_fastapi_requirements: {path}: {name} comes {found[0]}, and only wheels are installed. Build "
                "one (uv build --wheel), and name it in a list of requirements with its hash."
            )
        wheels = [table(wheel.get("hashes")) for wheel in rows(package.get("wheels"))]
        hashes = [f"{kind}:{digest}" for wheel in wheels for kind, digest in wheel.items() if kind in DIGITS]
        if not hashes or not package.get("version"):
            raise InputError(
                f"gunicorn_fastapi_requirements: {path}: {name or 'an entry'} has no wheel with a hash and a version, "
                "and packages are not built on the host. Put a wheel of it into a list of requirements with its hash."
            )
        entries.append(Entry(name, str(package["version"]), tuple(dict.fromkeys(map(str.lower, hashes)))))
    return Requirements(tuple(entries))


def _holds(marker: object, environment: dict[str, Any], path: Path, name: str) -> bool:
    """Whether the condition of a package holds. Raises InputError for one that cannot be understood."""
    if not marker:
        return True
    try:
        return bool(Marker(str(marker)).evaluate(environment, context="lock_file"))
    except (InvalidMarker, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"gunicorn_fastapi_requirements: {path}: the condition of {name} ('{visible(str(marker))}') is not "
            f"understood: {visible(str(error))}. {REMEDY}"
        ) from error
