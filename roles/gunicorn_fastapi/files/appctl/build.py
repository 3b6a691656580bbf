"""Build a release on this host from what was sent, so that it is there whole or not at all.

Root executes nothing of it: packages are installed and compiled by a user that exists for as long as the build's
unit, and root copies what came out. All of that has private names until it is on the disk.
"""

import argparse
import contextlib
import grp
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appctl import (
    complete,
    contents,
    credentials,
    disk,
    fetch,
    handover,
    interpreter,
    lock,
    packages,
    pythons,
    releases,
    talk,
    tree,
    unpack,
)
from appctl.app import App
from appctl.asking import add_lock_wait, read_request
from appctl.interpreter import Interpreter
from appctl.ours import Ours
from appctl.process import CtlError, run
from appctl.releases import short

FRESH = 3600.0
"""Seconds for which a virtualenv is kept that no release has: a prepare command has just worked with it."""


class Request:
    """What is to be built, and from what."""

    def __init__(self, asked: dict[str, Any]) -> None:
        try:
            self.release = str(asked["release"])
            self.virtualenv = str(asked["virtualenv"])
            self.archive = Path(asked["archive"])
            self.python = str(asked["python"])
            self.index = [str(word) for word in asked.get("index", [])]
            self.uv = fetch.Uv.asked("build", asked["uv"]["version"], asked["uv"]["list"])
            self.credentials = {str(name): str(value) for name, value in asked.get("credentials", {}).items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise CtlError(f"build: the request on standard input has no {error}") from None
        if not (releases.ID.fullmatch(self.release) and releases.ID.fullmatch(self.virtualenv)):
            raise CtlError("build: the request names no release and virtualenv by their digests")
        if not self.archive.is_absolute():
            raise CtlError("build: the request names no archive by its whole path")


def command_build(app: App, arguments: argparse.Namespace) -> dict[str, object]:
    """Build a release from an archive that was sent; the request is on standard input."""
    os.umask(0o022)
    wanted = Request(read_request("build"))
    with lock.lock(app, f"the build of {short(wanted.release)}", arguments.lock_wait):
        try:
            # Whoever had the lock may have built it.
            return {"changed": build(app, wanted), "release": wanted.release}
        except (CtlError, OSError) as failure:
            why = disk.told(failure) if isinstance(failure, OSError) else str(failure)
            raise CtlError(f"release {short(wanted.release)} was not built; {handover.serving(app)}: {why}") from None


def add_build(command: argparse.ArgumentParser) -> None:
    add_lock_wait(command)


def build(app: App, request: Request) -> bool:
    """Build a release unless it is there and complete; whether it was built. The lock is the caller's."""
    release = request.release
    why = complete.why_not(app, release, thorough=True)
    if not why:
        return False
    if app.release(release).exists():
        talk.say(app, f"release {short(release)} is incomplete, so it is rebuilt: {why}", release)
    if not Ours(app.name).user():
        raise CtlError(f"there is no user {app.name} any more: it was uninstalled meanwhile. Deploy again")
    clear(app)
    with workshop(app) as work:
        unpack.unpack(request.archive, release, work / "release")
        made = work / "release"
        (made / "manifest.building").rename(made / "manifest.json")
        manifest = contents.read_manifest(made / "manifest.json")
        changed = contents.changed_files(made, manifest)
        if manifest["release"] != release or changed:
            raise CtlError(f"what was sent is not release {short(release)}: {', '.join(changed[:3])}. Deploy again")
        pythons.keep(app, request.python)
        python = interpreter.tried(app, request.python, unit_texts(app, made))
        if python.version != manifest.get("python", python.version):
            raise CtlError(
                f"{request.python} is {python.version}, and the release is for {manifest['python']}. Deploy again"
            )
        reused = packages_installed(app, request, work, python, manifest)
        credentials.encrypt(request.credentials, work / "credentials")
        _finish_release(app, made, request)
        run("sync", "--file-system", str(work), timeout=600)
        _put_in_place(app, work, request, reused)
    why = complete.why_not(app, release)
    if why:
        raise CtlError(f"release {short(release)} was built but is incomplete: {why}")
    return True


def clear(app: App) -> None:
    """Remove what builds have left that nobody runs any more. The lock is the caller's, so nobody runs any."""
    fetch.clear(app)
    app.incoming.mkdir(mode=0o700, exist_ok=True)
    app.incoming.chmod(0o700)
    for left in app.incoming.iterdir():
        tree.remove(left)
    # Those that a version without private names has begun.
    for begun in app.releases.glob("*/manifest.building"):
        if not (begun.parent / "manifest.json").exists() and begun.parent.name != releases.current(app):
            tree.remove(begun.parent)
    there = list(app.releases.iterdir()) if app.releases.is_dir() else []
    used = {(release / "venv").resolve().name for release in there}
    names = {release.name for release in there}
    for directory, wanted in ((app.virtualenvs, used), (app.credentials, names)):
        for left in directory.iterdir() if directory.is_dir() else []:
            is_fresh = directory == app.virtualenvs and left.lstat().st_mtime > time.time() - FRESH
            if left.name not in wanted and not is_fresh:
                tree.remove(left)


@contextlib.contextmanager
def workshop(app: App) -> Iterator[Path]:
    """A private directory for as long as the block lasts."""
    work = Path(tempfile.mkdtemp(prefix="build-", dir=app.incoming))
    try:
        with disk.named(work):
            yield work
    finally:
        fetch.clear(app)
        tree.remove(work)
        # A power cut would bring it back, and who finds the release whole builds nothing that would clear it up.
        disk.sync_directory(app.incoming)


def unit_texts(app: App, made: Path) -> list[str]:
    """The service of a release that is being built, and its drop-ins."""
    dropped = sorted(app.extensions.glob("*.conf")) if app.extensions.is_dir() else []
    return [path.read_text(errors="replace") for path in [made / "systemd" / app.service, *dropped]]


def packages_installed(app: App, request: Request, work: Path, python: Interpreter, manifest: dict[str, Any]) -> bool:
    """Compile a release that is being built, and install its packages below `work` unless they are there already."""
    reused = not complete.virtualenv(app, request.virtualenv, complete.Memory(app), thorough=True)
    fetch.fetch(app, request.uv, request.index, work, python, request.virtualenv, request.release, not reused)
    if not reused:
        _finish_virtualenv(work / "virtualenv", python, manifest)
    return reused


def _finish_virtualenv(made: Path, python: Interpreter, manifest: dict[str, Any]) -> None:
    """Give a virtualenv what root alone decides, compare it with the list, and seal it."""
    (made / "pyvenv.cfg").write_text(
        f"home = {Path(python.executable).parent}\n"
        "include-system-site-packages = false\n"
        f"version = {python.version}\n"
        f"executable = {python.executable}\n"
    )
    (made / "pyvenv.cfg").chmod(0o644)
    (made / "bin/python").symlink_to(python.executable)
    for name in ("python3", f"python{python.minor}"):
        (made / "bin" / name).symlink_to("python")
    packages.check(manifest["packages"], made / "lib" / f"python{python.minor}" / "site-packages")
    facts = {"executable": python.executable, "minor": python.minor, "mark": interpreter.mark(python.executable)}
    tree.seal(made, facts)


def _finish_release(app: App, made: Path, request: Request) -> None:
    """Let nobody into a release but root and the application, and seal it."""
    (made / "venv").unlink(missing_ok=True)
    (made / "venv").symlink_to(f"../../virtualenvs/{request.virtualenv}")
    # For the application alone, which reads it when it starts.
    _close(app, made / "etc/environment", 0o640)
    tree.seal(made, {"virtualenv": request.virtualenv})
    _close(app, made, 0o750)


def _close(app: App, path: Path, mode: int) -> None:
    """Let nobody in but root and the application, which may not write."""
    os.chown(path, 0, grp.getgrnam(app.name).gr_gid)
    path.chmod(mode)


def put_virtualenv(app: App, work: Path, name: str) -> None:
    """Give a virtualenv its name, open to the application alone."""
    app.virtualenvs.mkdir(mode=0o755, exist_ok=True)
    _close(app, work / "virtualenv", 0o750)
    tree.put(work / "virtualenv", app.virtualenvs / name)


def _put_in_place(app: App, work: Path, request: Request, reused: bool) -> None:
    """Give what was built its names, the release last: from then on it counts."""
    for directory, mode in ((app.virtualenvs, 0o755), (app.credentials, 0o700), (app.releases, 0o755)):
        directory.mkdir(mode=mode, exist_ok=True)
        directory.chmod(mode)
    if not reused:
        put_virtualenv(app, work, request.virtualenv)
    if request.credentials:
        tree.put(work / "credentials", app.credentials / request.release)
    tree.put(work / "release", app.release(request.release))
    run("sync", "--file-system", str(app.root), timeout=600)
