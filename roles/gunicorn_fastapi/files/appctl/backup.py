"""Backups of what the application has written.

What is in its directory is the application's own to choose: links, pipes, damaged databases. So root reads and writes
none of it. A program of ours does, as the application's user in a sandbox, and root has its archive as it is in a file.
"""

import argparse
import contextlib
import datetime
import json
import os
import select
import subprocess
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from appctl import disk, lock, packing, releases, sandbox, talk
from appctl.app import App
from appctl.asking import add_lock_wait
from appctl.process import ENVIRONMENT, CtlError, how_it_ended
from appctl.releases import short
from appctl.text import visible

FORMAT = 1
STATE = "state.tar.gz"
META = "meta.json"
META_MAX = 65536
RECORD_MAX = 64 * 1024 * 1024

MOST = 6 * 3600.0
"""Seconds that it may take."""

BLOCK = tarfile.BLOCKSIZE
CONFINED = [
    *(line for line in sandbox.CONFINED if not line.startswith(("DynamicUser=", "LimitFSIZE="))),
    "NoNewPrivileges=yes", "PrivateNetwork=yes", "PrivateTmp=yes", "ProtectHome=yes", "RemoveIPC=no",
    "RestrictSUIDSGID=yes", "TemporaryFileSystem=/opt:mode=0755",
]  # fmt: skip


class Backup(NamedTuple):
    """What a file says of itself."""

    meta: dict[str, Any]
    records: dict[str, bytes]
    offset: int
    """Where the archive of the state begins in it."""


def command_backup(app: App, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write what the application has written into a file, while it serves."""
    target = Path(arguments.file).absolute()
    refuse_target(app, target)
    with lock.lock(app, "the backup", arguments.lock_wait):
        measured = ask(app, "measure", app.state)
        disk.spare(target.parent, f"a backup of {app.name}", measured["bytes"])
        disk.spare(Path("/var/tmp"), "the copy of a database", measured["database"])
        told = write(app, target, measured)
    size = target.stat().st_size
    talk.out(
        f"{target}: {told['files']} files and {told['databases']} SQLite databases of {app.state}, "
        f"{size / 2**20:.1f} MiB, of release {short(releases.current(app)) or 'none'}"
    )
    if told["left out"]:
        talk.out(f"left out, because they are neither files nor directories nor links: {', '.join(told['left out'])}")
    return {"changed": True, "file": str(target), "size": size, **told}


def refuse_target(app: App, target: Path) -> None:
    """Raise CtlError for a file that root must not write."""
    if os.path.lexists(target):
        raise CtlError(f"{target} is there already. Name another file, or remove it")
    if not target.parent.is_dir():
        raise CtlError(f"{target.parent} is no directory. Make it, or name another one")
    if target.parent.resolve().is_relative_to(app.state.resolve()):
        raise CtlError(f"{target} is where {app.name} itself writes. Name a file of root's elsewhere")


def write(app: App, target: Path, measured: dict[str, int]) -> dict[str, Any]:
    """Write the file whole, or not at all."""
    building = target.with_name(f".{target.name}.building")
    building.unlink(missing_ok=True)
    descriptor = os.open(building, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with disk.named(target), os.fdopen(descriptor, "w+b", buffering=0) as file:
            for name, content in heads(app, measured).items():
                file.write(header(name, len(content)) + padded(content))
            begin = file.tell()
            file.write(bytes(BLOCK))
            told = ask(app, "pack", app.state, output=file, disks=(target.parent, Path("/var/tmp")))
            size = file.seek(0, os.SEEK_END) - begin - BLOCK
            file.write(bytes(-size % BLOCK + 2 * BLOCK))
            file.seek(begin)
            file.write(header(STATE, size))
            os.fsync(file.fileno())
        building.rename(target)
        disk.sync_directory(target.parent)
    finally:
        building.unlink(missing_ok=True)
    return told


def heads(app: App, measured: dict[str, int]) -> dict[str, bytes]:
    """What the file has before the state: what it is, and root's records of the release."""
    release = releases.current(app)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    meta = {"format": FORMAT, "name": app.name, "release": release, "time": now, "host": os.uname().nodename,
            "by": lock.by(), **measured}  # fmt: skip
    found = {META: json.dumps(meta, indent=1).encode()}
    paths = {"history.jsonl": app.history, "released.jsonl": app.released}
    if release:
        paths["manifest.json"] = app.release(release) / "manifest.json"
    for name, path in paths.items():
        with contextlib.suppress(FileNotFoundError):
            found[f"record/{name}"] = disk.read_bounded(path, RECORD_MAX)
    return found


def header(name: str, size: int) -> bytes:
    """What precedes a file in an archive."""
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o600, int(time.time())
    return member.tobuf(tarfile.GNU_FORMAT)


def padded(content: bytes) -> bytes:
    """Content as an archive has it."""
    return content + bytes(-len(content) % BLOCK)


def ask(
    app: App,
    verb: str,
    directory: Path,
    source: IO[bytes] | None = None,
    output: IO[bytes] | None = None,
    disks: Sequence[Path] = (),
) -> dict[str, Any]:
    """Have our program do something in a directory, as the application's user. Raises CtlError with its words."""
    unit = f"{app.name}-backup.service"
    sandbox.stop(unit)
    real = directory.resolve()
    properties = [*CONFINED, f"User={app.name}", f"Group={app.name}", f"ReadWritePaths={real}"]
    command = sandbox.words(unit, ["/usr/bin/python3", "-IS", packing.__file__, verb, str(real)], properties, MOST)
    status, text = confined(unit, command, source, output, disks)
    lines = text.strip().split("\n")
    try:
        found = json.loads(lines[-1]) if not status else {}
    except ValueError:
        found = {}
    if not isinstance(found, dict) or not found:
        why = visible(text.strip()[-1000:], one_line=True) or how_it_ended(status)
        raise CtlError(f"{app.name}: {directory} could not be {PAST[verb]}: {why}")
    return found


PAST = {"measure": "read", "pack": "read", "unpack": "restored"}


def confined(
    unit: str, command: Sequence[str], source: IO[bytes] | None, output: IO[bytes] | None, disks: Sequence[Path]
) -> tuple[int, str]:
    """Run the command of a unit with these files: its exit status, and what it says. Kills it on a full disk."""
    text = bytearray()
    process = subprocess.Popen(
        command, stdin=source or subprocess.DEVNULL, stdout=output or subprocess.DEVNULL, stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        with process.stderr as errors:
            while True:
                for place in disks:
                    disk.spare(place, "a backup")
                if select.select([errors], [], [], 1.0)[0]:
                    piece = os.read(errors.fileno(), disk.PIECE)
                    text += piece[: disk.PIECE - len(text)]
                    if not piece:
                        break
        return process.wait(MOST), text.decode(errors="replace")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(5)
            sandbox.stop(unit)


def read(app: App, file: IO[bytes], path: Path) -> Backup:
    """What a backup says of itself. Raises CtlError for another file."""
    records: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if member.name == STATE:
                    meta = json.loads(records.pop(META))
                    if meta["format"] != FORMAT or not isinstance(meta["bytes"], int):
                        raise CtlError(
                            f"{path}: its format {meta['format']} is unknown. Use a newer version of the role"
                        )
                    return Backup(meta, records, member.offset_data)
                content = archive.extractfile(member)
                if content is None or member.size > (META_MAX if member.name == META else RECORD_MAX):
                    break
                records[member.name] = content.read()
    except (tarfile.TarError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise CtlError(f"{path} is no backup, or not a whole one. Name a file that {app.name}ctl backup has written")


def add_backup(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", help="a new file")
    add_lock_wait(command)
