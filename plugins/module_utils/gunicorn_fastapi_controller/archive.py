"""The packed release: its members, and the archive that holds them. No file is ever in memory as a whole."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from .problem import InputError, visible


@dataclass(frozen=True)
class Member:
    """A file or a symbolic link of a release. It depends on name, content and the x bit: not on time, owner, umask."""

    name: str
    size: int = 0
    digest: str = hashlib.sha256().hexdigest()
    mode: int = 0o644
    link: str = ""
    path: Path | None = None
    content: bytes = b""

    def open(self) -> BinaryIO:
        return self.path.open("rb") if self.path else io.BytesIO(self.content)

    def info(self, top: str) -> tarfile.TarInfo:
        """Its head in an archive whose one directory is `top`."""
        info = tarfile.TarInfo(f"{top}/{self.name}")
        info.size, info.mode = self.size, self.mode
        if self.link:
            info.type, info.linkname = tarfile.SYMTYPE, self.link
        return info


class Digesting(io.RawIOBase):
    """Reads from another file, and knows the digest of what was read."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.hash = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self.file.read(size)
        self.hash.update(piece)
        return piece


def rendered(name: str, text: str, mode: int = 0o644) -> Member:
    """A file with this text."""
    return from_bytes(name, text.encode(), mode)


def from_bytes(name: str, content: bytes, mode: int = 0o644) -> Member:
    """A file with this content."""
    return Member(name, len(content), hashlib.sha256(content).hexdigest(), mode, content=content)


def from_disk(name: str, path: Path, link: str = "") -> Member:
    """A file of the disk, or a link to `link`. Raises InputError for a file that cannot be read."""
    if link:
        return Member(name, link=link)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        mode = 0o755 if os.access(path, os.X_OK) else 0o644
        return Member(name, path.stat().st_size, digest, mode, path=path)
    except OSError as error:
        raise InputError(
            f"gunicorn_fastapi_app_source: {visible(str(path))} cannot be read: {error.strerror}. "
            "Make it readable, or add its name to gunicorn_fastapi_exclude."
        ) from error


def pack(release: str, members: Iterable[Member], archive: Path) -> None:
    """Write the archive, all of it in one directory, and remove those that no run has used for a day.

    Only for its owner's eyes: it contains the application's variables. Under a temporary name first,
    because another host's task may be doing the same. Raises InputError when a file is not what it was.
    """
    archive.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in archive.parent.glob("*.tar.gz"):
        with contextlib.suppress(FileNotFoundError):  # another host's task has renamed or removed it
            if old.stat().st_mtime < time.time() - 86400:
                old.unlink()
    with tempfile.NamedTemporaryFile(dir=archive.parent, suffix=".tar.gz", delete=False) as temporary:
        try:
            with tarfile.open(fileobj=temporary, mode="w:gz", compresslevel=1) as tar:
                top = directory(release)
                top.mode = 0o750
                tar.addfile(top)
                made = {"."}
                for member in members:
                    for parent in reversed(PurePosixPath(member.name).parents):
                        if str(parent) not in made:
                            made.add(str(parent))
                            tar.addfile(directory(f"{release}/{parent}"))
                    add(tar, release, member)
        except BaseException:
            Path(temporary.name).unlink()
            raise
    Path(temporary.name).rename(archive)


def directory(name: str) -> tarfile.TarInfo:
    """A directory that everybody may enter. Without it, tar would make one by the umask of whoever unpacks."""
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    return info


def add(tar: tarfile.TarFile, release: str, member: Member) -> None:
    """Append a member. Raises InputError when its file is not the one that was looked at."""
    with member.open() as file:
        reading = Digesting(file)
        try:
            tar.addfile(member.info(release), reading)
            whole = not reading.read(1)
        except OSError:  # it has become shorter
            whole = False
    if member.path and not (whole and reading.hash.hexdigest() == member.digest):
        raise InputError(
            f"gunicorn_fastapi_app_source: {visible(str(member.path))} changed while it was packed. "
            "Wait until nothing writes into the source, and deploy again."
        )
