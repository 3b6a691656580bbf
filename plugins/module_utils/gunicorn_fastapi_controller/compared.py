"""Other lists beside the one that counts, and whether they contradict it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.utils import canonicalize_name

from .lists import LISTS, LOCKS
from .problem import visible
from .requirements import Entry
from .toml import rows

PIN = re.compile(r"(?m)^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])? *== *([^\s;,\\*#]+)(?![^;#\n]*\*)")


def versions(path: Path) -> dict[str, set[str]]:
    """The versions that a list pins, by normalized name; nothing of one that cannot be read."""
    found: dict[str, set[str]] = {}
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml" or path.suffix == ".lock":
            content = tomllib.loads(text)
            packages = rows(content.get("package")) + rows(content.get("packages"))
            pairs = [(str(package.get("name", "")), str(package.get("version", ""))) for package in packages]
        else:
            pairs = PIN.findall(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError):
        return {}
    for name, version in pairs:
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def contradictions(path: Path, entries: Iterable[Entry]) -> list[str]:
    """A sentence for each list in the same directory that has another version of a package."""
    said = []
    chosen = {entry.key: entry.version for entry in entries}
    for other in (path.with_name(name) for name in (*LOCKS, *LISTS)):
        if other.name == path.name or not other.is_file():
            continue
        there = versions(other)
        differ = [key for key, version in chosen.items() if key in there and version not in there[key]]
        if differ:
            first = differ[0]
            more = f", and differs in {len(differ) - 1} more" if len(differ) > 1 else ""
            said.append(
                f"{path.name}, which counts, has {first} {chosen[first]}, and {other.name} beside it has "
                f"{visible(' or '.join(sorted(there[first])))}{more}. Make one from the other, remove one, or name "
                "the one that counts in gunicorn_fastapi_requirements."
            )
    return said
