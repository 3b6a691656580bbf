"""What is installed in a virtualenv, read as files, and whether it is what the list says."""

import email.parser
import re
from pathlib import Path
from typing import Any

from appctl import disk
from appctl.process import CtlError

METADATA_MAX = 4 * 1024 * 1024
"""Bytes of a package's description."""

LONGEST = 255
"""Characters of a name or a version: a directory has both in its own name."""

VERSION = re.compile(
    r"v?(?:(?P<epoch>\d+)!)?(?P<release>\d+(?:\.\d+)*)"
    r"(?:[-_.]?(?P<pre>alpha|a|beta|b|preview|pre|c|rc)[-_.]?(?P<pre_n>\d*))?"
    r"(?:-(?P<post_only>\d+)|[-_.]?(?P<post>post|rev|r)[-_.]?(?P<post_n>\d*))?"
    r"(?:[-_.]?(?P<dev>dev)[-_.]?(?P<dev_n>\d*))?"
    r"(?:\+(?P<local>[a-z0-9]+(?:[-_.][a-z0-9]+)*))?"
)
"""A version as PEP 440 allows it to be written."""

SPELLINGS = {"alpha": "a", "beta": "b", "preview": "rc", "pre": "rc", "c": "rc"}


def normalized(name: str) -> str:
    """A package's name as it is compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def canonical(version: str) -> str:
    """A version as it is compared: 1.0 and 1.0.0 are one. What is no version stays as it is."""
    match = VERSION.fullmatch(version.strip().lower())
    if not match or len(version) > LONGEST:  # Python converts no number of any length
        return version.strip()
    found = match.groupdict()
    text = f"{int(found['epoch'] or 0)}!" + re.sub(
        r"(\.0)+$", "", ".".join(str(int(n)) for n in found["release"].split("."))
    )
    if found["pre"]:
        text += f"{SPELLINGS.get(found['pre'], found['pre'])}{int(found['pre_n'] or 0)}"
    if found["post_only"] or found["post"]:
        text += f".post{int(found['post_only'] or found['post_n'] or 0)}"
    if found["dev"]:
        text += f".dev{int(found['dev_n'] or 0)}"
    return text + (f"+{re.sub('[-_]', '.', found['local'])}" if found["local"] else "")


def installed(site: Path) -> list[tuple[str, str]]:
    """Name and version of every package in a directory of packages. Raises CtlError for one that does not tell them."""
    found = []
    # Python itself takes these endings in capitals, too.
    for directory in sorted(path for path in site.iterdir() if path.suffix.lower() in (".dist-info", ".egg-info")):
        file = directory / ("METADATA" if directory.suffix.lower() == ".dist-info" else "PKG-INFO")
        try:
            text = disk.read_bounded(file, METADATA_MAX).decode(errors="replace")
        except OSError as error:
            raise CtlError(f"the package {directory.name} was installed without its description: {error}") from None
        headers = email.parser.HeaderParser().parsestr(text.partition("\n\n")[0])
        name, version = headers.get("Name"), headers.get("Version")
        if not name or not version or len(str(name)) > LONGEST or len(str(version)) > LONGEST:
            raise CtlError(f"the package {directory.name} was installed and does not tell its name and version")
        found.append((normalized(str(name)), str(version).strip()))
    return found


def differences(listed: list[dict[str, Any]], there: list[tuple[str, str]]) -> list[str]:
    """How what is installed differs from a list, in words. Entries with a condition may be missing."""
    said = []
    allowed: dict[str, set[str]] = {}
    for entry in listed:
        allowed.setdefault(normalized(str(entry["name"])), set()).add(str(entry["version"]))
    for name, version in there:
        versions = [canonical(listed_one) for listed_one in allowed.get(name, ())]
        if name not in allowed:
            said.append(f"{name} {version} is installed but not in the lock file")
        elif canonical(version) not in versions and "" not in versions:
            said.append(f"{name} {version} is installed, and the lock file has {' or '.join(sorted(allowed[name]))}")
    names = [name for name, _ in there]
    said += [f"{name} is installed {names.count(name)} times" for name in sorted(set(names)) if names.count(name) > 1]
    wanted = {normalized(str(entry["name"])) for entry in listed if not entry["condition"]}
    said += [f"{name} is in the lock file but not installed" for name in sorted(wanted - set(names))]
    return said


def check(listed: list[dict[str, Any]], site: Path) -> None:
    """Raise CtlError unless exactly what is in the list is installed."""
    said = differences(listed, installed(site))
    if said:
        raise CtlError(
            f"what was installed differs from the lock file: {'; '.join(said)}. Look in it for "
            "lines that hide others, such as a comment that ends with a backslash"
        )
