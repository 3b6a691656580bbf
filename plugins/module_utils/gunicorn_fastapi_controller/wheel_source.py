"""A wheel as the source of an application: a directory with it, and with a pyproject.toml of what it says of itself."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import zipfile
import zlib
from email.parser import BytesParser
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from . import discover
from .git import KEPT, locked
from .location import VARIABLE
from .problem import InputError, visible
from .toml import load, table

METADATA_MAX = 1024 * 1024
DEEP = 3
"""Packages in each other in which an application is looked for, such as shop.web."""
TOOL = "gunicorn-fastapi"
"""The table of pyproject.toml that says which wheel a project is."""


def unpacked(wheel: Path, cache: Path) -> tuple[str, str, Path]:
    """The digest and the version of a wheel, and the directory with it. Raises InputError for what is no wheel."""
    try:
        name, version, *_ = parse_wheel_filename(wheel.name)
        with wheel.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with zipfile.ZipFile(wheel) as packed:
            project = described(packed, name, wheel)
    except InvalidWheelFilename:
        raise refused(wheel, "has no wheel's name. Keep the one that it was built with") from None
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, KeyError) as error:
        raise refused(wheel, f"cannot be read: {visible(str(error))}. Build it again (uv build --wheel)") from None
    directory = cache / "wheels"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Another version of the role may describe the same wheel otherwise.
    tree = directory / hashlib.sha256(f"{digest} {project}".encode()).hexdigest()
    with locked(directory / "lock"):
        for old in directory.iterdir():
            if old.is_dir() and old != tree and old.stat().st_mtime < time.time() - KEPT:
                shutil.rmtree(old, ignore_errors=True)
        if not tree.exists():
            work = Path(tempfile.mkdtemp(dir=directory))
            shutil.copyfile(wheel, work / wheel.name)
            (work / "pyproject.toml").write_text(project, encoding="utf-8")
            work.rename(tree)
        os.utime(tree)
    return digest, str(version), tree


def refused(wheel: Path, why: str) -> InputError:
    return InputError(f"{VARIABLE}: {visible(str(wheel))} {why}.")


def described(packed: zipfile.ZipFile, name: str, wheel: Path) -> str:
    """A pyproject.toml with what a wheel's metadata asks for, and the application in it, if there is one."""
    there = [n for n in packed.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n)]
    if len(there) != 1 or packed.getinfo(there[0]).file_size > METADATA_MAX:
        raise refused(wheel, "has no metadata of one package. Build it again (uv build --wheel)")
    said = BytesParser().parsebytes(packed.read(there[0]), headersonly=True)
    if canonicalize_name(str(said["Name"])) != name:
        raise refused(wheel, f"says that it is {visible(str(said['Name']))}. Keep the name that it was built with")
    always, optional = asked([str(line) for line in said.get_all("Requires-Dist", [])], wheel)
    extras = {canonicalize_name(str(extra)): str(extra) for extra in said.get_all("Provides-Extra", [])}
    lines = ["[project]", f"name = {json.dumps(str(said['Name']))}", f"version = {json.dumps(str(said['Version']))}"]
    if said["Requires-Python"]:
        lines.append(f"requires-python = {json.dumps(str(said['Requires-Python']))}")
    lines += [f"dependencies = {json.dumps(always)}", "[project.optional-dependencies]"]
    lines += [f"{json.dumps(extra)} = {json.dumps(with_extra(optional, extra))}" for extra in extras.values()]
    if entry := application(packed):
        lines += ["[tool.fastapi]", f"entrypoint = {json.dumps(entry)}"]
    return "\n".join([*lines, f"[tool.{TOOL}]", f"wheel = {json.dumps(wheel.name)}", ""])


def asked(lines: list[str], wheel: Path) -> tuple[list[str], list[Requirement]]:
    """The requirements that always hold, and those that ask for an extra. Raises InputError for a bad one."""
    always, optional = [], []
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            raise refused(wheel, f"asks for '{visible(line)}', which is not valid. Build it again") from None
        if requirement.url:
            raise refused(
                wheel,
                f"asks for {requirement.name} by an address. Have it ask for a version of an index",
            )
        if requirement.marker and "extra" in str(requirement.marker):
            optional.append(requirement)
        else:
            always.append(str(requirement))
    return always, optional


def with_extra(requirements: list[Requirement], extra: str) -> list[str]:
    """What an extra asks for: conditions on it are true, those on other extras are not."""

    def known(match: re.Match[str]) -> str:
        sign = ">" if canonicalize_name(match[1]) == canonicalize_name(extra) else "<"
        return f'python_version {sign} "0"'

    said = []
    for requirement in requirements:
        marker = re.sub(r"""extra\s*==\s*["']([^"']+)["']""", known, str(requirement.marker))
        said.append(f"{str(requirement).partition(';')[0].strip()} ; {marker}")
    return said


def application(packed: zipfile.ZipFile) -> str:
    """The application in the one package that has one where it is looked for, of those in each other the outermost.

    Empty where that is not clear.
    """
    found: dict[str, str] = {}
    names = set(packed.namelist())
    packages = {name.rpartition("/")[0] for name in names if name.rpartition("/")[2] in discover.IN_PACKAGES}
    with tempfile.TemporaryDirectory() as work:
        for package in sorted(packages, key=lambda path: (path.count("/"), path)):
            words = package.split("/")
            if not all(map(str.isidentifier, words)) or len(words) > DEEP or discover.is_beside(words):
                continue
            if any(package.startswith(f"{outer}/") for outer in found):
                continue
            for name in (f"{package}/{place}" for place in discover.PLACES):
                if name in names and packed.getinfo(name).file_size <= METADATA_MAX:
                    (Path(work) / name).parent.mkdir(parents=True, exist_ok=True)
                    (Path(work) / name).write_bytes(packed.read(name))
            try:
                found[package] = f"{package.replace('/', '.')}.{discover.discover(Path(work) / package)[0]}"
            except (InputError, OSError):
                continue
    return next(iter(found.values())) if len(found) == 1 else ""


def line(project: Path) -> str:
    """The line of a list that installs the wheel which a project is, empty for any other."""
    said = table(table(load(project, "Correct it.").get("tool")).get(TOOL)).get("wheel")
    if not said:
        return ""
    wheel = project.parent / str(said)
    return f"./{said} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}" if wheel.is_file() else ""
