"""The manifest of a release, and whether its files are those that it lists."""

import json
from pathlib import Path
from typing import Any

from appctl import disk
from appctl.process import CtlError

RENDERED = ("systemd/", "etc/logging.conf")
"""What knows its release: the manifest has the digest from before the name was put in."""

SHOWN = 12
"""Digits of a release's name that people are shown."""

MANIFEST_MAX = 64 * 1024 * 1024
RENDERED_MAX = 4 * 1024 * 1024
"""Bytes of a manifest, and of a file that has the name of its release in it."""


def changed_files(directory: Path, manifest: dict[str, Any]) -> list[str]:
    """The files of a release whose content is not what its manifest says, or that are missing."""
    import hashlib  # here, because it loads OpenSSL, and most commands compare nothing

    found = []
    for name, digest in manifest["files"].items():
        path = directory / name
        if path.is_symlink():
            same = hashlib.sha256(b"").hexdigest() == digest
        else:
            try:
                same = digest_of(path, str(manifest["release"]) if name.startswith(RENDERED) else "") == digest
            except OSError:
                same = False
        if not same:
            found.append(str(name))
    return found


def digest_of(path: Path, release: str) -> str:
    """The digest of a file, with the words that stood for its release when it has one."""
    import hashlib

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
