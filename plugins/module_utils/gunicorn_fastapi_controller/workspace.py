"""Packages that a uv.lock has from directories beside the application, members of its workspace, built as wheels.

The lock is searched and not parsed: newer ones are TOML 1.1, which Python's reader refuses.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path

from .problem import InputError, visible
from .source import Source

NAME = re.compile(r'(?m)^name = "([^"]+)"')
PLACE = re.compile(r'(?m)^source = \{\s*(virtual|editable|directory) = "([^"]+)"')
NEEDS = re.compile(r'\{\s*name = "([^"]+)"')
LEFT_OUT = [".git", ".venv", "venv", "__pycache__", "*.pyc", "dist", "build", "*.egg-info"]
SIZE_MAX = 32 * 1024 * 1024
"""Bytes of all of them."""


def packages(lock: str) -> dict[str, str]:
    """What a lock says of each package, by its name."""
    blocks = lock.split("[[package]]")[1:]
    return {match[1]: block for block in blocks if (match := NAME.search(block))}


def needed(lock: str, member: str) -> list[str]:
    """The directories, from the lock's own, of the packages that the member in a directory needs, without that one."""
    found = packages(lock)
    places = {name: match for name, block in found.items() if (match := PLACE.search(block))}
    left = [name for name, match in places.items() if match[2] == member]
    seen = set(left)
    while left:
        new = set(NEEDS.findall(found.get(left.pop(), ""))) - seen
        seen |= new
        left += new
    return sorted(
        places[name][2] for name in seen & places.keys() if places[name][1] != "virtual" and places[name][2] != member
    )


def packed(directory: Path, members: list[str]) -> dict[str, str]:
    """The files of these members, in base64 by their paths from the lock. Raises InputError for what cannot be sent."""
    files: dict[str, str] = {}
    size = 0
    for member in members:
        path = directory / member
        if ".." in Path(member).parts or not path.is_dir():
            raise InputError(
                f"gunicorn_fastapi_requirements: uv.lock has a package from {visible(member)}, which is no directory "
                "below it in the source. Have it there, or put a wheel of it into gunicorn_fastapi_wheelhouse."
            )
        for name, file in Source(path, LEFT_OUT, [], directory).members.items():
            if file.path is None or file.link:
                continue
            content = file.path.read_bytes()
            size += len(content)
            files[f"{member}/{name}"] = base64.b64encode(content).decode()
    if size > SIZE_MAX:
        raise InputError(
            f"gunicorn_fastapi_requirements: the packages of the workspace ({', '.join(members)}) have more than "
            f"{SIZE_MAX // 2**20} MB. Leave out what they do not need (.gitignore)."
        )
    return files
