"""Advisories in the OSV format, as files on the controller: which packages of a release they are about."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from .problem import InputError, visible

Record = Mapping[str, Any]

MOST = 64 * 2**20
"""Bytes of one file."""


def read(place: Path) -> list[Record]:
    """The records of a file, or of all .json files in a directory. Raises InputError for what is none."""
    files = sorted(place.rglob("*.json")) if place.is_dir() else [place]
    return [record for file in files for record in records(file)]


def records(file: Path) -> Iterator[Record]:
    """The records of a file: one, a list of them, or the answer of an OSV service (``vulns``)."""
    try:
        if file.stat().st_size > MOST:
            raise InputError(f"gunicorn_fastapi_advisories: {file} is larger than {MOST // 2**20} MiB. Split it.")
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        why = visible(str(error))
        raise InputError(f"gunicorn_fastapi_advisories: {file} cannot be read: {why}. Fetch it again.") from None
    if isinstance(found, dict) and "vulns" in found:
        found = found["vulns"]
    for record in found if isinstance(found, list) else [found]:
        if not isinstance(record, dict) or not isinstance(record.get("id"), str):
            raise InputError(
                f"gunicorn_fastapi_advisories: {file} has no OSV record: an object with an id. Fetch it again."
            )
        if not record.get("withdrawn"):
            yield record


def vulnerable(packages: Iterable[Mapping[str, Any]], known: Iterable[Record]) -> list[str]:
    """A sentence for each package that an advisory is about, of those that the host installs."""
    versions: dict[str, str] = {
        canonicalize_name(str(p["name"])): str(p["version"]) for p in packages if p.get("applies", True)
    }
    found: dict[str, list[str]] = {}
    fixes: dict[str, set[Version]] = {}
    for record in known:
        for name, mended in about(record, versions):
            aliases = [alias for alias in record.get("aliases", []) if str(alias).startswith("CVE-")]
            found.setdefault(name, []).append(str((aliases or [record["id"]])[0]))
            fixes.setdefault(name, set()).update(mended)
    return [
        visible(
            f"{name} {versions[name]} has known vulnerabilities ({', '.join(sorted(set(ids)))}). "
            + (f"Upgrade to {max(fixes[name])} or later." if fixes[name] else "No version is named that mends them.")
        )
        for name, ids in sorted(found.items())
    ]


def about(record: Record, versions: Mapping[str, str]) -> Iterator[tuple[str, list[Version]]]:
    """The packages that a record is about in the version that is there, each with versions that mend it."""
    for affected in record.get("affected", []):
        package = affected.get("package", {})
        name = canonicalize_name(str(package.get("name", "")))
        if package.get("ecosystem") != "PyPI" or name not in versions:
            continue
        try:
            version = Version(versions[name])
        except InvalidVersion:
            continue
        ranges = [r.get("events", []) for r in affected.get("ranges", []) if r.get("type") in ("ECOSYSTEM", "SEMVER")]
        if versions[name] in affected.get("versions", []) or any(within(version, events) for events in ranges):
            fixed = [parsed(event["fixed"]) for events in ranges for event in events if "fixed" in event]
            yield name, sorted(fix for fix in fixed if fix and fix > version)[:1]


def within(version: Version, events: Iterable[Mapping[str, str]]) -> bool:
    """Whether a version is in a range, by the events in their order of version."""
    hit = False
    for event in sorted(events, key=lambda event: parsed(next(iter(event.values()), "0")) or Version("0")):
        for kind, text in event.items():
            at = parsed(text)
            if at and kind == "introduced" and version >= at:
                hit = True
            elif (at and (kind == "fixed" and version >= at)) or (at and kind == "last_affected" and version > at):
                hit = False
    return hit


def parsed(text: str) -> Version | None:
    """A version, or None for what is none."""
    try:
        return Version(text)
    except (InvalidVersion, TypeError):
        return None
