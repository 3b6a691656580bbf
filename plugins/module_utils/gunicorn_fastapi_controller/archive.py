"""The packed release: its members, and the archive that holds them."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import time
from pathlib import Path


def link(name: str, target: str) -> tarfile.TarInfo:
    """A symbolic link as an archive member."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def member(name: str, path: Path | None, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    """An archive member that depends on name, content and the x bit only: not on time, owner, umask."""
    if path is not None and path.is_symlink():
        return link(name, str(path.readlink())), b""
    info = tarfile.TarInfo(name)
    content = content if path is None else path.read_bytes()
    info.size = len(content)
    info.mode = 0o755 if path is not None and os.access(path, os.X_OK) else 0o644
    return info, content


def pack(release: str, members: list[tuple[tarfile.TarInfo, bytes]], archive: Path) -> None:
    """Write the archive, all of it in one directory, and remove those that no run has used for a day.

    Only for its owner's eyes: it contains the application's variables. Under a temporary name first,
    because another host's task may be doing the same.
    """
    archive.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in archive.parent.glob("*.tar.gz"):
        if old.stat().st_mtime < time.time() - 86400:
            old.unlink(missing_ok=True)
    with (
        tempfile.NamedTemporaryFile(dir=archive.parent, delete=False) as temporary,
        tarfile.open(fileobj=temporary, mode="w:gz", compresslevel=1) as tar,
    ):
        top = tarfile.TarInfo(release)
        top.type, top.mode = tarfile.DIRTYPE, 0o750
        tar.addfile(top)
        for info, content in members:
            info.name = f"{release}/{info.name}"
            tar.addfile(info, io.BytesIO(content))
    Path(temporary.name).rename(archive)
