"""A release as it was sent: unpacked with modes of our own, and compared with its manifest."""

import hashlib
import json
import os
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

from appctl import disk
from appctl.process import CtlError

RENDERED = ("systemd/", "etc/logging.conf")
"""What knows its release: the manifest has the digest from before the name was put in."""

SHOWN = 12
"""Digits of a release's name that people are shown."""

PIECE = 1024 * 1024

MANIFEST_MAX = 64 * 1024 * 1024
RENDERED_MAX = 4 * 1024 * 1024
"""Bytes of a manifest, and of a file that has the name of its release in it."""


def unpack(archive: Path, release: str, target: Path) -> None:
    """Unpack a release into a new directory.

    Modes are of our own choice whatever the umask is: 0755 and 0644, and 0640 for what the archive keeps from
    others. Raises CtlError for an archive that was cut off or holds anything else than one release.
    """
    target.mkdir(mode=0o700)
    links: list[tuple[Path, str]] = []
    try:
        with disk.named(target), tarfile.open(archive, mode="r|gz") as tar:
            for member in tar:
                inside = PurePosixPath(member.name)
                if inside.is_absolute() or ".." in inside.parts or inside.parts[:1] != (release,):
                    raise CtlError(f"{archive} holds {member.name}, which is not part of the release")
                path = target.joinpath(*inside.parts[1:])
                if member.isdir():
                    make_directories(path, target)
                elif member.issym():
                    make_directories(path.parent, target)
                    links.append((path, member.linkname))
                elif member.isreg():
                    make_directories(path.parent, target)
                    content = tar.extractfile(member)
                    mode = 0o640 if not member.mode & 0o007 else 0o755 if member.mode & 0o111 else 0o644
                    with path.open("xb") as file:
                        while content and (piece := content.read(PIECE)):
                            file.write(piece)
                        os.fchmod(file.fileno(), mode)
                else:
                    raise CtlError(f"{archive} holds {member.name}, which is not a file, directory or link")
    except FileNotFoundError as error:
        if not archive.exists():
            raise CtlError(f"{archive} is missing. Deploy again") from None
        raise CtlError(f"{archive} cannot be unpacked: {error}") from None
    except (tarfile.TarError, EOFError) as error:
        raise CtlError(f"{archive} cannot be unpacked: {error}. Deploy again") from None
    # Last, so that nothing was written through one.
    for path, to in links:
        path.symlink_to(to)


def make_directories(path: Path, top: Path) -> None:
    """Make a directory below `top` and those above it, open to others."""
    missing = []
    while path != top and not path.is_dir():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        directory.mkdir()
        directory.chmod(0o755)


def changed_files(directory: Path, manifest: dict[str, Any]) -> list[str]:
    """The files of a release whose content is not what its manifest says, or that are missing."""
    found = []
    for name, digest in manifest["files"].items():
        path = directory / name
        if path.is_symlink():
            same = hashlib.sha256(b"").hexdigest() == digest
        else:
            try:
                same = _digest(path, str(manifest["release"]) if name.startswith(RENDERED) else "") == digest
            except OSError:
                same = False
        if not same:
            found.append(str(name))
    return found


def _digest(path: Path, release: str) -> str:
    """The digest of a file, with the words that stood for its release when it has one."""
    if release:
        text = disk.read_bounded(path, RENDERED_MAX).replace(release.encode(), b"@RELEASE@")
        return hashlib.sha256(text.replace(release[:SHOWN].encode(), b"@RELEASE_SHORT@")).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest that has all that a release needs to have one. Raises CtlError when it has not."""
    try:
        manifest = json.loads(disk.read_bounded(path, MANIFEST_MAX))
        release, files, packages = manifest["release"], manifest["files"], manifest["packages"]
        whole = isinstance(release, str) and isinstance(files, dict) and isinstance(packages, list)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CtlError(f"{path} cannot be read: {type(error).__name__}: {error}") from None
    if not whole or manifest.get("format", 1) != 1:
        raise CtlError(f"{path} has a format that this version does not know")
    return dict(manifest)
