"""What gunicorn_fastapi_app_source names: a directory, an archive, or a commit of a git repository."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from .problem import InputError, visible

VARIABLE = "gunicorn_fastapi_app_source"
ARCHIVES = (".tar.gz", ".tgz", ".zip")
EXAMPLES = "a directory, a .tar.gz, .zip or .whl, or git+https://HOST/REPOSITORY.git@REF"
GIT = re.compile(r"(?:git\+(https|ssh|file)|(file))://")


@dataclass(frozen=True)
class Location:
    """A source in its parts. `url` is free of secrets; those are in `user` and `password`, and in no text of it."""

    kind: str
    url: str
    ref: str = ""
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def path(self) -> Path:
        """The path of a directory or an archive."""
        return Path(os.path.expandvars(self.url)).expanduser()


def without_secrets(text: str) -> str:
    """A text without what stands between a scheme and an @, but for the user of an ssh address."""
    text = re.sub(r"(?i)(?<!ssh)://[^/\s]*@", "://***@", text)
    return re.sub(r"(?i)(ssh://[^/\s:@]*):[^/\s]*@", r"\1:***@", text)


def refused(text: str, why: str) -> InputError:
    """A refusal that repeats no secret."""
    return InputError(f"{VARIABLE}: {visible(without_secrets(text))} {why}")


def location(text: str) -> Location:
    """The source in its parts. Raises InputError for what names none."""
    if not text or text != text.strip() or not text.isprintable():
        raise refused(f'"{text}"', f"is not a path. Give {EXAMPLES}, such as /home/me/shop.")
    if match := GIT.match(text):
        return repository(text, match[1] or match[2])
    if re.match(r"[\w.-]+@[\w.-]+:", text):
        user_and_host, _, path = text.partition(":")
        raise refused(text, f"is scp's form of an address. Write it as git+ssh://{user_and_host}/{path.lstrip('/')}.")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        raise refused(text, "is no address that is fetched. Give git+https://, git+ssh:// or git+file://, or a path.")
    if text.lower().endswith(".whl"):
        return Location("wheel", text)
    return Location("archive" if text.lower().endswith(ARCHIVES) else "directory", text)


def repository(text: str, scheme: str) -> Location:
    """The parts of git+SCHEME://HOST/PATH@REF. Raises InputError."""
    if "?" in text or "#" in text:
        raise refused(
            text.partition("?")[0].partition("#")[0],
            "goes on with ? or #. A directory in the repository is for gunicorn_fastapi_app_path, and a token belongs "
            "before the host: git+https://TOKEN@HOST/REPOSITORY.git@REF.",
        )
    rest = text.partition("://")[2]
    host, slash, path = rest.partition("/")
    path, at, ref = path.rpartition("@") if "@" in path else (path, "", "")
    split = urlsplit(f"{scheme}://{host}")
    if not slash or not path.strip("/") or (scheme == "file" and host) or (scheme != "file" and not split.hostname):
        raise refused(text, "names no repository. Give git+https://HOST/REPOSITORY.git@REF, or git+file:///PATH@REF.")
    if at and (not re.fullmatch(r"[^-\s~^:?*\[\\][^\s~^:?*\[\\]*", ref) or ".." in ref):
        raise refused(text, "ends with what is no branch, tag or commit. Give one behind the @.")
    user, password = unquote(split.username or ""), unquote(split.password or "")
    bare = host.rpartition("@")[2]
    if scheme == "ssh":
        if password:
            raise refused(text, "has a password, which ssh does not take. Use a key of ssh-agent.")
        return Location("git", f"ssh://{f'{split.username}@' if user else ''}{bare}/{path}", ref)
    return Location("git", f"{scheme}://{bare}/{path}", ref, user, password)


def app_source(inputs: Mapping[str, Any]) -> str:
    """What is wrong with the form of the source, in words."""
    try:
        location(inputs[VARIABLE])
    except InputError as error:
        return str(error)
    return ""


def app_path(inputs: Mapping[str, Any]) -> str:
    """What is wrong with the application's directory in the source."""
    value = inputs["gunicorn_fastapi_app_path"]
    if not value or (value == value.strip() and value.isprintable() and is_inside(value)):
        return ""
    return (
        f"gunicorn_fastapi_app_path: {visible(value)} is not a path below the source. Give one such as backend, "
        "without a slash before it and without .. in it."
    )


def is_inside(path: str) -> bool:
    """Whether a path is relative and never leaves where it begins."""
    return not path.startswith(("/", "~")) and ".." not in path.split("/")


def app_version(inputs: Mapping[str, Any]) -> str:
    """What is wrong with the operator's own name of a version."""
    value = inputs["gunicorn_fastapi_app_version"]
    if re.fullmatch(r"[\w.+/@:-]{0,100}", value, re.ASCII):
        return ""
    return (
        "gunicorn_fastapi_app_version: it is to be seen in one line of the status. Give up to 100 letters, digits and "
        ".+/@:_- such as v1.4.2."
    )
