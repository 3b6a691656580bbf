"""How the file systems of a host are mounted that a deploy writes to, or that releases are executed from."""

from __future__ import annotations

import os
import re
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")

WRITTEN = ("/etc", "/etc/systemd/system", "/usr/local/lib", "/usr/local/sbin", "/var/lib", "/var/cache", "/run")
"""Where a deploy writes, beside the directory of the releases."""


def read_only(*places: str) -> list[str]:
    """The mount points of these places, or of what is there of their paths, that are mounted read-only."""
    found = []
    for place in map(Path, places):
        there = next(path for path in (place, *place.parents) if path.exists())
        if os.statvfs(there).f_flag & os.ST_RDONLY:
            found.append(mount_point(Path(os.path.realpath(there))))
    return sorted(set(found))


def noexec(place: str) -> str:
    """The mount point of a place, or of what is there of its path, from which nothing is executed. Empty else."""
    there = next(path for path in (Path(place), *Path(place).parents) if path.exists())
    return mount_point(Path(os.path.realpath(there))) if os.statvfs(there).f_flag & os.ST_NOEXEC else ""


def mount_point(path: Path) -> str:
    """Where the file system of a path is mounted, also of one that is mounted twice, which ismount() does not see."""
    lines = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    points = [re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), line.split(" ")[1]) for line in lines]
    return max((point for point in points if path.is_relative_to(point)), key=len, default="/")
