"""Paths of the source that lead to the state directory, because the application writes there."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from .archive import Member
from .inputs import matches, shown
from .problem import InputError, visible

STATE, SCRATCH = "gunicorn_fastapi_state_paths", "gunicorn_fastapi_scratch_paths"
# In the state directory: a directory for each release, with the paths that it has for itself.
SCRATCH_DIRECTORY = ".scratch"


def paths(inputs: Mapping[str, Any]) -> str:
    """The check of both lists of paths."""
    seen: dict[PurePosixPath, str] = {}
    for variable in (STATE, SCRATCH):
        for text in inputs[variable]:
            if why := odd(text):
                return f"{variable}: {shown(text)} {why}."
            path = PurePosixPath(text)
            for other in seen:
                if path.is_relative_to(other) or other.is_relative_to(path):
                    return f"{variable}: {shown(text)} is {shown(seen[other])}, or in the same path. Name one of them."
            seen[path] = text
    return ""


def odd(text: str) -> str:
    """Why a text is no path of a source, as the rest of a sentence."""
    parts = text.removesuffix("/").split("/")
    if not matches(r"[\w. +@-]+(/[\w. +@-]+)*/?", text) or text != text.strip() or {".", "..", ""} & set(parts):
        return "is not a path in the source. Write it from the application's directory, as in app/logs"
    if parts[0] == SCRATCH_DIRECTORY:
        return "is a name of the role's own. Choose another one"
    return ""


def working_directory(inputs: Mapping[str, Any]) -> str:
    variable = "gunicorn_fastapi_working_directory"
    value = inputs[variable]
    if not value or (matches(r"[\w.+@-]+(/[\w.+@-]+)*", value) and not {".", ".."} & set(value.split("/"))):
        return ""
    return (
        f"{variable}: {shown(value)} is not a directory of the source. Write it from the application's directory, as "
        "in data."
    )


def is_directory(text: str, members: Collection[str]) -> bool:
    """Whether a path is to be a directory: as in the source, else by its name; an ending (mlflow.db) is a file's."""
    path = text.removesuffix("/")
    if path in members:
        return False
    return text.endswith("/") or any(name.startswith(f"{path}/") for name in members) or not PurePosixPath(path).suffix


def led(
    members: dict[str, Member], state: Sequence[str], scratch: Sequence[str], directory: str
) -> tuple[list[Member], str]:
    """The members of a source with a link in place of each path, and what it held beside; and what makes the paths.

    Raises InputError for a path that leads through a file or a link of the source.
    """
    found = dict(members)
    said: dict[str, Any] = {"directory": directory, "state": {}, "scratch": {}}
    links = []
    for variable, kind, texts in ((STATE, "state", state), (SCRATCH, "scratch", scratch)):
        for text in texts:
            path = text.removesuffix("/")
            if through := [str(up) for up in PurePosixPath(path).parents if str(up) in found]:
                raise InputError(
                    f"{variable}: {visible(text)} leads through {visible(through[0])}, which is no directory."
                )
            said[kind][path] = "directory" if is_directory(text, found) else "file"
            for name in [name for name in found if name == path or name.startswith(f"{path}/")]:
                member = found.pop(name)
                if not (name == path and member.link):  # a link in its place says nothing that it could begin with
                    links.append(replace(member, name=f"seed/{name}"))
            below = f"{directory}/{SCRATCH_DIRECTORY}/@RELEASE@" if kind == "scratch" else directory
            links.append(Member(f"app/{path}", link=f"{below}/{path}"))
    return [*found.values(), *links], json.dumps(said, indent=1, sort_keys=True) + "\n"


def named(member: Member, release: str) -> Member:
    """A member of the release of this name: a link to what is a release's own has the name in it."""
    return replace(member, link=member.link.replace("@RELEASE@", release)) if member.link else member
