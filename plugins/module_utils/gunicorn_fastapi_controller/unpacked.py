"""Archives with a source, from anywhere: unpacked into a directory of their own, or refused by what is wrong."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from .git import KEPT, locked
from .location import VARIABLE
from .problem import InputError, visible

ENTRIES_MAX = 50_000
BYTES_MAX = 1024**3
"""What one source may have at most. A larger one is no source, or a bomb."""

PIECE = 1024 * 1024


@dataclass(frozen=True)
class Entry:
    """One entry of an archive: a file, a directory, or a link to `link`."""

    name: str
    is_directory: bool = False
    link: str = ""
    executable: bool = False
    file: tarfile.TarInfo | zipfile.ZipInfo | None = None


def refused(archive: Path, what: str, why: str) -> InputError:
    """The sentence about an archive that is not unpacked."""
    return InputError(
        f"{VARIABLE}: {visible(str(archive))}: {visible(what)} {why}. Nothing of it was unpacked. Make the archive "
        "of the application's source alone, as git archive does."
    )


def unpacked(archive: Path, cache: Path) -> tuple[str, Path]:
    """The digest of an archive and a directory with what it holds. Raises InputError for a bad one."""
    try:
        with archive.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"{VARIABLE}: {visible(str(archive))} cannot be read: {error.strerror}. Give the path of an archive."
        ) from None
    directory = cache / "archives"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    tree = directory / digest
    with locked(directory / "lock"):
        for old in directory.iterdir():
            if old.is_dir() and old != tree and old.stat().st_mtime < time.time() - KEPT:
                shutil.rmtree(old)
        if not tree.exists():
            work = directory / "unpacking"
            shutil.rmtree(work, ignore_errors=True)
            try:
                unpack(archive, work)
            except BaseException:
                shutil.rmtree(work, ignore_errors=True)
                raise
            work.rename(tree)
        os.utime(tree)
    inside = list(tree.iterdir())
    # As git archive --prefix, and what hosts of repositories give, have it.
    return digest, inside[0] if len(inside) == 1 and inside[0].is_dir() and not inside[0].is_symlink() else tree


def unpack(archive: Path, target: Path) -> None:
    """Unpack an archive into a new directory."""
    target.mkdir(mode=0o700)
    try:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as packed:
                write(archive, of_zip(archive, packed), target, packed.open)
        else:
            with tarfile.open(archive, mode="r:*", tarinfo=Head) as tar:
                write(archive, of_tar(archive, tar), target, tar.extractfile)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        why = f"cannot be unpacked ({error})"
        raise InputError(f"{VARIABLE}: {visible(str(archive))} {visible(why)}. Make the archive again.") from None
    except OSError as error:
        raise InputError(
            f"{VARIABLE}: {visible(str(archive))} cannot be unpacked: {visible(str(error))}. Make room in "
            f"{target.parent}, or correct what is named."
        ) from None


class Head(tarfile.TarInfo):
    """An entry whose long name, which is read into memory, is none that no path can have."""

    def _proc_member(self, *given: Any) -> Any:
        if self.size > PIECE and self.type not in (*tarfile.REGULAR_TYPES, tarfile.LNKTYPE):
            raise tarfile.ReadError(f"an entry has {self.size} bytes of name")
        return super()._proc_member(*given)  # type: ignore[misc]


def of_tar(archive: Path, tar: tarfile.TarFile) -> Iterator[Entry]:
    """The entries of a tar archive."""
    for info in tar:
        if info.issym():
            yield Entry(info.name, link=info.linkname)
        elif info.isreg() or info.islnk():
            # A second name of a file has the content of the first.
            yield Entry(info.name, executable=bool(info.mode & 0o111), file=info)
        elif info.isdir():
            yield Entry(info.name, is_directory=True)
        else:
            raise refused(archive, info.name, "is neither a file, a directory nor a link")


def of_zip(archive: Path, packed: zipfile.ZipFile) -> Iterator[Entry]:
    """The entries of a zip archive."""
    for info in packed.infolist():
        mode = info.external_attr >> 16
        if info.flag_bits & 1:
            raise refused(archive, info.filename, "is encrypted")
        if info.is_dir():
            yield Entry(info.filename, is_directory=True)
        elif stat.S_ISLNK(mode):
            if info.file_size > 4096:
                raise refused(archive, info.filename, "is a link longer than a path can be")
            yield Entry(info.filename, link=os.fsdecode(packed.read(info)))
        elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
            yield Entry(info.filename, executable=bool(mode & 0o111), file=info)
        else:
            raise refused(archive, info.filename, "is neither a file, a directory nor a link")


def parts(archive: Path, name: str) -> tuple[str, ...]:
    """A name's parts. Raises InputError for one that leads out of the directory that it is unpacked to."""
    path = PurePosixPath(name)
    if path.is_absolute():
        raise refused(archive, name, "has an absolute name")
    if ".." in path.parts:
        raise refused(archive, name, "has .. in its name")
    if "\0" in name or "\\" in name:
        raise refused(archive, name, "has a name that is none of a file")
    return path.parts


def write(archive: Path, entries: Iterator[Entry], target: Path, opened: Callable[[Any], IO[bytes] | None]) -> None:
    """Write the entries, links last so that nothing is written through one, and count what is really there."""
    left, count = BYTES_MAX, 0
    links: list[tuple[Path, str]] = []
    for entry in entries:
        count += 1
        if count > ENTRIES_MAX:
            raise refused(archive, "it", f"has more than {ENTRIES_MAX} entries, which is no source")
        inside = parts(archive, entry.name)
        if not inside:
            continue
        path = target.joinpath(*inside)
        above = path if entry.is_directory else path.parent
        if any(p.exists() and not p.is_dir() for p in (path, *path.parents)[: len(inside)] if p != path) or (
            not entry.is_directory and path.exists()
        ):
            raise refused(archive, entry.name, "is there twice")
        above.mkdir(parents=True, exist_ok=True)
        if entry.link:
            if escapes(inside, entry.link):
                raise refused(archive, entry.name, f"is a link out of the archive, to {entry.link}")
            links.append((path, entry.link))
        elif entry.file:
            try:
                content = opened(entry.file)
            except KeyError:
                raise refused(archive, entry.name, "is a link to what is not in the archive before it") from None
            left = copy(archive, content, path, left)
            path.chmod(0o755 if entry.executable else 0o644)
    for path, link in links:
        if path.exists() or path.is_symlink():
            raise refused(archive, str(path.relative_to(target)), "is there twice")
        path.symlink_to(link)


def escapes(inside: tuple[str, ...], link: str) -> bool:
    """Whether a link leads out of what it is part of."""
    whole = os.path.normpath("/".join([*inside[:-1], link]))
    return link.startswith("/") or whole.split("/")[0] == ".."


def copy(archive: Path, content: IO[bytes] | None, path: Path, left: int) -> int:
    """Write a file, and how many bytes others may have then. What an archive says of sizes is not believed."""
    if content is None:
        raise refused(archive, path.name, "is a link to what is no file")
    with content, path.open("xb") as file:
        while piece := content.read(PIECE):
            left -= len(piece)
            if left < 0:
                raise refused(archive, "it", f"has more than {BYTES_MAX // 2**20} MiB, which is no source")
            file.write(piece)
    return left
