"""Builds of Python that stand alone: root's own, shared by all applications, and gone when no release needs them."""

import argparse
import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appctl import disk, fetch, interpreter, lock, releases, sandbox, talk, tree
from appctl.app import App
from appctl.asking import read_request, seconds
from appctl.process import CtlError, run

NAME = re.compile(r"(?P<version>3\.\d+\.\d+)-(?P<date>\d{8})-[0-9a-f]{12}")
"""A build: its version, the day on which it was made, and the digest of its archive."""

MOST = 900.0
"""Seconds that unpacking and compiling may take."""

UNUSED = 2 * 3600.0
"""Seconds for which a build is kept that no release refers to: longer than the build of one that will."""

LIMITS = ("TasksMax=64", "MemoryMax=80%")


class Request:
    """Which build is to be installed, and what was sent."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.name, self.archive = str(asked.get("name")), Path(str(asked.get("archive")))
        match = NAME.fullmatch(self.name)
        if not match or not self.archive.is_absolute():
            raise CtlError("python: the request on standard input names no build and no archive that was sent")
        self.version = match["version"]
        self.program = f"bin/python{self.version.rpartition('.')[0]}"


def command_python(app: App, arguments: argparse.Namespace) -> dict[str, object]:
    """Install a build of Python that was sent; the request is on standard input."""
    os.umask(0o022)
    wanted = Request(read_request("python"))
    with lock.lock(app, f"the installation of Python {wanted.version}", arguments.lock_wait):
        try:
            return {"changed": install(app, wanted), "python": wanted.name}
        except OSError as error:
            raise CtlError(disk.told(error)) from None


def add_python(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--lock-wait", type=seconds, default=lock.WAIT, metavar="SECONDS", help="how long to wait for another change"
    )


def install(app: App, wanted: Request) -> bool:
    """Unpack a build, unless it is there and whole; whether it was. Root executes nothing of it."""
    place = app.pythons / wanted.name
    with held(app):
        if place.is_dir() and not tree.broken(place):
            os.utime(place)
            return False
    fetch.clear(app)
    work = Path(tempfile.mkdtemp(prefix=".building-", dir=app.pythons))
    try:
        with disk.named(work):
            _unpack(app, wanted, work)
            tree.seal(work / "python", {"version": wanted.version})
            run("sync", "--file-system", str(work), timeout=600)
            with held(app):
                tree.put(work / "python", place)
                disk.sync_directory(app.pythons)
        interpreter.tried(app, str(place / wanted.program), [])
    finally:
        fetch.clear(app)
        tree.remove(work)
    talk.out(f"Python {wanted.version} was installed as {place}")
    return True


def _unpack(app: App, wanted: Request, work: Path) -> None:
    """Make ``work/python``, by a user that exists for as long as the unit, which asks it for its version too."""
    here = app.pythons / wanted.name
    archive = app.root / "python.tar.gz"
    sent = work / "archive"
    shutil.copyfile(wanted.archive, sent)
    sent.chmod(0o644)  # for the user that unpacks it, and behind a directory of root's
    script = [
        "set -eu",
        fetch.join("mkdir", here),
        fetch.join(
            "tar", "--extract", "--gzip", f"--file={archive}", f"--directory={here}", "--strip-components=1",
            "--no-same-owner", "--no-same-permissions",
        ),
        fetch.join(here / wanted.program, "-I", "-S", "-c", interpreter.ASK),
        fetch.join(here / wanted.program, "-I", "-S", "-m", "compileall", "-qq", "-j0", here / "lib") + fetch.QUIETLY,
    ]  # fmt: skip
    confined_by = [
        *fetch.properties(app, work, None, offline=True),
        *LIMITS,
        f"BindPaths={app.cache}:{app.pythons}",
        f"BindReadOnlyPaths={sent}:{archive}",
    ]
    code, out, err = sandbox.confined(
        fetch.unit(app), ["/bin/sh", "-c", "\n".join(script)], confined_by, "", MOST, (app.cache, fetch.TEMPORARY)
    )
    if code or f'"{wanted.version}"' not in out:
        told = err.strip().rpartition("\n")[2] or f"it says that it is {out.strip()[:100] or 'nothing'}"
        raise CtlError(
            f"Python {wanted.version} was not installed, because its build does not run on this host: {told}. Put "
            "another one into gunicorn_fastapi_python_mirror, or set another interpreter"
        )
    tree.copy(app.cache / wanted.name, work / "python")


@contextlib.contextmanager
def held(app: App) -> Iterator[None]:
    """Keep other applications from removing or replacing a build while the block lasts."""
    app.pythons.mkdir(mode=0o755, parents=True, exist_ok=True)
    for directory in (app.pythons.parent, app.pythons):
        directory.chmod(0o755)
    descriptor = os.open(app.pythons, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def of_executable(app: App, executable: str) -> Path | None:
    """The build that an interpreter belongs to, if it is one of ours."""
    path = Path(executable)
    if not path.is_relative_to(app.pythons) or path == app.pythons:
        return None
    return app.pythons / path.relative_to(app.pythons).parts[0]


def keep(app: App, executable: str) -> None:
    """Have a build kept for as long as a release that needs it may take to be built."""
    build = of_executable(app, executable)
    if build and build.is_dir():
        with held(app):
            os.utime(build)


def prune(app: App) -> None:
    """Remove builds that no release of any application refers to."""
    if not app.pythons.is_dir():
        return
    with held(app):
        used = {of_executable(app, link) for link in _interpreters(app)}
        for build in sorted(app.pythons.iterdir()):
            if build not in used and build.lstat().st_mtime < time.time() - UNUSED:
                tree.remove(build)
                talk.out(f"removed {build}, which no release needs")


def _interpreters(app: App) -> Iterator[str]:
    """The interpreters of all virtualenvs of all applications on this host."""
    for link in (app.base / "opt").glob("*/virtualenvs/*/bin/python"):
        with contextlib.suppress(OSError):
            yield str(link.readlink())


def told(app: App, release: str, newest: str = "") -> dict[str, str]:
    """The Python of a release: its version and executable, and of a build its day, and which newer one is known."""
    try:
        manifest = releases.manifest(app, release)
        version, path = str(manifest["python"]), str(manifest["python_path"])
    except (CtlError, OSError, KeyError):
        return {}
    build = of_executable(app, path)
    match = NAME.fullmatch(build.name) if build else None
    if not match:  # the distribution sees to its updates
        return {"version": version, "path": path}
    there = [other["version"] for place in app.pythons.iterdir() if (other := NAME.fullmatch(place.name))]
    known = [other for other in (*there, newest) if other.rpartition(".")[0] == version.rpartition(".")[0]]
    latest = max((version, *known), key=numbers)
    return {"version": version, "path": path, "built": match["date"], "newer": latest if latest != version else ""}


def numbers(version: str) -> tuple[int, ...]:
    """A version for comparisons."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def behind(python: dict[str, str]) -> str:
    """Which newer one is known, as the end of a line."""
    return f", Python {python['newer']} is known" if python.get("newer") else ""


def words(python: dict[str, str]) -> str:
    """The same in one line."""
    if "built" not in python:
        return f"{python['version']} ({python['path']})"
    date = python["built"]
    said = f"{python['version']}, a build of {date[:4]}-{date[4:6]}-{date[6:]} that no distribution keeps up to date"
    return f"{said}{behind(python)}: deploy again to have it" if python["newer"] else said
