"""Builds of Python that stand alone: which one a version means, and its archive, verified, on the controller."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tarfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .git import KEPT, locked
from .problem import InputError, visible
from .unpacked import Head, escapes

VARIABLE, MIRROR = "gunicorn_fastapi_python", "gunicorn_fastapi_python_mirror"
VERSION = re.compile(r"3\.[0-9]{1,2}(\.[0-9]{1,2})?")
FILE = re.compile(
    r"cpython-(?P<version>3\.\d+\.\d+)\+(?P<date>\d{8})-(?P<machine>[a-z0-9_]+)-unknown-linux-gnu"
    r"-install_only(_stripped)?\.tar\.gz"
)
SUMS = "SHA256SUMS"

# What a build may have at most; those that are published have about 4,000 files and 150 MB.
FILES_MAX, SIZE_MAX, ARCHIVE_MAX = 50_000, 1024**3, 512 * 1024**2
TIMEOUT = 60
PIECE = 1024 * 1024
DIGITS = 12

# The machine in the head of a program (ELF), by what uname calls it.
MACHINES = {"x86_64": 62, "aarch64": 183}


@dataclass(frozen=True)
class Build:
    """One build: `place` is where its archive is, empty where nobody has said where builds come from."""

    version: str
    date: str
    machine: str
    file: str
    digest: str
    place: str = ""

    @property
    def name(self) -> str:
        """The directory on the host: other bytes are another Python."""
        return f"{self.version}-{self.date}-{self.digest[:DIGITS]}"

    def facts(self) -> dict[str, str]:
        """What a host is told of it."""
        return {**asdict(self), "name": self.name}


def numbers(version: str) -> tuple[int, ...]:
    """A version for comparisons."""
    return tuple(int(part) for part in version.split("."))


def fits(version: str, wanted: str) -> bool:
    """Whether a version is one that was asked for, such as 3.14.2 for 3.14."""
    return version == wanted or version.startswith(f"{wanted}.")


def listed(text: str) -> Iterator[Build]:
    """The builds of a list of digests, as sha256sum writes them."""
    for line in text.splitlines():
        digest, _, path = line.partition(" ")
        path = path.lstrip(" *")
        match = FILE.fullmatch(path.rpartition("/")[2])
        if match and re.fullmatch("[0-9a-f]{64}", digest):
            yield Build(match["version"], match["date"], match["machine"], match[0], digest)


def of_directory(mirror: Path, known: Mapping[str, Build]) -> Iterator[Build]:
    """The builds that a directory holds, with the digests that are known, or else those of SHA256SUMS beside them."""
    for path in archives(mirror):
        file = urllib.parse.unquote(path.name)
        match = FILE.fullmatch(file)
        if not match:
            continue
        digest = known[file].digest if file in known else beside(path).get(file, "")
        yield Build(match["version"], match["date"], match["machine"], file, digest, str(path))


def archives(mirror: Path) -> list[Path]:
    """The files of a directory that are called like builds, below the days of their releases or not."""
    return sorted([*mirror.glob("cpython-*"), *mirror.glob("*/cpython-*")])


def beside(path: Path) -> dict[str, str]:
    """The digests of a SHA256SUMS beside an archive, by the names of files."""
    try:
        text = (path.parent / SUMS).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    return {build.file: build.digest for build in listed(text)}


def is_url(mirror: str) -> bool:
    """Whether builds come from a server."""
    return re.match("https?://", mirror) is not None


def wanted(version: str, mirror: str, known_list: str) -> dict[str, Any]:
    """What a version means on each machine, what of it is newest, and which versions there are. Nothing for a name.

    `builds` by machine; the newest of a directory, because that is what can be had, else the newest that is known.
    """
    if not VERSION.fullmatch(version):
        return {}
    known = {build.file: build for build in listed(known_list)}
    mirrored = list(known.values())
    if mirror and not is_url(mirror):
        mirrored = list(of_directory(Path(mirror).expanduser(), known))
    minor = ".".join(version.split(".")[:2])
    chosen: dict[str, Build] = {}
    for build in sorted(mirrored, key=lambda b: (numbers(b.version), b.date, b.file)):
        if fits(build.version, version):
            chosen[build.machine] = build
    if is_url(mirror):
        chosen = {m: Build(**{**asdict(b), "place": address(mirror, b)}) for m, b in chosen.items()}
    series = [b.version for b in [*known.values(), *mirrored] if fits(b.version, minor)]
    return {
        "builds": {machine: build.facts() for machine, build in chosen.items()},
        "newest": max(series, key=numbers, default=""),
        "series": sorted({".".join(b.version.split(".")[:2]) for b in [*known.values(), *mirrored]}, key=numbers),
    }


def address(mirror: str, build: Build) -> str:
    """Where a server has a build."""
    return f"{mirror.rstrip('/')}/{build.date}/{urllib.parse.quote(build.file)}"


def lacking(version: str, mirror: str, machine: str, known: Mapping[str, Any]) -> str:
    """Why no build can be had, and the next step."""
    series = known.get("series", [])
    if not any(fits(version, minor) for minor in series):
        return f"builds that stand alone are known of {', '.join(series)} alone. Ask for one of these"
    number = version if version.count(".") == 2 else f"{version}.N"
    file = f"cpython-{number}+DATE-{machine}-unknown-linux-gnu-install_only_stripped.tar.gz"
    if not mirror:
        return (
            f"{MIRROR} does not say where builds that stand alone come from. Give a URL or a directory that has "
            f"DATE/{file}, as uv takes them"
        )
    if is_url(mirror):
        return f"no checksum of {file} is known. Put it and a {SUMS} into a directory, and name that in {MIRROR}"
    there = ", ".join(visible(path.name) for path in archives(Path(mirror).expanduser())[:5])
    return f"{mirror} has no {file}: {f'it has {there}' if there else 'it has none of any version'}. Put it there"


def archive(build: Mapping[str, str], cache: Path) -> Path:
    """The archive of a build on the controller, verified. Raises InputError."""
    found = Build(**{name: str(build[name]) for name in Build.__annotations__})
    if not found.digest:
        raise InputError(
            f"{MIRROR}: {found.place} has no checksum, for neither this version of the role nor a {SUMS} beside it "
            f"knows one. Put the {SUMS} of those who made it there."
        )
    directory = cache / "pythons"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = directory / f"{found.name}.tar.gz"
    with locked(directory / "lock"):
        for old in directory.glob("*.tar.gz"):
            if old != kept and old.stat().st_mtime < time.time() - KEPT:
                old.unlink()
        if not kept.exists():
            fresh = directory / "fetching"
            try:
                fetch(found, fresh)
                verify(found, fresh)
            except BaseException:
                fresh.unlink(missing_ok=True)
                raise
            fresh.rename(kept)
        os.utime(kept)
    return kept


def fetch(build: Build, target: Path) -> None:
    """Copy the archive from where it is."""
    try:
        if is_url(build.place):
            with urllib.request.urlopen(build.place, timeout=TIMEOUT) as answer, target.open("wb") as file:
                left = ARCHIVE_MAX
                while piece := answer.read(PIECE):
                    left -= len(piece)
                    if left < 0:
                        raise InputError(
                            f"{MIRROR}: {build.place} has more than {ARCHIVE_MAX // 2**20} MB. Correct it."
                        )
                    file.write(piece)
        else:
            shutil.copyfile(build.place, target)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{MIRROR}: {visible(build.place)} cannot be fetched: {visible(str(error))}. Correct the address, or "
            "give a directory that has it."
        ) from None


def verify(build: Build, path: Path) -> None:
    """Raise InputError unless the archive has its digest, and is a Python for the machine."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != build.digest:
        raise InputError(
            f"{MIRROR}: {visible(build.place)} has the sha256 {digest}, and has to have {build.digest}. Fetch it "
            "again, and ask whoever keeps the mirror if it stays so."
        )
    program = f"python/bin/python{'.'.join(build.version.split('.')[:2])}"
    head = b""
    try:
        left = SIZE_MAX
        with tarfile.open(path, mode="r|gz", tarinfo=Head) as tar:
            for count, member in enumerate(tar):
                inside = PurePosixPath(member.name).parts
                left -= member.size
                why = odd(member, inside) or (
                    "it has more files than a Python" if count > FILES_MAX or left < 0 else ""
                )
                if why:
                    raise refused(build, why)
                if "/".join(inside) == program and (content := tar.extractfile(member) if member.isreg() else None):
                    head = content.read(4096)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise refused(build, f"it cannot be unpacked ({error})") from None
    if not head:
        raise refused(build, f"it has no {program}")
    if why := foreign(head, build.machine):
        raise refused(build, f"{program} is {why}")


def refused(build: Build, why: str) -> InputError:
    """The sentence about an archive that is no build."""
    return InputError(
        f"{MIRROR}: {visible(build.place)} is no build of Python {build.version} for {build.machine}: {visible(why)}. "
        "Nothing of it was unpacked. Put the right one there, with its checksum."
    )


def odd(member: tarfile.TarInfo, inside: tuple[str, ...]) -> str:
    """What is wrong with an entry, in words."""
    if member.name.startswith("/") or ".." in inside or inside[:1] != ("python",):
        return f"it holds {member.name}, which is not below python/"
    if (member.issym() and escapes(inside, member.linkname)) or (
        member.islnk() and PurePosixPath(member.linkname).parts[:1] != ("python",)
    ):
        return f"{member.name} is a link out of it, to {member.linkname}"
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        return f"{member.name} is neither a file, a directory nor a link"
    return ""


def foreign(head: bytes, machine: str) -> str:
    """What a program is that does not run on a machine with glibc, by its head; empty when it is right."""
    if head[:4] != b"\x7fELF" or len(head) < 64:
        return "no program of Linux"
    order = "little" if head[5] == 1 else "big"
    number = int.from_bytes(head[18:20], order)  # type: ignore[arg-type] # of the two texts that it takes
    if MACHINES.get(machine, number) != number:
        names = {value: name for name, value in MACHINES.items()}
        return f"for {names.get(number, f'the machine {number} of ELF')}"
    return "for musl, another C library" if b"/ld-musl" in head else ""
