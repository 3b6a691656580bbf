"""A release: collected, named after its content, packed, and compared with the one before."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import lists, newer, pins, pylock, wheel_source
from . import prepared as prepare
from . import state as state_paths
from .archive import Member, from_bytes, pack, rendered
from .compared import contradictions
from .git import pointers
from .problem import InputError, visible
from .requirements import Entry, Requirements, read
from .server import Host, check, check_python, names, supplied
from .source import Source, listing

# Hexadecimal digits of the name of a release or a virtualenv: so many that nobody can make two contents with one name.
NAME_DIGITS = 40
# So many of them are shown to people.
SHOWN_DIGITS = 12
# Rendered files whose content may be secret, with their modes: the application's variables, and headers of checks.
PRIVATE = {"etc/environment": 0o640, "etc/checks.json": 0o600}


def digest(*parts: bytes) -> str:
    """The name of a content."""
    return hashlib.sha256(b"".join(parts)).hexdigest()[:NAME_DIGITS]


def fingerprint(credentials: str, salt: str) -> bytes:
    """Differs when the credentials do, and makes a guess at them expensive. Empty without credentials.

    A release's name is no secret, and neither is the rest of what it is made from, so whoever has both
    can try guesses. Each costs 32 MiB and about 0.1 s, holds for this release only, and has to be right
    about all credentials at once.
    """
    if not credentials:
        return b""
    return hashlib.scrypt(credentials.encode(), salt=salt.encode(), n=2**15, r=8, p=1, maxmem=2**26)


def command_name(files: dict[str, str], members: Iterable[Member], requirements: str, credentials: str) -> str:
    """Names what a release command works with, whichever host it runs on. Empty without one.

    Not the interpreter, the units and the server's settings: they differ from host to host, and it runs once for all.
    """
    if "etc/release-command" not in files:
        return ""
    own = [files["etc/release-command"], files.get("etc/environment", ""), requirements]
    source = sorted((m.name, m.link, m.digest) for m in members)
    whole = json.dumps([own, source])
    return digest(whole.encode(), fingerprint(credentials, whole))


def virtualenv_name(entries: Iterable[Entry], identity: dict[str, object]) -> str:
    """Names what decides a virtualenv's content: the packages, by their digests, and the interpreter.

    Not where they come from: a package with the same digest is the same.
    """
    packages = sorted([e.key, e.extras, e.version, e.marker, sorted(e.hashes)] for e in entries)
    return digest(json.dumps([packages, identity["python"], identity["python_path"]]).encode())


def packages(entries: Iterable[Entry], host: Host) -> list[dict[str, object]]:
    """What the manifest has of each package, with its condition (empty: always) and whether it holds on the host."""
    found = [
        {
            "name": entry.key,
            "version": entry.version,
            "condition": entry.marker,
            "applies": entry.applies(host.environment()),
            "hashes": list(entry.hashes),
        }
        for entry in entries
    ]
    return sorted(found, key=lambda package: (str(package["name"]), str(package["version"])))


def knows_its_name(name: str) -> bool:
    """Whether the words @RELEASE@ become the name in a file: in the units, and in logging.conf for the JSON format.

    An operator's values in other files stay as they are.
    """
    return name.startswith("systemd/") or name == "etc/logging.conf"


def named(name: str, content: str, release: str) -> str:
    """The content of a rendered file in the release of this name."""
    if not knows_its_name(name):
        return content
    return content.replace("@RELEASE@", release).replace("@RELEASE_SHORT@", release[:SHOWN_DIGITS])


def differences(
    before: dict[str, Any], release: str, members: Iterable[Member], contents: dict[str, str]
) -> list[dict[str, str]]:
    """What --diff shows: the changed configuration by its text, everything else by its name.

    What may be private is only named.
    """
    shown: list[dict[str, str]] = []
    sides = {"before": "", "after": ""}
    former, latter = before["release"][:SHOWN_DIGITS], release[:SHOWN_DIGITS]
    old: dict[str, str] = before["files"]
    new = {m.name: m.digest for m in members}
    for name in sorted(set(new) | set(old)):
        if new.get(name) == old.get(name):
            continue
        if name in contents and name not in PRIVATE:
            shown.append(
                {
                    "before_header": f"{former}/{name}",
                    "after_header": f"{latter}/{name}",
                    "before": before["configuration"].get(name, ""),
                    "after": named(name, contents[name], release),
                }
            )
            continue
        for side, files in (("before", old), ("after", new)):
            if name in files:
                sides[side] += f"{visible(name)} sha256:{files[name][:SHOWN_DIGITS]}\n"
    headers = {"before_header": f"{former}/ (other files)", "after_header": f"{latter}/ (other files)"}
    return [*shown, {**headers, **sides}] if sides["before"] or sides["after"] else shown


@dataclass(frozen=True)
class Wanted:
    """Which list of packages an application has, what of it, and what uv has made of it, where it was asked."""

    top: Path
    requirements: str
    extras: list[str]
    groups: list[str]
    upgrade: list[str]
    locked: str
    wheels: dict[str, bytes]

    def read(self, source: Source, host: Host) -> tuple[Path, Requirements]:
        """The list by its path, and what it says. Raises InputError."""
        found = lists.find(self.top.resolve(), source.path, self.requirements)
        if not found.is_asked:
            newer.refuse(self.upgrade, found.path)
        if found.kind == "pylock":
            return found.path, pylock.read(found.path, host.environment(), self.extras, self.groups)
        if not found.is_asked:
            lists.refuse_choice(found, self.extras, self.groups)
            return found.path, read(found.path, source.path, source.members)
        wheel = wheel_source.line(found.path) if found.kind == "project" else ""
        if not (self.locked.strip() or wheel):
            raise InputError(f"gunicorn_fastapi_requirements: {found.path} names no package that is needed here.")
        lines = [*lists.index_lines(found, self.top.resolve()), self.locked, wheel]
        own = read(found.path, source.path, source.members, "\n".join(lines), self.wheels)
        return found.path, (pins.verified(own, found.path, newer.keys(self.upgrade)) if found.kind == "pins" else own)


def listed(
    wanted: Wanted, source: Source, supply: list[str], host: Host
) -> tuple[Requirements, Requirements, list[str]]:
    """The application's list, what the role adds to it, and warnings about both together."""
    check_python(source.path, host)
    path, own = wanted.read(source, host)
    added = supplied(own, host, *(read(Path(name), Path(name).parent) for name in supply))
    warnings = check(own, added, host, path, asked=bool(wanted.locked)) + contradictions(path, own.entries)
    return own, Requirements(added), warnings


def require_content(packed: Source, origin: dict[str, Any]) -> list[str]:
    """A warning about files whose content git-lfs has. Raises InputError where that was to be fetched."""
    paths = {name: member.path for name, member in packed.members.items() if member.path}
    found = pointers(paths)
    if not found:
        return []
    told = f"gunicorn_fastapi_app_source: {listing(found)} is a pointer of git-lfs, whose content is not there."
    if origin.get("kind") == "git":
        remedy = "Install git-lfs on the controller (apt install git-lfs)"
        raise InputError(f"{told} {remedy}, or leave it out by gunicorn_fastapi_exclude.")
    return [f"{told} Fetch it (git lfs pull), or leave it out by gunicorn_fastapi_exclude."]


def bundle(
    source: str,
    app_path: str,
    built: bool,
    origin: dict[str, Any],
    exclude: list[str],
    include: list[str],
    requirements: str,
    extras: list[str],
    groups: list[str],
    upgrade: list[str],
    locked: str,
    wheels: dict[str, list[str]],
    state: dict[str, Any],
    supply: list[str],
    library: str,
    files: dict[str, str],
    identity: dict[str, Any],
    machine: str,
    credentials: str,
    env_file: str,
    prepare_command: str,
    prepared: str,
    directory: str,
    before: dict[str, Any],
) -> dict[str, object]:
    """Collect, name and pack a release. Raises InputError for unusable input."""
    packed = Source(Path(source) / app_path, exclude, include, Path(source), whole=built, state=state["directory"])
    packed.leave_out(env_file)
    lfs = require_content(packed, origin)
    host = Host(identity["python"], machine)
    made_wheels = {file: b"".join(map(base64.b64decode, texts)) for file, texts in wheels.items()}
    wanted = Wanted(Path(source), requirements, extras, groups, upgrade, locked, made_wheels)
    own, added, warnings = listed(wanted, packed, supply, host)
    entries = own.entries + added.entries
    text = f"{own}\n# What the application's list lacks, supplied by the role:\n{added}" if added.entries else str(own)
    made = {**files, "requirements.txt": text}
    for path in Path(library).rglob("*.py"):
        made[f"lib/gunicorn_fastapi/{path.relative_to(library)}"] = path.read_text(encoding="utf-8")
    sources, paths = state_paths.led(packed.members, state["paths"], state["scratch"], state["directory"])
    if state["paths"] or state["scratch"]:
        made["etc/state.json"] = paths
    packed.check_directory(state["working_directory"])
    virtualenv = virtualenv_name(entries, identity)
    decides = prepare.decides(
        prepare_command, sources, made.get("etc/environment", ""), state["working_directory"], virtualenv
    )
    left = prepare.left(prepared, directory)
    sources = prepare.merged(sources, left)
    members = [*sources, *(rendered(name, content) for name, content in made.items())]
    members += [from_bytes(f"wheels/{file}", content) for file, content in made_wheels.items()]
    content_of = {m.name: ("2" if m.link else "0", m.mode, m.link, m.digest) for m in members}
    whole = json.dumps([identity, content_of], sort_keys=True)
    release = digest(whole.encode(), fingerprint(credentials, whole))

    # The digests are those from before the release had its name.
    digests = {m.name: m.digest for m in members}
    manifest = {"release": release, **identity, "files": digests, "packages": packages(entries, host)}
    # It says where the content comes from, and is no part of it: the same from elsewhere is the same release.
    manifest |= {"origin": origin} if origin else {}
    command = command_name(files, [*packed.members.values(), *left], str(own), credentials)
    if command:
        manifest["release_command"] = command
    complete = [
        rendered(m.name, named(m.name, made[m.name], release), PRIVATE.get(m.name, m.mode))
        if m.name in files
        else state_paths.named(m, release)
        for m in members
    ]
    complete.append(rendered("manifest.building", json.dumps(manifest, indent=1, sort_keys=True) + "\n"))
    complete.append(Member("venv", link=f"../../virtualenvs/{virtualenv}"))
    told = digest(json.dumps(origin, sort_keys=True).encode())
    archive = Path(directory) / f"release-{release}-{told[:SHOWN_DIGITS]}.tar.gz"
    if archive.exists():
        os.utime(archive)
    else:
        pack(release, sorted(complete, key=lambda m: m.name), archive)
    # What the command leaves is still to come.
    changed = release != before["release"] and not (decides and not prepared)
    shown = {name: content for name, content in made.items() if not name.startswith("lib/")}
    return {
        "changed": changed,
        "diff": differences(before, release, members, shown) if changed else [],
        "warnings": packed.warnings(env_file) + lfs + warnings if changed else [],
        "release": release,
        "release_command": command,
        "prepare": digest(decides.encode()) if decides else "",
        "archive": str(archive),
        "virtualenv": virtualenv,
        "manifest": manifest,
        "list": text,
        "supplied": names(added.entries),
        "size": sum(m.size for m in complete),
    }
