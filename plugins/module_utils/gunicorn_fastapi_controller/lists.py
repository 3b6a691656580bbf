"""Which list of packages a project has, and what uv has to be asked where it does not say it by itself."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import newer, pins, workspace
from .problem import InputError, visible
from .server import TESTED, Host
from .toml import load, table, texts

LOCKS = ("pylock.toml", "uv.lock", "poetry.lock", "pdm.lock")
LISTS = ("requirements.txt", "requirements.in")
PROJECT = "pyproject.toml"
# Files of a project that uv is told, at most, and bytes of each.
FILES_MAX, SIZE_MAX = 500, 16 * 1024 * 1024
KEY_DIGITS = 40

INDEX = re.compile(r"(?:-i|-f|--index-url|--extra-index-url|--find-links|--no-index)(?=[= ]|$)")
INCLUDES = re.compile(r"(?m)^[ \t]*(-r|-e|--requirement|--editable)")
INCLUDED = re.compile(r"(?:-r|-c|--requirement|--constraint)[= ]?(\S+)")
ITSELF = re.compile(r"(?:-e|--editable)?[= ]?(?:\.|file:\.)(?:\[[^]]*\])?/?")
COMPILE = ("pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate", "--no-build")
EXPORT = (
    "export", "--quiet", "--frozen", "--no-default-groups", "--no-emit-workspace", "--no-header", "--no-annotate",
    "--format=requirements-txt",
)  # fmt: skip
OF_A_MEMBER = (*(word for word in EXPORT if word != "--no-emit-workspace"), "--no-emit-project", "--no-editable")
CONSTRAINTS = ".gunicorn-fastapi-constraints.txt"


@dataclass(frozen=True)
class Found:
    """A list, and how it is read: as it stands (``list``, ``pylock``), or after uv was asked."""

    path: Path
    kind: str

    @property
    def is_asked(self) -> bool:
        """Whether uv has to be asked."""
        return self.kind in ("uv", "pins", "compile", "project")

    def said(self, top: Path) -> str:
        """What the run says of it."""
        how = {
            "list": "a list with hashes",
            "pylock": "a lock",
            "uv": "a lock, which uv exports",
            "pins": "a lock, of whose packages uv chooses those that are needed",
            "compile": "which has no hashes, so uv resolves it once",
            "project": "a project without a lock, so uv resolves it once",
        }
        return f"The packages are those of {self.path.relative_to(top)}, {how[self.kind]}"


def find(top: Path, application: Path, requirements: str) -> Found:
    """The list of an application in a source, or the one that was named. Raises InputError when there is none.

    From the application's directory on upwards; above one that is a project of its own, only uv's lock counts, which is
    that of its workspace.
    """
    if requirements:
        return named(top, application, requirements)
    project: Path | None = None
    for directory in [application, *application.parents]:
        for name in LOCKS + LISTS:
            if (directory / name).is_file() and (project is None or name == "uv.lock"):
                return Found(directory / name, kind(directory / name))
        if project is None and (directory / PROJECT).is_file() and asks_for_packages(directory / PROJECT):
            project = directory / PROJECT
        if directory == top:
            break
    if project:
        return Found(project, "project")
    raise InputError(
        f"gunicorn_fastapi_app_source: {application} has no list of packages, and neither has a directory above it "
        f"in the source: no {', '.join((*LOCKS, *LISTS))} or {PROJECT} with dependencies. Write one, or name it in "
        "gunicorn_fastapi_requirements."
    )


def named(top: Path, application: Path, requirements: str) -> Found:
    """The list that an operator names, by its path from the application's directory."""
    path = Path(os.path.normpath(application / requirements))
    if not path.is_relative_to(top):
        raise InputError(
            f"gunicorn_fastapi_requirements: {path} is outside of the source, {top}. Copy it in, or have the source "
            "begin above it (gunicorn_fastapi_app_path)."
        )
    return Found(path, kind(path))


def kind(path: Path) -> str:
    """How a list is read, by its name and, for a list of requirements, by whether it has hashes."""
    if path.name == PROJECT:
        return "project"
    if path.name == "uv.lock":
        return "uv"
    if path.name in pins.REMEDIES:
        return "pins"
    if re.fullmatch(r"pylock(\..+)?\.toml", path.name):
        return "pylock"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return "list"  # whose reader says why
    asks = re.search(r"(?m)^[ \t]*[^\s#-]", text) or INCLUDES.search(text)
    return "compile" if asks and "--hash" not in text else "list"


def asks_for_packages(path: Path) -> bool:
    """Whether a pyproject.toml names packages that its project needs."""
    content = load(path, "Correct it.")
    project, tool = table(content.get("project")), table(content.get("tool"))
    dynamic = "dependencies" in texts(project.get("dynamic"))
    return bool(project.get("dependencies") or dynamic or table(table(tool.get("poetry")).get("dependencies")))


def constraints() -> str:
    """The servers that are supported, for whoever resolves."""
    lines = []
    for name, (first, last) in TESTED.items():
        numbers = [int(part) for part in last.split(".")] if last else []
        upper = f",<{'.'.join(map(str, [*numbers[:-1], numbers[-1] + 1]))}" if numbers else ""
        lines.append(f"{name}>={first}{upper}\n")
    return "".join(lines)


def question(
    found: Found,
    top: Path,
    application: Path,
    extras: Sequence[str],
    groups: Sequence[str],
    host: Host,
    date: str,
    upgrade: Sequence[str] = (),
) -> dict[str, Any]:
    """What uv is asked on a host, and under which name its answer is kept. Raises InputError."""
    chosen = [f"--extra={extra}" for extra in extras], [f"--group={group}" for group in groups]
    directory, newest = found.path.parent, newer.keys(upgrade)
    if found.kind == "uv":
        locked = text(found.path)
        newer.require_known(newest, workspace.packages(locked), found.path)
        files = projects(directory, newest) | {"uv.lock": locked}
        member = application if (application / PROJECT).is_file() else directory
        members = workspace.needed(locked, str(member.relative_to(directory)))
        words = [*(OF_A_MEMBER if members else EXPORT), *chosen[0], *chosen[1]]
        if newest:  # uv changes the lock for them, and leaves the rest of it
            words = [word for word in words if word != "--frozen"]
            words += [f"--upgrade-package={name}" for name in sorted(newest)]
        asked: dict[str, Any] = {"directory": str(member.relative_to(directory)), "resolves": bool(newest)}
        decides: object = locked
        if members:  # what is in them decides, too: their wheels are built of it
            asked["sources"] = workspace.packed(directory, members)
            decides = [locked, asked["sources"]]
    else:
        asked = {"directory": ".", "resolves": True}
        files, words, decides = resolved(found, top, extras, groups, newest)
        files[CONSTRAINTS] = constraints()
        words = [*COMPILE, f"--constraints={CONSTRAINTS}", *words]
        if found.kind == "project":
            words += [*chosen[0], *chosen[1]]
        if date:
            words.append(f"--exclude-newer={date}")
    minor = ".".join(host.version.split(".")[:2])
    whole = [found.kind, decides, asked["directory"], sorted(extras), sorted(groups), date, minor, host.machine]
    whole += [sorted(newest)] if newest else []  # without any, as before there were any
    key = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:KEY_DIGITS]
    return {**asked, "files": files, "command": words, "key": key}


def resolved(
    found: Found, top: Path, extras: Sequence[str], groups: Sequence[str], newest: Collection[str]
) -> tuple[dict[str, str], list[str], object]:
    """The files that uv resolves, its words for them, and what of them decides the answer."""
    directory = found.path.parent
    if found.kind == "pins":
        project = load(directory / PROJECT, "The lock belongs to it.")
        pinned = pins.pinned(found.path)
        files = {
            "main.in": pins.wanted(project, directory / PROJECT, extras, groups),
            "pins.txt": pins.constraints(pinned, newest),
        }
        return files, ["--constraints=pins.txt", "main.in"], [files["main.in"], text(found.path)]
    if found.kind == "project":
        content = load(found.path, "Correct it.")
        project, tool = table(content.get("project")), table(content.get("tool"))
        if not project:
            raise InputError(
                f"gunicorn_fastapi_requirements: {found.path} asks for packages in the words of Poetry alone, which "
                "only Poetry resolves. Make its lock (poetry lock), or name the packages in [project] (PEP 621)."
            )
        told = ("dependencies", "optional-dependencies", "requires-python")
        decides = [{name: project.get(name) for name in told}, content.get("dependency-groups"), tool.get("uv")]
        return (
            {PROJECT: newer.of_project(text(found.path), content, newest)},
            [PROJECT],
            json.loads(json.dumps(decides, default=str)),
        )
    refuse_choice(found, extras, groups)
    lists = {
        path: [newer.loosened(line, newest) for line in lines] for path, lines in included(found.path, top).items()
    }
    base = Path(os.path.commonpath([path.parent for path in lists]))
    files = {str(path.relative_to(base)): "".join(f"{line}\n" for line in lines) for path, lines in lists.items()}
    return files, [str(found.path.relative_to(base))], files


def refuse_choice(found: Found, extras: Sequence[str], groups: Sequence[str]) -> None:
    """Raise InputError for extras and groups of what has none."""
    if extras or groups:
        variable = "gunicorn_fastapi_extras" if extras else "gunicorn_fastapi_groups"
        raise InputError(f"{variable}: {found.path} is a list, which has none of them. Remove the variable.")


def included(path: Path, top: Path) -> dict[Path, list[str]]:
    """The lines of a list that uv resolves, and of those that it names, without comments and the project itself."""
    found: dict[Path, list[str]] = {}
    left = [path]
    while left:
        here = left.pop()
        if here in found:
            continue
        lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in text(here).splitlines()]
        found[here] = [line for line in lines if line and not (INDEX.match(line) or ITSELF.fullmatch(line))]
        for line in found[here]:
            if match := INCLUDED.fullmatch(line):
                other = Path(os.path.normpath(here.parent / match[1]))
                if not other.is_relative_to(top) or len(found) >= FILES_MAX:
                    raise InputError(
                        f"gunicorn_fastapi_requirements: {here}: '{visible(line)}' names a list outside of the source. "
                        "Copy it in."
                    )
                left.append(other)
    return found


def index_lines(found: Found, top: Path) -> list[str]:
    """Where a list that uv resolves says that its packages come from, which a resolved one does not repeat."""
    if found.kind != "compile":
        return []
    lines = [line.strip() for path in included(found.path, top) for line in text(path).splitlines()]
    return [line for line in lines if INDEX.match(line)]


def projects(directory: Path, newest: Collection[str]) -> dict[str, str]:
    """The pyproject.toml of a workspace and of its members, which ask for the newest of some packages."""
    found: dict[str, str] = {}
    for here, names, files in os.walk(directory):
        names[:] = sorted(name for name in names if not name.startswith(".") and name not in ("node_modules", "venv"))
        if PROJECT in files and len(found) < FILES_MAX:
            path = Path(here) / PROJECT
            content = load(path, "Correct it.") if newest else {}
            found[str(path.relative_to(directory))] = newer.of_project(text(path), content, newest)
    return found


def text(path: Path) -> str:
    """The content of a file of the project. Raises InputError when it has none that can be sent."""
    try:
        if path.stat().st_size > SIZE_MAX:
            raise InputError(
                f"gunicorn_fastapi_requirements: {path} has more than {SIZE_MAX // 2**20} MB. Name another list."
            )
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"gunicorn_fastapi_requirements: {path} cannot be read: {visible(str(error))}. Correct it, or name another "
            "list."
        ) from error
