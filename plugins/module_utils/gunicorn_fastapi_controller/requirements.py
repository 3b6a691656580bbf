"""The list of requirements: what is in it, and whether each entry is pinned by a hash."""

from __future__ import annotations

import re
from pathlib import Path

from .problem import InputError

COMPILE = "uv pip compile --generate-hashes --output-file requirements.txt requirements.in"


def logical_lines(text: str) -> list[str]:
    """The entries of a requirements file: comments gone, continued lines joined."""
    joined = re.sub(r"\\\n", " ", text)
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line]


def requirement_name(line: str) -> str:
    """The normalized name of the package that an entry is about (PEP 503)."""
    match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line)
    return re.sub(r"[-_.]+", "-", match.group().lower()) if match else ""


def checked_requirements(path: Path) -> str:
    """The text of the application's list, once every entry is known to be pinned by a hash."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"gunicorn_fastapi_requirements: {path} cannot be read: {error}. Make it with: {COMPILE}"
        ) from error
    for line in logical_lines(text):
        if re.match(r"-[rce]|--(requirement|constraint|editable)\b", line):
            raise InputError(
                f"gunicorn_fastapi_requirements: {path}: '{line}' names another file, and a release is made "
                f"from one list. Compile them into one: {COMPILE}"
            )
        if not line.startswith("-") and "--hash=" not in line:
            raise InputError(
                f"gunicorn_fastapi_requirements: {path}: '{line}' has no --hash, so what is installed could "
                f"change unnoticed. Make the list with: {COMPILE}"
            )
    return text


def supplied_requirements(text: str, supply: str) -> str:
    """The entries of `supply` for packages that `text` does not name."""
    named = {requirement_name(line) for line in logical_lines(text)}
    lacking = [line for line in logical_lines(supply) if requirement_name(line) not in named]
    return "".join(f"{line}\n" for line in lacking)


def packages(text: str) -> list[dict[str, object]]:
    """Name, version, condition (empty: always) and accepted digests of every package of a list."""
    found: list[dict[str, object]] = []
    for line in logical_lines(text):
        if line.startswith("-"):
            continue
        requirement = line.partition("--hash=")[0]
        named, _, condition = requirement.partition(";")
        _, _, version = named.partition("==")
        found.append(
            {
                "name": requirement_name(line),
                "version": version.strip(),
                "condition": condition.strip(),
                "hashes": re.findall(r"--hash=(\S+)", line),
            }
        )
    return sorted(found, key=lambda package: str(package["name"]))
