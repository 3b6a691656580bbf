"""Pack what an application has written, and unpack it: run as its user in a sandbox, for root trusts none of it.

A program of its own: it may read and write what the application may, and root reads nothing that it has written but
the texts that it prints.
"""

import errno
import gzip
import json
import os
import posixpath
import sqlite3
import stat
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

SQLITE = b"SQLite format 3\0"
BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite has beside a database while it is in use: a copy of the database has all of it."""

WAIT = 60.0
"""Seconds for which a database may be locked."""

SHOWN = 20
"""Names that are told of many."""


class PackingError(Exception):
    """What could not be packed or unpacked, why, and what to do next."""


def entries(top: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """All that is below a directory, each directory before what is in it. Links are not followed."""
    try:
        names = sorted(os.listdir(top))  # noqa: PTH208 (names alone)
    except FileNotFoundError:  # it has just been removed
        return
    for name in names:
        path = top / name
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        yield path, status
        if stat.S_ISDIR(status.st_mode):
            yield from entries(path)


def opened(path: Path) -> IO[bytes] | None:
    """A regular file. None for one that has gone, or is none any more. Waits for nobody."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return os.fdopen(descriptor, "rb")


def is_database(path: Path) -> bool:
    """Whether a file is one of SQLite's."""
    file = opened(path)
    if file is None:
        return False
    with file:
        return file.read(len(SQLITE)) == SQLITE


def databases(top: Path) -> set[Path]:
    """The databases below a directory."""
    return {path for path, status in entries(top) if stat.S_ISREG(status.st_mode) and is_database(path)}


def measure(top: Path) -> dict[str, int]:
    """Bytes and number of what would be packed, and bytes of its largest database, which is copied before."""
    found = {"bytes": 0, "entries": 0, "database": 0}
    for path, status in entries(top):
        found["entries"] += 1
        if stat.S_ISREG(status.st_mode):
            found["bytes"] += status.st_size
            if status.st_size > found["database"] and is_database(path):
                wal = Path(f"{path}-wal")
                found["database"] = status.st_size + (wal.stat().st_size if wal.is_file() else 0)
    return found


def pack(top: Path, stream: IO[bytes]) -> dict[str, Any]:
    """Write an archive of a directory. Raises PackingError; what was written then is no archive."""
    known = databases(top)
    beside = {Path(f"{path}{end}") for path in known for end in BESIDE}
    told: dict[str, Any] = {"files": 0, "databases": 0, "left out": []}
    with (
        gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=3) as compressed,
        tarfile.open(fileobj=compressed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path, status in entries(top):
            if path in beside:
                continue
            member = tarfile.TarInfo(str(path.relative_to(top)))
            member.mode, member.mtime = stat.S_IMODE(status.st_mode) & 0o777, int(status.st_mtime)
            if stat.S_ISDIR(status.st_mode):
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
            elif stat.S_ISLNK(status.st_mode):
                member.type, member.linkname = tarfile.SYMTYPE, str(path.readlink())
                archive.addfile(member)
            elif path in known:
                add_database(archive, member, path)
                told["databases"] += 1
            elif stat.S_ISREG(status.st_mode) and (file := opened(path)):
                with file:
                    add(archive, member, file)
                told["files"] += 1
            elif not stat.S_ISREG(status.st_mode):
                told["left out"].append(member.name)
    return told


def add(archive: tarfile.TarFile, member: tarfile.TarInfo, file: IO[bytes]) -> None:
    """Add a file with as much as it has now: one that grows meanwhile is not waited for."""
    member.size = os.fstat(file.fileno()).st_size
    try:
        archive.addfile(member, file)
    except OSError as error:
        if error.errno is not None:
            raise
        raise PackingError(f"{member.name} became shorter while it was copied. Try again") from None


def add_database(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    """Add a database as it is between two transactions, whoever writes to it meanwhile."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        copy = Path(place) / "copy"
        try:
            source = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=WAIT)
            target = sqlite3.connect(copy)
            try:
                target.execute("PRAGMA journal_mode=MEMORY")
                source.backup(target)
            finally:
                source.close()
                target.close()
        except sqlite3.Error as error:
            raise PackingError(
                f"{member.name} is a database that SQLite cannot copy: {error}. Repair it (sqlite3 {path} .recover), "
                "or stop what has locked it"
            ) from None
        with copy.open("rb") as file:
            add(archive, member, file)


def unpack(stream: IO[bytes], top: Path) -> dict[str, Any]:
    """Unpack an archive into an empty directory. Raises PackingError for one that leads out of it."""
    told = {"files": 0}
    later: list[tarfile.TarInfo] = []
    try:
        with tarfile.open(fileobj=stream, mode="r|gz") as archive:
            for member in archive:
                path = inside(top, member.name)
                if member.isdir():
                    path.mkdir(mode=0o700)
                    later.append(member)
                elif member.issym():
                    later.append(member)  # so that nothing is written through one
                elif member.isreg() and (content := archive.extractfile(member)):
                    write(path, member, content)
                    told["files"] += 1
                else:
                    raise PackingError(f"{member.name} is neither a file nor a directory nor a link. It is no backup")
    except tarfile.TarError as error:
        raise PackingError(f"the archive is damaged: {error}. Use another backup") from None
    for member in reversed(later):  # the time of a directory after what is in it
        path = inside(top, member.name)
        if member.issym():
            path.symlink_to(member.linkname)
        else:
            path.chmod(member.mode & 0o777)
            os.utime(path, (member.mtime, member.mtime))
    return told


def inside(top: Path, name: str) -> Path:
    """A path below a directory. Raises PackingError for a name that leads out of it."""
    if not name or name.startswith("/") or posixpath.normpath(name) != name or name.split("/")[0] == "..":
        raise PackingError(f"{name!r} leads out of the directory. It is no backup")
    return top / name


def write(path: Path, member: tarfile.TarInfo, content: IO[bytes]) -> None:
    """Write a new file, and have it on the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        while piece := content.read(1024 * 1024):
            file.write(piece)
        file.flush()
        os.fchmod(descriptor, member.mode & 0o777)
        os.fsync(descriptor)
    os.utime(path, (member.mtime, member.mtime))


def main(verb: str, directory: str) -> None:
    """Prints what was done as JSON where it disturbs no archive: on standard error. Ends with 3 and a sentence."""
    top = Path(directory)
    try:
        if verb == "measure":
            told: dict[str, Any] = measure(top)
        elif verb == "pack":
            told = pack(top, sys.stdout.buffer)
            sys.stdout.flush()
            told["left out"] = told["left out"][:SHOWN]
        else:
            told = unpack(sys.stdin.buffer, top)
    except (PackingError, OSError, EOFError, UnicodeError) as error:
        named = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        print(named, file=sys.stderr)
        sys.exit(3)
    print(json.dumps(told), file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
