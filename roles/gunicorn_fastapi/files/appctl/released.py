"""Which release commands were run, and what came of them: root's own record, which a host keeps for all releases."""

import contextlib
import datetime
import json
from typing import Any

from appctl import disk, history, lock, releases
from appctl.app import RELEASE, App
from appctl.releases import short

BEGUN, DONE, FAILED = "begun", "done", "failed"

INTERRUPTED = "it was interrupted"


def command_of(app: App, release: str) -> str:
    """What names a release's command and all that it works with, on any host. Empty without a release command."""
    if not (app.release(release) / "systemd" / app.instance_service(RELEASE)).exists():
        return ""
    return str(releases.manifest(app, release).get("release_command") or release)


def records(app: App) -> list[dict[str, Any]]:
    """All of the record, the oldest first."""
    return history.read(app.released)[0]


def note(app: App, release: str, outcome: str, reason: str = "", where: str = "") -> None:
    """Add to the record, and wait until it is on the disk. `where`: another host, which ran it. Raises OSError."""
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    history.append(
        app.released,
        {
            "time": time,
            "from": "",
            "to": release,
            "outcome": outcome,
            "reason": reason,
            "command": command_of(app, release),
            "where": where,
            "by": lock.by(),
        },
    )
    if outcome != BEGUN:
        with contextlib.suppress(OSError):  # the record has it
            disk.durable(app.came, json.dumps({"release": release, "outcome": outcome, "time": time}))


def came(app: App) -> dict[str, str]:
    """The last one that has ended: its release, its outcome and when. For who may not read the record; else empty."""
    try:
        found = json.loads(disk.read_bounded(app.came, 4096))
        return {key: str(found[key]) for key in ("release", "outcome", "time")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def done(app: App) -> dict[str, dict[str, Any]]:
    """The record of each command that has succeeded, by its name."""
    return {str(line.get("command")): line for line in records(app) if line["outcome"] == DONE}


def begun(app: App) -> str:
    """The release whose command has begun, and nobody has noted its end. Empty when there is none."""
    latest = [line for line in records(app) if not line.get("where")][-1:]
    return next((str(line["to"]) for line in latest if line["outcome"] == BEGUN), "")


def missing(app: App, release: str) -> str:
    """Why a release may not serve before its command has run, in words. Empty when it may."""
    command = command_of(app, release)
    if not command or command in done(app) or release in releases.served(app):
        return ""
    ends = [line for line in records(app) if line.get("command") == command and line["outcome"] != BEGUN]
    what = f"has failed at {ends[-1]['time']}" if ends else "has not run"
    return (
        f"release {short(release)}: its release command {what}, and nothing has changed. Deploy it, or run it: "
        f"{app.name}ctl release-command {short(release)}"
    )


def between(app: App, target: str) -> list[dict[str, Any]]:
    """What release commands have begun since a release first served: to go back to it undoes none of them.

    One line for each release, its latest.
    """
    activated = [
        line["time"] for line in history.read(app.history)[0] if line["to"] == target and line["outcome"] == DONE
    ]
    if not activated:
        return []
    after = [line for line in records(app) if line["time"] >= activated[0] and line["to"] != target]
    return list({line["to"]: line for line in after}.values())


def told(app: App, target: str) -> str:
    """The same in words. Empty when there is none."""
    found = between(app, target)
    if not found:
        return ""
    those = ", ".join(f"{short(line['to'])} ({line['outcome']} at {line['time']})" for line in found)
    return f"since {short(target)} first served, release commands have run: {those}; a rollback does not undo them"
