"""What a build makes of a source on the controller: in a clean copy, once for all hosts, and kept."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import bounded
from .archive import Member
from .environment import value
from .git import KEPT, locked
from .ignored import GitIgnore
from .problem import InputError, visible
from .source import Source

VARIABLE = "gunicorn_fastapi_build_command"
SHOWN = 20
"""Lines of a build that failed which are shown."""

INHERITED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSH_AUTH_SOCK", "SSL_CERT_FILE",
    "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY",
    "HTTPS_PROXY", "NO_PROXY", "all_proxy", "ALL_PROXY", "XDG_CACHE_HOME",
)  # fmt: skip
"""What a build has of the controller's environment: what programs need to be found and to reach the network."""


@dataclass(frozen=True)
class Build:
    """What is to be run, and what of the source counts."""

    command: str
    environment: dict[str, Any]
    timeout: int
    again: bool
    exclude: list[str]
    include: list[str]


def members(top: Path, path: str, build: Build, tracked: set[str] | None = None) -> dict[str, Member]:
    """The files of a source by their names in it: of the application's directory what is in a release, and the rest."""
    below = f"{path.strip('/')}/" if path.strip("/") else ""
    inside = {n.removeprefix(below) for n in tracked if n.startswith(below)} if tracked is not None else None
    app = Source(top / path, build.exclude, build.include, top, inside).members
    if not below:
        return app
    whole = Source(top, build.exclude, [], top, tracked).members
    others = {name: member for name, member in whole.items() if not name.startswith(below)}
    return others | {f"{below}{name}": member for name, member in app.items()}


def built(top: Path, path: str, build: Build, cache: Path, run: str, check: bool) -> tuple[Path, str]:
    """The source as the build leaves it, and what to say of that. In check mode nothing is run.

    Equal files, commands and variables are built once, and in one `run` whatever happens.
    """
    begun = members(top, path, build)
    known = [build.command, build.environment, path, build.exclude, build.include]
    known.append({name: (member.mode, member.link, member.digest) for name, member in begun.items()})
    name = hashlib.sha256(json.dumps(known, sort_keys=True, default=value).encode()).hexdigest()[:40]
    directory = cache / "builds"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept, noted = directory / name, directory / f"{name}.run"
    with locked(directory / f"{name}.lock", build.timeout + 60):
        forget(directory, name)
        of_run, _, failure = noted.read_text(encoding="utf-8").partition("\n") if noted.exists() else ("", "", "")
        this = of_run == run
        if this and failure:  # another host's task has tried
            raise InputError(failure)
        if kept.exists() and (this or not build.again):
            os.utime(kept)
            earlier = "" if this else ", by an earlier run (-e gunicorn_fastapi_rebuild=true builds again)"
            return kept, f"The build of this source is there{earlier}"
        if check:
            return top, "The build does not run in check mode: what is shown is the source without it"
        with clean_copy(begun, directory) as copy:
            try:
                took = execute(build, copy)
            except InputError as error:
                noted.write_text(f"{run}\n{error}", encoding="utf-8")
                raise
            made = members(copy, path, build, GitIgnore(top, top).tracked)
            keep(copy, made)
            shutil.rmtree(kept, ignore_errors=True)
            copy.rename(kept)
        noted.write_text(run)
        return kept, f"The build of this source took {took:.0f} s"


@contextlib.contextmanager
def clean_copy(begun: dict[str, Member], directory: Path) -> Iterator[Path]:
    """A copy of these files that is gone afterwards, unless it was renamed."""
    with tempfile.TemporaryDirectory(dir=directory, prefix="building-", ignore_cleanup_errors=True) as work:
        copy = Path(work) / "source"
        copy.mkdir()
        for name, member in begun.items():
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if member.link:
                target.symlink_to(member.link)
            elif member.path:
                shutil.copyfile(member.path, target)
                target.chmod(member.mode)
        yield copy


def execute(build: Build, copy: Path) -> float:
    """Run the command; the seconds that it took. Raises InputError with its last lines, which have no secrets."""
    variables = {name: os.environ[name] for name in INHERITED if name in os.environ}
    given = {name: value(item) for name, item in build.environment.items() if item is not None}
    begin = time.monotonic()
    try:
        status, said = bounded.run(build.command, copy, variables | given, build.timeout)
    except bounded.FullError:
        raise InputError(
            f"{VARIABLE}: the build was ended, because it has left less than {bounded.ROOM // 2**20} MB where "
            f"{copy.parent.parent} is. Nothing has changed on any host. Make room there, or have it write less."
        ) from None
    took = time.monotonic() - begin
    if status == 0:
        return took
    why = f"was not over after {build.timeout} s" if status is None else f"failed with status {status}"
    for secret in sorted(filter(None, given.values()), key=len, reverse=True):
        said = said.replace(secret, "***") if len(secret) > 3 else said
    last = "\n".join(visible(line) for line in said.splitlines()[-SHOWN:] if line.strip())
    raise InputError(
        f"{VARIABLE}: the build {why}, and nothing has changed on any host. Correct it there, and deploy again. "
        f"Its last lines:\n{last or '(none)'}"
    )


def keep(copy: Path, made: dict[str, Member]) -> None:
    """Remove what is no part of the source, such as what a build has installed for itself."""
    for here, directories, names in os.walk(copy, topdown=False):
        for name in [*names, *(d for d in directories if (Path(here) / d).is_symlink())]:
            whole = Path(here) / name
            if str(whole.relative_to(copy)) not in made:
                whole.unlink()
        if not any(Path(here).iterdir()) and Path(here) != copy:
            Path(here).rmdir()


def forget(directory: Path, name: str) -> None:
    """Remove what nobody has used for a while of other builds, and of those that were killed."""
    for old in directory.iterdir():
        if old.name.partition(".")[0] != name and old.stat().st_mtime < time.time() - KEPT:
            if old.is_dir():
                shutil.rmtree(old, ignore_errors=True)
            else:
                old.unlink(missing_ok=True)
