"""Fetches the source of a package, in the sandbox of a build, and executes nothing of it.

``/usr/bin/python3 -IS sdist.py URL SHA256 DIRECTORY`` makes DIRECTORY/source, and DIRECTORY/requires.txt with what its
build needs; git+URL COMMIT DIRECTORY INSIDE of a repository, or what is at INSIDE in it; dir+PATH "" DIRECTORY of a
directory of the project. Stands alone.
"""

import base64
import contextlib
import hashlib
import netrc
import os
import shutil
import subprocess
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


GIT = (
    "git", "-c", "core.hooksPath=/dev/null", "-c", "protocol.allow=never", "-c", "protocol.http.allow=always",
    "-c", "protocol.https.allow=always",
)  # fmt: skip


def main(url: str, digest: str, directory: Path, inside: str) -> None:
    """Fetch, verify, and say what the build needs."""
    if url.startswith("dir+"):
        shutil.copytree(url.removeprefix("dir+"), directory / "source", symlinks=True)
    elif url.startswith("git+"):
        clone(url.removeprefix("git+"), digest, directory / "unpacked", inside).rename(directory / "source")
    else:
        unpack(url, digest, directory)
    (directory / "requires.txt").write_text("".join(f"{line}\n" for line in requires(directory / "source")))


def clone(url: str, commit: str, target: Path, inside: str) -> Path:
    """Have a commit of a repository with its submodules; the directory of the package in it."""
    for words in (
        ("clone", "--quiet", "--no-checkout", url, target),
        ("-C", target, "checkout", "--quiet", commit),
        ("-C", target, "submodule", "--quiet", "update", "--init", "--recursive"),
    ):
        try:
            done = subprocess.run(
                [*GIT, *map(str, words)], env=os.environ | {"GIT_TERMINAL_PROMPT": "0"}, stdin=subprocess.DEVNULL,
                capture_output=True, check=False,
            )  # fmt: skip
        except FileNotFoundError:
            sys.exit(f"{url} is a repository, and git is not on this host")
        if done.returncode:
            sys.exit(f"{url} cannot be fetched: {done.stderr.decode(errors='replace').strip()[-1000:]}")
    package = (target / inside).resolve()
    if not package.is_relative_to(target.resolve()) or not package.is_dir():
        sys.exit(f"{url} has no directory {inside}")
    return package


def unpack(url: str, digest: str, directory: Path) -> None:
    """Fetch an archive, compare its digest, and unpack it."""
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
        main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), "".join(sys.argv[4:]))
    except (OSError, ValueError, tarfile.TarError, zipfile.BadZipFile) as error:
        sys.exit(f"{sys.argv[1]} cannot be fetched: {type(error).__name__}: {error}")
