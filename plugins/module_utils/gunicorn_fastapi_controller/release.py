"""A release: collected, named after its content, packed, and compared with the one before."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from .archive import link, member, pack
from .requirements import checked_requirements, logical_lines, packages, supplied_requirements
from .source import source_files

# Hexadecimal digits of the name of a release or a virtualenv: so many that nobody can make two contents with one name.
NAME_DIGITS = 40
# So many of them are shown to people.
SHOWN_DIGITS = 12


def fingerprint(credentials: str, salt: str) -> bytes:
    """Differs when the credentials do, and makes a guess at them expensive. Empty without credentials.

    A release's name is no secret, and neither is the rest of what it is made from, so whoever has both
    can try guesses. Each costs 32 MiB and about 0.1 s, holds for this release only, and has to be right
    about all credentials at once.
    """
    if not credentials:
        return b""
    return hashlib.scrypt(credentials.encode(), salt=salt.encode(), n=2**15, r=8, p=1, maxmem=2**26)


def virtualenv_name(requirements: str, identity: dict[str, object]) -> str:
    """Names what a virtualenv is made from: the packages, by their digests, and the interpreter."""
    pinned = [sorted(logical_lines(requirements)), identity["python"], identity["python_path"]]
    return hashlib.sha256(json.dumps(pinned).encode()).hexdigest()[:NAME_DIGITS]


def named(name: str, content: str, release: str) -> str:
    """The content of a rendered file, which for a unit knows its release.

    Only units: what an operator has put into other files stays as it is. logging.conf has it for the JSON format.
    """
    if not name.startswith("systemd/") and name != "etc/logging.conf":
        return content
    return content.replace("@RELEASE@", release).replace("@RELEASE_SHORT@", release[:SHOWN_DIGITS])


def differences(
    before: dict[str, Any], release: str, digests: dict[str, str], contents: dict[str, str]
) -> list[dict[str, str]]:
    """What --diff shows: the changed configuration by its text, everything else by its name.

    The variables of the application may be private, so they too are only named.
    """
    shown: list[dict[str, str]] = []
    former, latter = before["release"][:SHOWN_DIGITS], release[:SHOWN_DIGITS]
    names = {"before": "", "after": ""}
    for name in sorted(set(digests) | set(before["files"])):
        if digests.get(name) == before["files"].get(name):
            continue
        if name in contents and name != "etc/environment":
            shown.append(
                {
                    "before_header": f"{former}/{name}",
                    "after_header": f"{latter}/{name}",
                    "before": before["configuration"].get(name, ""),
                    "after": contents[name],
                }
            )
            continue
        for side, files in (("before", before["files"]), ("after", digests)):
            if name in files:
                names[side] += f"{name} sha256:{files[name][:SHOWN_DIGITS]}\n"
    headers = {"before_header": f"{former}/ (other files)", "after_header": f"{latter}/ (other files)"}
    return [*shown, {**headers, **names}] if names["before"] or names["after"] else shown


def bundle(
    source: str,
    exclude: list[str],
    requirements: str,
    supply: str,
    library: str,
    files: dict[str, str],
    identity: dict[str, object],
    credentials: str,
    directory: str,
    before: dict[str, Any],
) -> dict[str, object]:
    """Collect, name and pack a release. Raises InputError for unusable input."""
    members = [member(f"app/{n}", p, b"") for n, p in source_files(Path(source), exclude).items()]

    listed = checked_requirements(Path(source) / requirements)
    added = supplied_requirements(listed, Path(supply).read_text(encoding="utf-8"))
    if added:
        listed = f"{listed.rstrip()}\n\n# What the application's list lacks, supplied by the role:\n{added}"
    made = {**files, "requirements.txt": listed}
    for path in Path(library).rglob("*.py"):
        made[f"lib/gunicorn_fastapi/{path.relative_to(library)}"] = path.read_text(encoding="utf-8")
    members += [member(name, None, content.encode()) for name, content in made.items()]

    content_of = {
        info.name: (info.type.decode(), info.mode, info.linkname, hashlib.sha256(content).hexdigest())
        for info, content in members
    }
    whole = json.dumps([identity, content_of], sort_keys=True)
    release = hashlib.sha256(whole.encode() + fingerprint(credentials, whole)).hexdigest()[:NAME_DIGITS]

    digests = {name: described[-1] for name, described in content_of.items()}
    manifest = {"release": release, **identity, "files": digests, "packages": packages(listed)}
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    members.append(member("manifest.building", None, text.encode()))
    virtualenv = virtualenv_name(listed, identity)
    members.append((link("venv", f"../../virtualenvs/{virtualenv}"), b""))
    for position, (info, content) in enumerate(members):
        if info.name in files:
            content = named(info.name, content.decode(), release).encode()
            info.size = len(content)
            members[position] = (info, content)
        if info.name == "etc/environment":
            info.mode = 0o640

    archive = Path(directory) / f"release-{release}.tar.gz"
    if archive.exists():
        os.utime(archive)
    else:
        pack(release, sorted(members, key=lambda m: m[0].name), archive)
    changed = release != before["release"]
    rendered = {name: named(name, text, release) for name, text in made.items() if not name.startswith("lib/")}
    return {
        "changed": changed,
        "diff": differences(before, release, digests, rendered) if changed else [],
        "release": release,
        "archive": str(archive),
        "virtualenv": virtualenv,
        "manifest": manifest,
        "size": sum(info.size for info, _ in members),
    }
