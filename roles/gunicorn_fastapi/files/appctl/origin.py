"""Where the source of a release comes from, as its manifest says: for people, and no part of what the release is."""

import datetime
from typing import Any

from appctl import releases
from appctl.app import App
from appctl.process import CtlError


def of(app: App, release: str) -> dict[str, Any]:
    """What the manifest of a release says. Empty without one, and for a version that did not note it."""
    try:
        found = releases.manifest(app, release).get("origin") if release else {}
    except (CtlError, OSError):
        return {}
    return found if isinstance(found, dict) else {}


def words(origin: dict[str, Any]) -> str:
    """The same in one line, such as "v1.2, commit 0123456789ab of main in shop.git, by me@laptop"."""
    said = [str(origin["version"])] if origin.get("version") else []
    source = str(origin.get("source", "")).rstrip("/").rpartition("/")[2]
    place = "/".join(part for part in (source, str(origin.get("path", ""))) if part)
    if origin.get("commit"):
        dirty = " with changes" if origin.get("dirty") else ""
        ref = "" if origin.get("ref", origin["commit"]) == origin["commit"] else f" of {origin['ref']}"
        said.append(f"commit {str(origin['commit'])[:12]}{dirty}{ref}{f' in {place}' if place else ''}")
    elif place:
        said.append(place)
    if origin.get("by"):
        said.append(f"by {origin['by']}")
    return ", ".join(said)


def packages(origin: dict[str, Any], now: float) -> str:
    """Which list its packages come from, and how old that is where uv has made one of it."""
    found, made = origin.get("list"), origin.get("listed")
    if not isinstance(found, str) or not found:
        return ""
    if not isinstance(made, int) or not 0 < made <= now + 86400:
        return found
    day = datetime.datetime.fromtimestamp(made, datetime.UTC).date()
    return f"{found}, which uv listed on {day} ({max(0, int((now - made) // 86400))} days ago)"
