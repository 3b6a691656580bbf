"""What differs between two releases, by what they consist of. Of values that may be secret only the names are told."""

import argparse
import difflib
import shlex
from collections.abc import Mapping
from typing import Any

from appctl import contents, credentials, disk, origin, releases, talk
from appctl.app import App
from appctl.process import CtlError, run
from appctl.releases import short

ENVIRONMENT = "gunicorn_fastapi_environment"
"""The credential that has the application's secret variables."""

SHOWN = ("systemd/", "etc/gunicorn.conf.py", "etc/logging.conf")
"""Files that have no secrets, whose lines are shown."""

TEXT_MAX = 4 * 1024 * 1024

IDENTITY = {"app_module": "application", "python": "python", "python_path": "interpreter"}

Differences = list[dict[str, Any]]


def command_diff(app: App, arguments: argparse.Namespace) -> dict[str, Any]:
    """Show what changes from one release to another: code, packages, variables by name, units."""
    before, after = releases.resolve(app, arguments.before), releases.resolve(app, arguments.after)
    found: dict[str, Any] = {"from": before, "to": after, **differences(app, before, after)}
    for line in words(app, found):
        talk.out(line)
    return found


def differences(app: App, before: str, after: str) -> dict[str, Differences]:
    """All of it, by its kind."""
    old, new = (contents.read_manifest(app.release(release) / "manifest.json") for release in (before, after))
    files = compared(old["files"], new["files"])
    for entry in files:
        if entry["name"].startswith(SHOWN):
            entry["lines"] = lines(text(app, before, entry["name"]), text(app, after, entry["name"]))
    kinds = {"code": "app/", "units": "systemd/", "settings": "etc/", "server": "lib/"}
    told = {kind: [e for e in files if e["name"].startswith(prefix)] for kind, prefix in kinds.items()}
    told["settings"] = [entry for entry in told["settings"] if entry["name"] != "etc/environment"]
    secrets = [decrypted(app, release) for release in (before, after)]
    variables = [variables_of(text(app, release, "etc/environment")) for release in (before, after)]
    hidden = [variables_of(secret.pop(ENVIRONMENT, "")) for secret in secrets]
    facts = [{IDENTITY[key]: str(manifest[key]) for key in IDENTITY if key in manifest} for manifest in (old, new)]
    return {
        "identity": versions(*facts),
        **told,
        "packages": versions(*(packages(manifest) for manifest in (old, new))),
        "variables": compared(*variables),
        "secret_variables": compared(*hidden),
        "credentials": compared(*secrets),
    }


def compared(old: Mapping[str, str], new: Mapping[str, str]) -> Differences:
    """Which names were added, removed, or have another value. The values are not told."""
    return [
        {"name": name, "change": "added" if name not in old else "removed" if name not in new else "changed"}
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def versions(old: Mapping[str, str], new: Mapping[str, str]) -> Differences:
    """The same of what may be told, with its values; null where there is none."""
    return [{**entry, "from": old.get(entry["name"]), "to": new.get(entry["name"])} for entry in compared(old, new)]


def packages(manifest: dict[str, Any]) -> dict[str, str]:
    """The versions of the packages that are installed; of one by a URL, which has none, the digests."""
    return {
        str(entry["name"]): str(entry["version"]) or " ".join(map(str, entry["hashes"]))
        for entry in manifest["packages"]
        if entry.get("applies", True)
    }


def text(app: App, release: str, name: str) -> str:
    """The text of a release's file, without the name of the release. Empty when there is none."""
    try:
        found = disk.read_bounded(app.release(release) / name, TEXT_MAX).decode(errors="replace")
    except FileNotFoundError:
        return ""
    return found.replace(release, "RELEASE").replace(short(release), "RELEASE")


def lines(old: str, new: str) -> list[str]:
    """The lines that differ, marked by - and +."""
    found = difflib.unified_diff(old.splitlines(), new.splitlines(), n=0, lineterm="")
    return [line for line in found if not line.startswith(("---", "+++", "@@"))]


def variables_of(environment: str) -> dict[str, str]:
    """The variables of a file that a shell reads."""
    try:
        assignments = [word.partition("=") for word in shlex.split(environment, comments=True)]
    except ValueError:
        raise CtlError("the variables of a release cannot be read. Deploy it again") from None
    return {name: value for name, _, value in assignments}


def decrypted(app: App, release: str) -> dict[str, str]:
    """The secrets of a release, which never leave this process. Raises CtlError for one that cannot be decrypted."""
    found = {}
    for name, path in credentials.loaded_by(credentials.unit_of(app, release)):
        try:
            found[name] = run("systemd-creds", "decrypt", f"--name={name}", str(path), "-")
        except CtlError as failure:
            raise CtlError(f"release {short(release)}: its credential {name}: {failure}. Deploy it again") from None
    return found


def words(app: App, found: dict[str, Any]) -> list[str]:
    """The differences as lines."""
    told = [f"{short(found['from'])} -> {short(found['to'])}"]
    sources = [(release, origin.words(origin.of(app, release))) for release in (found["from"], found["to"])]
    told += [f"  source    {short(release)}: {source}" for release, source in sources if source]
    told += [f"  {row['name']:9} {row['from'] or '-'} -> {row['to'] or '-'}" for row in found["identity"]]
    for kind, word in (("code", "code"), ("settings", "settings"), ("units", "unit")):
        for row in found[kind]:
            told.append(f"  {word:9} {row['name'].partition('/')[2]} {row['change']}")
            told += [f"            {line}" for line in row.get("lines", []) if row["change"] == "changed"]
    for row in found["packages"]:
        told.append(f"  package   {row['name']} {row['from'] or '-'} -> {row['to'] or '-'}")
    for kind, word in (("variables", "variable"), ("secret_variables", "secret"), ("credentials", "secret")):
        told += [f"  {word:9} {row['name']} {row['change']}" for row in found[kind]]
    if found["server"]:
        told.append(f"  server    {len(found['server'])} files of the role's own server differ")
    return told if len(told) > 1 else [f"{told[0]}: nothing differs"]


def add_diff(command: argparse.ArgumentParser) -> None:
    command.add_argument("before", nargs="?", default="previous", metavar="A", help="a release (previous)")
    command.add_argument("after", nargs="?", default="current", metavar="B", help="another one (current)")
