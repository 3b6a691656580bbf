"""The watch: whether there is one over the active release, and what it is to compare it with."""

import contextlib
import json
import time
from typing import Any

from appctl import history, lock, systemd, talk
from appctl.app import App
from appctl.disk import durable, read_bounded
from appctl.followed import Judging
from appctl.history import HANDED_BACK
from appctl.judge import Bounds, Seen
from appctl.process import CtlError, run
from appctl.releases import short


def begin(app: App, release: str, before: str, judging: Judging, baseline: Seen) -> None:
    """Judge a release from now on by what the one before has done in its last minutes. Tells when that cannot be."""
    noted = {
        "release": release,
        "before": before,
        "until": time.time() + judging.watch,
        "judging": judging._asdict() | {"bounds": judging.bounds._asdict()},
        "baseline": baseline._asdict(),
    }
    try:
        durable(app.watched, json.dumps(noted))
        run(
            "systemd-run", "--quiet", "--collect", f"--unit={app.watch}", f"--setenv=HANDOVER_BY={lock.by()}",
            f"--description=Judges release {short(release)} of {app.name}", str(app.command), "watch", release,
        )  # fmt: skip
    except (CtlError, OSError) as failure:
        talk.say(app, f"warning: release {short(release)} is not watched: {failure}", release, error=True)
        return
    talk.say(
        app,
        f"release {short(release)}: watched for {judging.watch:g} s from now on. If it answers worse than "
        f"{short(before)} did, it is handed back (journalctl -u {app.name})",
        release,
    )


def end(app: App, because: str) -> None:
    """End a watch that is going on."""
    if not systemd.active(app.watch):
        return
    run("systemctl", "stop", app.watch, check=False)
    release = str(noted(app).get("release", ""))
    talk.say(app, f"the watch of release {short(release)} ends: {because}", release)


def noted(app: App) -> dict[str, Any]:
    """What was noted for the last watch. Nothing after a reboot."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(read_bounded(app.watched, 65536))
        if isinstance(found, dict):
            return found
    return {}


def wanted(found: dict[str, Any]) -> tuple[Judging, Seen]:
    """How it is judged, and by what. Raises CtlError."""
    try:
        judging = found["judging"]
        return Judging(**judging | {"bounds": Bounds(**judging["bounds"])}), Seen(**found["baseline"])
    except (KeyError, TypeError):
        raise CtlError("there is nothing to watch. A deploy with gunicorn_fastapi_watch_seconds begins it") from None


def words(app: App) -> str:
    """What is being watched, in words. Empty when nothing is."""
    if not systemd.active(app.watch):
        return ""
    found = noted(app)
    left = max(float(found.get("until", 0)) - time.time(), 0)
    return f"release {short(str(found.get('release', '')))} is judged for {left:.0f} s more"


def handed_back(app: App, release: str = "") -> str:
    """When and why the last change, or a certain release, was handed back, in words. Empty when it was not."""
    for line in reversed(history.read(app.history)[0]):
        by_canary, by_watch = line["outcome"] == HANDED_BACK, line["reason"].startswith(HANDED_BACK)
        which = line["to"] if by_canary else line["from"]
        if (by_canary or by_watch) and release in ("", which):
            reason = line["reason"].removeprefix(f"release {short(which)}: ").removeprefix(HANDED_BACK).lstrip(": ")
            return f"release {short(which)} was handed back at {line['time']}: {reason}"
        if not release and line["outcome"] == "done":
            break
    return ""
