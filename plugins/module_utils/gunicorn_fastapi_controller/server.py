"""The server's own packages: what the role adds to a list, and with which versions it keeps its promises."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from .problem import InputError, visible
from .requirements import Entry, Requirements, advice

# From the first to the last version that all tests have passed with. An older one breaks promises of ours; a newer
# one most likely does not.
TESTED = {"uvicorn": ("0.30", "0.54"), "gunicorn": ("21.2", "27"), "httptools": ("0.6.3", "")}
PYTHON = ("3.11", "3.14")
# A worker class belongs to the uvicorns from this version on, or to those before.
WORKERS = Version("0.36")
# Holes that are published and that a client can reach through this server, each with the version that mends it; from
# the advisories of these names (osv.dev, github.com/advisories), read in November 2026. gunicorn's own parser, which
# has had several, does not read these requests.
HOLES = {
    "starlette": (
        ("0.40.0", "CVE-2024-47874"),
        ("0.47.2", "CVE-2025-54121"),
        ("0.49.1", "CVE-2025-62727"),
        ("1.0.1", "CVE-2026-48710"),
        ("1.3.0", "PYSEC-2026-248"),
        ("1.3.1", "PYSEC-2026-249"),
    ),
    "python-multipart": (
        ("0.0.18", "CVE-2024-53981"),
        ("0.0.26", "CVE-2026-40347"),
        ("0.0.27", "CVE-2026-42561"),
        ("0.0.30", "CVE-2026-53538, CVE-2026-53539"),
    ),
}


@dataclass(frozen=True)
class Host:
    """What decides on the host which packages of a list it installs."""

    python: str
    machine: str

    @property
    def version(self) -> str:
        """The version of Python without the plus that a build from between two versions has at its end."""
        return self.python.removesuffix("+")

    def environment(self) -> dict[str, str]:
        """The environment of markers (PEP 508): CPython on Linux, which all hosts have."""
        return {
            "extra": "",
            "implementation_name": "cpython",
            "implementation_version": self.version,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": self.version,
            "python_version": ".".join(self.version.split(".")[:2]),
            "sys_platform": "linux",
        }

    def installs(self, listed: Requirements) -> dict[str, Entry]:
        """The entries that apply here, by the key of their package. Raises InputError when two versions do."""
        chosen: dict[str, Entry] = {}
        for entry in listed.entries:
            try:
                if not entry.applies(self.environment()):
                    continue
            except (InvalidVersion, UndefinedComparison, UndefinedEnvironmentName) as error:
                raise InputError(
                    f"gunicorn_fastapi_requirements: the condition of {entry.key} ('{visible(entry.marker)}') can be "
                    f"asked of no host: {visible(str(error))}. Correct it, or remove the line."
                ) from error
            other = chosen.setdefault(entry.key, entry)
            if (other.version, set(other.hashes)) != (entry.version, set(entry.hashes)):
                raise InputError(
                    f"gunicorn_fastapi_requirements: the lock file has {entry.key} twice for Python {self.python} on "
                    f"{self.machine or 'this host'}, as {other.version} and as {entry.version}. Remove one of them."
                )
        return chosen


def supplied(listed: Requirements, host: Host, supply: Requirements, older: Requirements) -> tuple[Entry, ...]:
    """What the role adds: the server's packages that the list does not install, in versions that fit it.

    `older` has those that a uvicorn from before 0.36 needs instead.
    """
    installed = host.installs(listed)
    candidates = {entry.key: entry for entry in supply.entries}
    if "uvicorn" in installed and Version(installed["uvicorn"].version) < WORKERS:
        candidates |= {entry.key: entry for entry in older.entries}
    return tuple(entry for key, entry in candidates.items() if key not in installed)


def check(listed: Requirements, added: Iterable[Entry], host: Host, path: Path, asked: bool = False) -> list[str]:
    """Warnings about a list's versions. Raises InputError for those with which a promise of ours would not hold.

    `asked`: uv has made the list of the one at `path`.
    """
    own = host.installs(listed)
    installed = {entry.key: entry for entry in added} | own
    problems, warnings, old = [], [], []
    for name, (first, last) in TESTED.items():
        entry = own.get(name)
        if entry and Version(entry.version) < Version(first):
            old.append(name)
            problems.append(
                f"{name} {entry.version} is older than {first}, which loses requests, or accepts some that it "
                f"should refuse. Require {name}>={first}, or remove it and the role adds one."
            )
        elif entry and last and beyond(entry.version, last):
            warnings.append(f"{name} {entry.version} is newer than {last}, the last one that was tested.")
    uvicorn, worker = installed.get("uvicorn"), installed.get("uvicorn-worker")
    if uvicorn and worker and (Version(worker.version) < Version("0.4")) != (Version(uvicorn.version) < WORKERS):
        problems.append(
            f"uvicorn-worker {worker.version} does not fit uvicorn {uvicorn.version}: 0.4 is for uvicorn {WORKERS} and "
            "later, 0.3 for older ones. Remove uvicorn-worker and the role adds the one that fits."
        )
    warnings += vulnerable({name: entry.version for name, entry in installed.items()})
    if beyond(host.version, PYTHON[1]):
        warnings.append(f"Python {host.python} of the host is newer than {PYTHON[1]}, the last one that was tested.")
    if problems:
        again = f"Then make the lock file again with: {advice(path)}"
        if asked:
            again = "Then lock it again."
            if old:
                again += f" Or, without a change of the project: gunicorn_fastapi_upgrade: [{', '.join(old)}]"
        raise InputError(f"gunicorn_fastapi_requirements: {path}: {' '.join(problems)} {again}")
    return [f"{path}: {warning}" for warning in warnings]


def vulnerable(versions: Mapping[str, str]) -> list[str]:
    """A sentence for each of these packages, by key and version, that has holes that are known here."""
    told = []
    for name, holes in HOLES.items():
        version = versions.get(name, "")
        if open_ones := [what for mended, what in holes if version and Version(version) < Version(mended)]:
            told.append(
                f"{name} {version} has known vulnerabilities ({', '.join(open_ones)}). "
                f"Upgrade to {holes[-1][0]} or later."
            )
    return told


def beyond(version: str, last: str) -> bool:
    """Whether a version belongs to a series after that of `last`."""
    series = Version(last).release
    return Version(version).release[: len(series)] > series


def check_python(source: Path, host: Host) -> None:
    """Raises InputError when the source's pyproject.toml asks for another Python than the host's."""
    try:
        project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8")).get("project")
        wanted = project["requires-python"] if isinstance(project, dict) else ""
        fits = SpecifierSet(str(wanted)).contains(host.version, prereleases=True)
    except (OSError, KeyError, UnicodeDecodeError, tomllib.TOMLDecodeError, InvalidSpecifier):
        return
    if not fits:
        raise InputError(
            f"gunicorn_fastapi_python: the host's Python is {host.python}, and {source / 'pyproject.toml'} has "
            f"requires-python = '{visible(str(wanted))}'. {remedy(str(wanted))}, or change what it asks for."
        )


def remedy(wanted: str) -> str:
    """Which Python to name for a project that asks for these."""
    minors = range(int(PYTHON[0].split(".")[1]), int(PYTHON[1].split(".")[1]) + 1)
    fitting = [f"3.{minor}" for minor in minors if SpecifierSet(wanted).contains(f"3.{minor}.99")]
    return f'Name one that is, such as gunicorn_fastapi_python: "{fitting[-1]}"' if fitting else "Name one that is"


def names(entries: Iterable[Entry]) -> list[str]:
    """The entries as people write them."""
    return [f"{entry.key}=={entry.version}" for entry in entries]
