"""Where the source of a release is on the controller, and where it comes from."""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from . import git, wheel_source
from .location import VARIABLE, Location, location
from .problem import InputError, visible
from .unpacked import unpacked


@dataclass(frozen=True)
class Origin:
    """A source that is there as a directory. `facts` are what people are shown of it: they decide no release."""

    directory: Path
    path: str
    facts: dict[str, object]

    @property
    def application(self) -> Path:
        """The application's directory in it."""
        return self.directory / self.path


def deployer() -> str:
    """Who runs this, and where."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):
        return f"{os.geteuid()}@{socket.gethostname()}"


def run_of(process: int) -> str:
    """Names a run for as long as its process lives: the number alone may be another's later."""
    try:
        begun = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        begun = "0"
    return f"{process}-{begun}"


def found(source: str, path: str, version: str, cache: Path, run: str) -> Origin:
    """Have a source as a directory. Raises InputError with the reason and the next step."""
    where = location(source)
    facts: dict[str, object] = {"kind": where.kind, "path": path, "version": version, "by": deployer()}
    if where.kind == "git":
        commit, directory = git.Clone(where, cache).checked_out(run)
        facts |= {"source": where.url, "ref": where.ref, "commit": commit, "dirty": False}
    elif where.kind == "wheel" and where.path.is_file():
        digest, its_version, directory = wheel_source.unpacked(where.path, cache)
        facts |= {"source": where.path.name, "digest": f"sha256:{digest}", "version": version or its_version}
    elif where.kind == "archive" and where.path.is_file():
        digest, directory = unpacked(where.path, cache)
        facts |= {"source": where.path.name, "digest": f"sha256:{digest}"}
    else:
        directory = where.path
        require_directory(where)
        commit, dirty = git.state(directory)
        facts |= {"source": directory.resolve().name, "commit": commit, "dirty": dirty}
    inside = directory / path
    if not (inside.is_dir() and inside.resolve().is_relative_to(directory.resolve())):
        there = ", ".join(visible(p.name) for p in sorted(directory.iterdir()) if p.is_dir() and p.name[0] != ".")
        raise InputError(
            f"gunicorn_fastapi_app_path: {visible(path)} is not a directory of the source. It has {there or 'none'}."
        )
    return Origin(directory, path, {name: value for name, value in facts.items() if value != ""})


def require_directory(where: Location) -> None:
    """Refuse what is neither there as a directory, nor anything else that is understood."""
    path = where.path
    try:
        if path.is_dir():
            return
        is_file = path.is_file()
    except OSError:
        is_file = False
    shown = visible(where.url)
    what = "is neither a directory nor an archive (.tar.gz, .tgz, .zip, .whl)" if is_file else "is not a directory"
    raise InputError(
        f"{VARIABLE}: {shown} {what} on the controller. "
        "Give the directory that has the application's source and its lock file."
    )
