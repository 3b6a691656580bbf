"""What a prepare command has left on one host, as part of the release of all hosts."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from .archive import Member, from_disk
from .git import KEPT
from .unpacked import unpacked


def decides(command: str, members: Iterable[Member], environment: str, directory: str, virtualenv: str) -> str:
    """What decides what a command leaves: equal texts are run once. Empty without a command.

    Not the units and the server's settings, which it does not see.
    """
    if not command:
        return ""
    source = sorted((m.name, m.mode, m.link, m.digest) for m in members)
    return json.dumps([command, source, environment, directory, virtualenv])


NOTHING = "none"
"""In place of an archive where the command does not run, as in check mode."""


def left(archive: str, cache: str) -> list[Member]:
    """What a command has left, by its archive. Nothing without one. Raises InputError for one that no host has made."""
    if archive in ("", NOTHING):
        return []
    found = []
    _, top = unpacked(Path(archive), Path(cache))
    forget(Path(archive))
    for path in sorted(top.rglob("*")):
        name = f"app/{path.relative_to(top)}"
        if path.is_symlink():
            found.append(Member(name, link=str(path.readlink())))
        elif path.is_file():
            found.append(from_disk(name, path))
    return found


def forget(archive: Path) -> None:
    """Remove archives that no run has used for a while."""
    os.utime(archive)
    for old in archive.parent.glob("*.tar.gz"):
        if old.stat().st_mtime < time.time() - KEPT:
            old.unlink(missing_ok=True)


def merged(members: list[Member], others: list[Member]) -> list[Member]:
    """Members with others in place of those of the same name."""
    names = {member.name for member in others}
    return [*(member for member in members if member.name not in names), *others]
