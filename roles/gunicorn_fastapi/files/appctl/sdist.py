"""Fetches the source of a package, in the sandbox of a build, and executes nothing of it.

``/usr/bin/python3 -IS sdist.py URL SHA256 DIRECTORY`` makes DIRECTORY/source, and DIRECTORY/requires.txt with what its
build needs. Stands alone.
"""

import base64
import contextlib
import hashlib
import netrc
import os
import sys
import tarfile
import tomllib
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

MOST = 512 * 1024 * 1024
"""Bytes of an archive."""

USUAL = ["setuptools >= 40.8.0"]
"""What a source without a [build-system] is built by (PEP 518)."""


def main(url: str, digest: str, directory: Path) -> None:
    """Fetch, verify and unpack."""
    archive = directory / "archive"
    with urllib.request.urlopen(asked(url), timeout=60) as answer, archive.open("wb") as file:
        found, left = hashlib.sha256(), MOST
        while piece := answer.read(65536):
            left -= len(piece)
            if left < 0:
                sys.exit(f"{url} has more than {MOST // 2**20} MB")
            found.update(piece)
            file.write(piece)
    if found.hexdigest() != digest:
        sys.exit(f"{url} has the sha256 {found.hexdigest()}, and the list has {digest}")
    unpacked = directory / "unpacked"
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as whole:
            whole.extractall(unpacked)
    else:
        with tarfile.open(archive) as tar:
            tar.extractall(unpacked, filter="data")
    tops = list(unpacked.iterdir())
    (tops[0] if len(tops) == 1 and tops[0].is_dir() else unpacked).rename(directory / "source")
    (directory / "requires.txt").write_text("".join(f"{line}\n" for line in requires(directory / "source")))


def asked(url: str) -> urllib.request.Request:
    """The request, with what netrc has for its host."""
    request = urllib.request.Request(url)
    with contextlib.suppress(OSError, KeyError, netrc.NetrcParseError):
        known = netrc.netrc(os.environ["NETRC"]).authenticators(urllib.parse.urlsplit(url).hostname or "")
        if known:
            word = base64.b64encode(f"{known[0]}:{known[2]}".encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {word}")
    return request


def requires(source: Path) -> list[str]:
    """What a build needs, as far as it can be known without executing it."""
    try:
        system = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8")).get("build-system")
    except FileNotFoundError:
        return USUAL
    listed = system.get("requires") if isinstance(system, dict) else None
    return [str(line) for line in listed] if isinstance(listed, list) else USUAL


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    except (OSError, ValueError, tarfile.TarError, zipfile.BadZipFile) as error:
        sys.exit(f"{sys.argv[1]} cannot be fetched: {type(error).__name__}: {error}")
