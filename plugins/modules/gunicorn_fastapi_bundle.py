#!/usr/bin/python
"""Pack a release on the controller, and name it after its content."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gunicorn_fastapi_bundle
short_description: Pack a release on the controller
description:
  - Collects an application's source, its list of requirements and the rendered configuration into
    one archive, and names it after a digest of exactly that. Equal content has an equal name on
    every controller. Runs on the controller and writes to O(directory) only. Reports a change,
    with the differences, when it is not the release in service.
  - The words C(@RELEASE@) in O(files) become the name, which is made before they are replaced.
options:
  source: {type: path, required: true, description: Directory with the application's source.}
  exclude: {type: list, elements: str, default: [], description: Shell patterns of names to leave out.}
  requirements: {type: str, required: true, description: The list of requirements inside the source.}
  supply: {type: path, required: true, description: A list from which what the other lacks is added.}
  library: {type: path, required: true, description: Directory that becomes C(lib/) of the release.}
  files:
    type: str
    required: true
    description: Content of further files by their path, as JSON, in one piece that is not for the system's log.
  identity: {type: dict, required: true, description: What else makes this another release.}
  credentials:
    type: str
    default: ""
    description:
      - Secrets that make this another release too, all in one string. They become no part of it, and
        its name and manifest do not tell them.
  directory: {type: path, required: true, description: Where the archive is written and found by the next host.}
  before:
    type: dict
    required: true
    description:
      - RV(manifest) and rendered files of the release that is in service, to tell what would change.
author: the gunicorn_fastapi maintainers (@gunicorn-fastapi)
"""

EXAMPLES = r"""
- name: Pack the release
  gunicorn_fastapi_bundle:
    source: app
    requirements: requirements.txt
    supply: "{{ role_path }}/files/server-requirements.txt"
    library: "{{ role_path }}/files/gunicorn_fastapi"
    files: "{{ {'etc/environment': ''} | to_json }}"
    identity: {python: "3.11"}
    directory: /tmp
    before: {release: "", files: {}, configuration: {}}
  delegate_to: localhost
"""

RETURN = r"""
release: {type: str, returned: always, description: Name of the release, 12 hexadecimal digits.}
archive: {type: str, returned: always, description: Path of the archive on the controller.}
virtualenv: {type: str, returned: always, description: Name of the virtualenv; equal requirements have an equal one.}
size: {type: int, returned: always, description: Bytes of the release before its requirements.}
manifest: {type: dict, returned: always, description: What the release was made from.}
"""

import fnmatch
import hashlib
import io
import json
import os
import re
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

COMPILE = "uv pip compile --generate-hashes --output-file requirements.txt requirements.in"


class BundleError(Exception):
    """What is wrong with the input, and what to do about it."""


def logical_lines(text: str) -> list[str]:
    """The entries of a requirements file: comments gone, continued lines joined."""
    joined = re.sub(r"\\\n", " ", text)
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line]


def requirement_name(line: str) -> str:
    """The normalized name of the package that an entry is about (PEP 503)."""
    match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line)
    return re.sub(r"[-_.]+", "-", match.group().lower()) if match else ""


def checked_requirements(path: Path) -> str:
    """The text of the application's list, once every entry is known to be pinned by a hash."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(
            f"gunicorn_fastapi_requirements: {path} cannot be read: {error}. Make it with: {COMPILE}"
        ) from error
    for line in logical_lines(text):
        if re.match(r"-[rce]|--(requirement|constraint|editable)\b", line):
            raise BundleError(
                f"gunicorn_fastapi_requirements: {path}: '{line}' names another file, and a release is made "
                f"from one list. Compile them into one: {COMPILE}"
            )
        if not line.startswith("-") and "--hash=" not in line:
            raise BundleError(
                f"gunicorn_fastapi_requirements: {path}: '{line}' has no --hash, so what is installed could "
                f"change unnoticed. Make the list with: {COMPILE}"
            )
    return text


def supplied_requirements(text: str, supply: str) -> str:
    """The entries of `supply` for packages that `text` does not name."""
    named = {requirement_name(line) for line in logical_lines(text)}
    lacking = [line for line in logical_lines(supply) if requirement_name(line) not in named]
    return "".join(f"{line}\n" for line in lacking)


def packages(text: str) -> list[dict[str, object]]:
    """Name, version, condition (empty: always) and accepted digests of every package of a list."""
    found: list[dict[str, object]] = []
    for line in logical_lines(text):
        if line.startswith("-"):
            continue
        requirement = line.partition("--hash=")[0]
        named, _, condition = requirement.partition(";")
        _, _, version = named.partition("==")
        found.append(
            {
                "name": requirement_name(line),
                "version": version.strip(),
                "condition": condition.strip(),
                "hashes": re.findall(r"--hash=(\S+)", line),
            }
        )
    return sorted(found, key=lambda package: str(package["name"]))


def fingerprint(credentials: str, salt: str) -> bytes:
    """Differs when the credentials do, and makes a guess at them expensive. Empty without credentials.

    A release's name is no secret, and neither is the rest of what it is made from, so whoever has both
    can try guesses. Each costs 32 MiB and about 0.1 s, holds for this release only, and has to be right
    about all credentials at once.
    """
    if not credentials:
        return b""
    return hashlib.scrypt(credentials.encode(), salt=salt.encode(), n=2**15, r=8, p=1, maxmem=2**26)


def source_files(source: Path, exclude: list[str]) -> dict[str, Path]:
    """The files and symbolic links below `source`, by their path relative to it."""
    if not source.is_dir():
        raise BundleError(
            f"gunicorn_fastapi_app_source: {source} is not a directory on the controller. "
            "Give the directory that holds the application's source and its list of requirements."
        )

    def wanted(names: list[str]) -> list[str]:
        return sorted(n for n in names if not any(fnmatch.fnmatchcase(n, p) for p in exclude))

    found: dict[str, Path] = {}
    for here, directories, names in os.walk(source):
        directories[:] = wanted(directories)
        linked = [d for d in directories if (Path(here) / d).is_symlink()]
        for name in wanted(names) + linked:
            path = Path(here) / name
            if path.is_symlink() and not path.resolve().is_relative_to(source.resolve()):
                raise BundleError(
                    f"gunicorn_fastapi_app_source: {path} points out of the source, to {path.readlink()}, "
                    "which would not be there on the host. Copy it in, or add its name to gunicorn_fastapi_exclude."
                )
            if not path.is_symlink() and not path.is_file():
                raise BundleError(
                    f"gunicorn_fastapi_app_source: {path} is neither a file nor a directory. "
                    "Add its name to gunicorn_fastapi_exclude."
                )
            found[str(path.relative_to(source))] = path
    return found


def virtualenv_name(requirements: str, identity: dict[str, object]) -> str:
    """Names what a virtualenv is made from: the packages, by their digests, and the interpreter."""
    pinned = [sorted(logical_lines(requirements)), identity["python"], identity["python_path"]]
    return hashlib.sha256(json.dumps(pinned).encode()).hexdigest()[:12]


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


def differences(
    before: dict[str, Any], release: str, digests: dict[str, str], contents: dict[str, str]
) -> list[dict[str, str]]:
    """What --diff shows: the changed configuration by its text, everything else by its name.

    The variables of the application may be private, so they too are only named.
    """
    shown: list[dict[str, str]] = []
    names = {"before": "", "after": ""}
    for name in sorted(set(digests) | set(before["files"])):
        if digests.get(name) == before["files"].get(name):
            continue
        if name in contents and name != "etc/environment":
            shown.append(
                {
                    "before_header": f"{before['release']}/{name}",
                    "after_header": f"{release}/{name}",
                    "before": before["configuration"].get(name, ""),
                    "after": contents[name],
                }
            )
            continue
        for side, files in (("before", before["files"]), ("after", digests)):
            if name in files:
                names[side] += f"{name} sha256:{files[name][:12]}\n"
    headers = {"before_header": f"{before['release']}/ (other files)", "after_header": f"{release}/ (other files)"}
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
    """Collect, name and pack a release. Raises BundleError for unusable input."""
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
    release = hashlib.sha256(whole.encode() + fingerprint(credentials, whole)).hexdigest()[:12]

    digests = {name: described[-1] for name, described in content_of.items()}
    manifest = {"release": release, **identity, "files": digests, "packages": packages(listed)}
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    members.append(member("manifest.building", None, text.encode()))
    virtualenv = virtualenv_name(listed, identity)
    members.append((link("venv", f"../../virtualenvs/{virtualenv}"), b""))
    for position, (info, content) in enumerate(members):
        if info.name in files:
            content = content.replace(b"@RELEASE@", release.encode())
            info.size = len(content)
            members[position] = (info, content)
        if info.name == "etc/environment":
            info.mode = 0o600

    archive = Path(directory) / f"release-{release}.tar.gz"
    if archive.exists():
        os.utime(archive)
    else:
        pack(release, sorted(members, key=lambda m: m[0].name), archive)
    changed = release != before["release"]
    rendered = {name: text.replace("@RELEASE@", release) for name, text in made.items() if not name.startswith("lib/")}
    return {
        "changed": changed,
        "diff": differences(before, release, digests, rendered) if changed else [],
        "release": release,
        "archive": str(archive),
        "virtualenv": virtualenv,
        "manifest": manifest,
        "size": sum(info.size for info, _ in members),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "path", "required": True},
            "exclude": {"type": "list", "elements": "str", "default": []},
            "requirements": {"type": "str", "required": True},
            "supply": {"type": "path", "required": True},
            "library": {"type": "path", "required": True},
            "files": {"type": "str", "required": True, "no_log": True},
            "identity": {"type": "dict", "required": True},
            "credentials": {"type": "str", "default": "", "no_log": True},
            "directory": {"type": "path", "required": True},
            "before": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**bundle(**{**module.params, "files": json.loads(module.params["files"])}))
    except BundleError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
