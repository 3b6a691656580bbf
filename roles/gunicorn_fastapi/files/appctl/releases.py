"""The releases on this host: which are there, which one is active, which one runs, which one was before."""

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

from appctl import complete, contents, disk, history, systemd
from appctl.app import App
from appctl.process import CtlError

ID = re.compile(r"[0-9a-f]{1,64}")
"""A release's name, or the beginning of one."""


def short(release: str) -> str:
    """A release's name as it is shown."""
    return release[:12]


def names(app: App) -> list[str]:
    """Releases that were built whole, the latest built first."""
    manifests = []
    for path in app.releases.glob("*/manifest.json"):
        if ID.fullmatch(path.parent.name):
            with contextlib.suppress(OSError):
                manifests.append((path.stat().st_mtime, path.parent.name))
    return [name for _, name in sorted(manifests, reverse=True)]


def manifest(app: App, release: str) -> dict[str, Any]:
    """What a release was built from. Raises CtlError when no such release, or it cannot be read."""
    path = app.release(release) / "manifest.json"
    try:
        found = json.loads(disk.read_bounded(path, contents.MANIFEST_MAX))
    except FileNotFoundError:
        known = ", ".join(short(name) for name in names(app)) or "none"
        raise CtlError(f"release {short(release)}: no such release on this host. Available: {known}") from None
    except (OSError, ValueError) as error:
        raise CtlError(f"release {short(release)}: {path} cannot be read: {error}. Deploy it again") from None
    if not isinstance(found, dict):
        raise CtlError(f"release {short(release)}: {path} is not a manifest. Deploy it again")
    return found


def in_unit(app: App, text: str) -> str:
    """The release that the text of a unit names, empty without one."""
    match = re.search(rf"^WorkingDirectory={re.escape(str(app.releases))}/([0-9a-f]+)/", text, re.MULTILINE)
    return match.group(1) if match else ""


def current(app: App) -> str:
    """The release that the service's unit names, empty when none was ever active."""
    try:
        return in_unit(app, app.unit.read_text())
    except FileNotFoundError:
        return ""


def note_started(app: App, unit: str, release: str, invocation: str) -> None:
    """Note what systemd has just started. Called as root by the unit itself, while it starts."""
    path = app.started(unit)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    disk.durable(path, json.dumps({"release": release, "invocation": invocation}))


def running(app: App, unit: str) -> str:
    """The release that a unit runs, empty when it does not run.

    Known from what root noted when systemd started it, never from the process's own words.
    """
    state = systemd.show(unit, "InvocationID", "MainPID", "WorkingDirectory")
    if state["MainPID"] in ("", "0"):
        return ""
    try:
        noted = json.loads(disk.read_bounded(app.started(unit), 4096))
        if noted["invocation"] == state["InvocationID"]:
            return str(noted["release"])
    except FileNotFoundError:
        # Started by a version of this command that did not note it.
        return in_unit(app, f"WorkingDirectory={state['WorkingDirectory']}")
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return ""


def previous(app: App) -> str:
    """The release that was active before the current one and is still complete. Empty when there is none."""
    return next((release for release in before(app) if not complete.why_not(app, release)), "")


def before(app: App) -> Iterator[str]:
    """The releases on this host that were active before the current one, the latest first, some maybe twice.

    None that was handed back since: nobody wants it again.
    """
    now, there = current(app), names(app)
    for record in reversed(history.read(app.history)[0]):
        served = [record.get("to")] if record.get("outcome") == "done" else []
        if record["reason"].startswith(history.HANDED_BACK):
            there = [release for release in there if release != record["from"]]
        for release in [*served, record.get("from")]:
            if release != now and release in there:
                yield str(release)


def served(app: App) -> set[str]:
    """The releases that were active at any time, as far as the history goes."""
    return {str(line.get("to")) for line in history.read(app.history)[0] if line.get("outcome") == "done"}


def resolve(app: App, word: str) -> str:
    """The release that a word of the command line means: an id, its beginning, "current" or "previous"."""
    if word == "previous":
        found = previous(app)
        if not found:
            damaged = next(before(app), "")
            there = (
                f"the previous release, {short(damaged)}, is incomplete: {complete.why_not(app, damaged)}"
                if damaged
                else "no previous release to roll back to"
            )
            raise CtlError(f"{app.name}: {there}. Releases: {app.name}ctl list")
        return found
    if word == "current":
        found = current(app)
        if not found:
            raise CtlError(f"{app.name}: no release is active. Deploy one first")
        return found
    if not ID.fullmatch(word):
        raise CtlError(f"release {word}: not an id of a release. Choose one from: {app.name}ctl list")
    matches = [release for release in names(app) if release.startswith(word)]
    if len(matches) == 1:
        return matches[0]
    if len(matches) > 1:
        raise CtlError(
            f"release {word}: {len(matches)} releases have ids that begin like that. Available: "
            + ", ".join(short(name) for name in names(app))
        )
    manifest(app, word)
    return word


def is_pointed(app: App) -> bool:
    """Whether the link `current` names the release that the unit names."""
    return app.link.is_symlink() and app.link.readlink().name == current(app)


def pointed(app: App, release: str) -> contextlib.AbstractContextManager[disk.Replacement]:
    """The link `current` as it names a release, before it does."""
    return disk.staged_link(app.link, f"releases/{release}")


def point(app: App) -> None:
    """Have the link `current` name the release that the unit names."""
    with pointed(app, current(app)) as link:
        link.put_in_place()
