"""What a prepare command leaves: run once, on one host, with the packages of a release, and kept for all hosts."""

import argparse
import contextlib
import gzip
import hashlib
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

from appctl import build, contents, disk, fetch, interpreter, lock, pythons, sandbox, tree, unpack
from appctl.app import App
from appctl.asking import read_request, seconds
from appctl.interpreter import Interpreter
from appctl.locked import key_of
from appctl.process import CtlError, run

KEPT = 10
"""Outputs that are kept; the oldest go."""

SIZE_MAX = 512 * 1024 * 1024
"""Bytes of what a command may leave."""

SHOWN = 20
"""Lines of a command that failed which are shown."""

TOP = "prepared"
"""The directory in the archive."""

LIMITS = ("TasksMax=512", "MemoryMax=80%", "NoNewPrivileges=yes", "PrivateTmp=yes")


class Request:
    """What is run, and in which release."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.build = build.Request(asked)
        try:
            self.key = key_of(asked)
            self.command, self.directory = str(asked["command"]), str(asked["directory"])
            self.timeout, self.again = float(asked["timeout"]), bool(asked["again"])
        except (KeyError, TypeError, ValueError) as error:
            raise CtlError(f"prepare: the request on standard input has no {error}") from None


def command_prepared(app: App, _: argparse.Namespace) -> dict[str, object]:
    """Show what is kept under the name on standard input: when it was made, and its digest."""
    return {"changed": False, **kept(app, key_of(read_request("prepared")))}


def command_prepare(app: App, arguments: argparse.Namespace) -> dict[str, object]:
    """Run a prepare command and keep what it leaves; the request is on standard input."""
    os.umask(0o022)
    wanted = Request(read_request("prepare"))
    with lock.lock(app, "its prepare command", arguments.lock_wait):
        try:
            there = kept(app, wanted.key)
            if there and not wanted.again:  # whoever had the lock has run it
                return {"changed": False, **there}
            count = prepare(app, wanted)
        except OSError as error:
            raise CtlError(disk.told(error)) from None
    return {"changed": True, "files": count, **kept(app, wanted.key)}


def add_prepare(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--lock-wait", type=seconds, default=lock.WAIT, metavar="SECONDS", help="how long to wait for another change"
    )


def kept(app: App, key: str) -> dict[str, Any]:
    """When an output was made, and its digest. Nothing when there is none."""
    try:
        with (app.prepared / f"{key}.tar.gz").open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"made": os.fstat(file.fileno()).st_mtime, "digest": digest}
    except OSError:
        return {}


def prepare(app: App, wanted: Request) -> int:
    """Run the command in a copy of a release's source, and keep what it has made; how many files. The lock is held."""
    asked = wanted.build
    build.clear(app)
    with build.workshop(app) as work:
        made = work / "release"
        unpack.unpack(asked.archive, asked.release, made)
        (made / "manifest.building").rename(made / "manifest.json")
        manifest = contents.read_manifest(made / "manifest.json")
        pythons.keep(app, asked.python)
        python = interpreter.tried(app, asked.python, build.unit_texts(app, made))
        if not build.packages_installed(app, asked, work, python, manifest):
            build.put_virtualenv(app, work, asked.virtualenv)
        _run(app, wanted, work, python)
        output = work / "output"
        links = (path for path, mode, _, _ in tree.entries(made / "app") if stat.S_ISLNK(mode))
        tree.copy(app.cache / "app", output, frozenset(links))
        found = changed(made / "app", output)
        keep(app, wanted.key, output, found)
    return len(found)


def _run(app: App, wanted: Request, work: Path, python: Interpreter) -> None:
    """Run it on a copy of the source, without network and secrets. Raises CtlError with its last lines."""
    top, virtualenv = app.root / "prepare", app.virtualenvs / wanted.build.virtualenv
    source = app.root / "source"
    script = [
        "set -eu",
        fetch.join("cp", "-dR", "--preserve=mode,timestamps", source, top / "app"),
        f"export PATH={fetch.join(virtualenv)}/bin:$PATH PYTHONPATH={fetch.join(top / 'app')}",
        "export HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1",
        fetch.join("cd", top / "app" / wanted.directory),
        fetch.join("exec", "/bin/sh", "-c", wanted.command) + " 2>&1 </dev/null",
    ]
    confined_by = [
        *(line for line in fetch.properties(app, work, python, offline=True) if not line.startswith("BindPaths=")),
        # What keeps the application from running counts for it too, and what lets it.
        *sandbox.of_unit(*build.unit_texts(app, work / "release")),
        *LIMITS,
        # The packages are open to the application alone.
        f"SupplementaryGroups={app.name}",
        f"InaccessiblePaths=-{app.state}",
        f"BindPaths={app.cache}:{top}",
        f"BindReadOnlyPaths={work / 'release/app'}:{source}",
        f"BindReadOnlyPaths={virtualenv}",
        f"EnvironmentFile={work / 'release/etc/environment'}",
    ]
    disks = (app.cache, fetch.TEMPORARY)
    code, out, err = sandbox.confined(
        fetch.unit(app), ["/bin/sh", "-c", "\n".join(script)], confined_by, "", wanted.timeout, disks
    )
    if not code:
        return
    why = f"was not over after {wanted.timeout:g} s" if code in (137, 143) else f"failed with status {code}"
    last = "\n".join([line for line in (out + err).splitlines() if line.strip()][-SHOWN:])
    raise CtlError(
        f"gunicorn_fastapi_prepare_command {why}, and nothing that serves has changed. It has no network, no secrets "
        f"and no state directory, and writes below the application's source alone. Its last lines:\n{last or '(none)'}"
    )


def changed(before: Path, after: Path) -> list[str]:
    """The files and links that are new, or other than before, by their paths."""
    found = []
    size = 0
    for path, mode, length, link in tree.entries(after):
        if stat.S_ISDIR(mode) or "__pycache__" in Path(path).parts:
            continue
        if not _equal(before / path, after / path, mode, link):
            found.append(path)
            size += length
    if size > SIZE_MAX:
        raise CtlError(f"gunicorn_fastapi_prepare_command has left more than {SIZE_MAX // 2**20} MB. Have it make less")
    return sorted(found)


def _equal(before: Path, after: Path, mode: int, link: str) -> bool:
    """Whether a file or link was there before."""
    try:
        status = before.lstat()
        if link or stat.S_ISLNK(status.st_mode):
            return stat.S_ISLNK(status.st_mode) and str(before.readlink()) == link
        alike = stat.S_ISREG(status.st_mode) and not (status.st_mode ^ mode) & 0o111
        return bool(alike) and _digest(before) == _digest(after)
    except OSError:
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def keep(app: App, key: str, top: Path, paths: list[str]) -> None:
    """Write an archive that is equal for equal files, and forget the oldest ones."""
    app.prepared.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = app.prepared / f".{key}.building"
    with (
        fresh.open("wb") as raw,
        gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for path in ["", *paths]:
            info = tar.gettarinfo(top / path, f"{TOP}/{path}".rstrip("/"))
            info.uid = info.gid = info.mtime = 0
            info.uname = info.gname = ""
            with (top / path).open("rb") if info.isreg() else contextlib.nullcontext() as file:
                tar.addfile(info, file)
    run("sync", "--file-system", str(fresh), timeout=600)
    fresh.chmod(0o600)
    fresh.replace(app.prepared / f"{key}.tar.gz")
    there = sorted(app.prepared.glob("*.tar.gz"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in there[KEPT:]:
        old.unlink()
