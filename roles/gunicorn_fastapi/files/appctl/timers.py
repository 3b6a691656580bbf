"""The timers of a release: which there are, what runs from them, and what came of it.

NAME-TIMER.timer is the same for all releases, so that systemd knows when it ran last; it names the service of the
release that serves, NAME-TIMER-RELEASE.service. A job that is under way at a deploy keeps its own, and the next one
waits for it.
"""

import datetime
import json
import re
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from appctl import disk, releases, systemd
from appctl.app import App
from appctl.process import CtlError, run
from appctl.releases import short

RECORD_MAX = 65536

AHEAD = """, since the clock was set back while its job ran (to count from now: date --set "@$(date +%s)")"""


class Job(NamedTuple):
    """What a timer runs, in one release."""

    timer: str
    release: str
    """The beginning of its name, as it is shown."""

    def name(self, app: App) -> str:
        """Its unit."""
        return f"{app.name}-{self.timer}-{self.release}.service"


def unit(app: App, timer: str) -> str:
    """The unit of a timer, which all releases have in common."""
    return f"{app.name}-{timer}.timer"


def parse(app: App, name: str) -> Job | None:
    """The job that a service is. None for another one, such as a run of an operator's."""
    match = re.fullmatch(rf"{app.name}-([a-z][a-z0-9_]{{0,30}})-([0-9a-f]{{1,12}})\.service", name)
    return Job(match[1], match[2]) if match and match[1] != "run" else None


def of(app: App, release: str) -> dict[str, dict[str, Any]]:
    """The timers of a release by their names, as its manifest has them. Raises CtlError when it cannot be read."""
    found = releases.manifest(app, release).get("timers")
    return found if isinstance(found, dict) else {}


def texts(app: App) -> dict[str, str]:
    """The timers that are installed, and what their units say. One that runs no job of ours is none."""
    found = {}
    for path in sorted(app.system.glob(f"{app.name}-*.timer")):
        timer = path.name.removeprefix(f"{app.name}-").removesuffix(".timer")
        text = path.read_text(errors="replace")
        if (job := named_in(app, text)) and job.timer == timer:
            found[timer] = text
    return found


def named_in(app: App, text: str) -> Job | None:
    """The job that the text of a timer's unit names."""
    match = re.search(r"^Unit=(\S+)$", text, re.MULTILINE)
    return parse(app, match[1]) if match else None


def planned(app: App) -> dict[str, Job]:
    """The timers that are installed, and what they run."""
    return {timer: job for timer, text in texts(app).items() if (job := named_in(app, text))}


def services(app: App) -> list[Job]:
    """The jobs whose units are installed, also of releases that do not serve any more."""
    return [job for path in sorted(app.system.glob(f"{app.name}-*-*.service")) if (job := parse(app, path.name))]


def states(pattern: str) -> dict[str, tuple[str, str]]:
    """The units of such names that systemd has, and their two states."""
    found = {}
    listed = run("systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", pattern)
    for line in listed.split("\n"):
        words = line.split()
        if len(words) > 3:
            found[words[0]] = (words[2], words[3])
    return found


def there(app: App) -> dict[Job, str]:
    """The jobs that are under way, and their states."""
    if not services(app):
        return {}
    up = {name: state for name, (state, _) in states(f"{app.name}-*-*.service").items()}
    return {job: up[name] for name in up if up[name] not in ("inactive", "failed") and (job := parse(app, name))}


def waiting(app: App, jobs: Iterable[Job]) -> list[Job]:
    """Those that systemd starts as soon as one of another release has ended."""
    found = []
    for job in jobs:
        state = systemd.show(job.name(app), "ActiveState", "Job")
        if state["ActiveState"] in ("inactive", "failed") and systemd.number(state["Job"]):
            found.append(job)
    return found


def used(app: App) -> set[str]:
    """The releases that jobs run from, or would."""
    begin = {job.release for job in (*there(app), *planned(app).values())}
    return {release for release in releases.names(app) if short(release) in begin}


def suspended(app: App) -> dict[str, dict[str, str]]:
    """Those that an operator has suspended, since when and by whom."""
    try:
        found = json.loads(disk.read_bounded(app.suspended, RECORD_MAX))
        return {str(timer): {"since": str(one["since"]), "by": str(one["by"])} for timer, one in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def wants(app: App, timer: str) -> bool:
    """Whether boot starts a timer."""
    return (app.system / "timers.target.wants" / unit(app, timer)).is_symlink()


def is_settled(app: App) -> bool:
    """Whether the timers are those of the release that serves, and wait for their times unless they are suspended."""
    release = releases.current(app)
    if not release:
        return True
    try:
        wanted = of(app, release)
    except CtlError:
        return True  # what it consists of is unknown, and nothing is done to it
    now, held = planned(app), suspended(app)
    if not wanted and not now:
        return True
    installed = set(services(app))
    up = states(f"{app.name}-*.timer")
    return (
        set(now) == set(wanted)
        and all(job.release == short(release) and job in installed for job in now.values())
        and all((up.get(unit(app, timer), ("", ""))[0] == "active") == (timer not in held) for timer in now)
        and all(wants(app, timer) == (timer not in held) for timer in now)
    )


def record(app: App, timer: str) -> dict[str, Any]:
    """What came of the last job of a timer, and when one has succeeded last. Empty before the first."""
    try:
        found = json.loads(disk.read_bounded(app.timers / f"{timer}.json", RECORD_MAX))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def moment(text: object) -> float:
    """A time of a record in seconds of the epoch. 0 for none."""
    try:
        return datetime.datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0


def ended(noted: dict[str, Any]) -> dict[str, Any]:
    """The status and seconds of the last job that has ended, also while another one is under way. Empty before that."""
    came = noted if noted.get("outcome") else noted.get("was")
    return {key: came[key] for key in ("status", "seconds") if key in came} if isinstance(came, dict) else {}


def last(app: App, job: Job | None, timer: str = "") -> dict[str, Any]:
    """The same of its job of the release that serves: what it has not noted itself is known from systemd."""
    noted = record(app, job.timer if job else timer)
    if job:
        state = systemd.show(job.name(app), "ActiveState", "InvocationID", "Result")
        if state["ActiveState"] == "failed" and state["InvocationID"] != noted.get("invocation"):
            return {**noted, "ended": None, "outcome": f"did not start ({state['Result']})", "status": None}
    return noted


def described(app: App) -> list[dict[str, Any]]:
    """What each timer runs next, what of it is under way, and what came of the last job."""
    now, running = planned(app), there(app)
    up = states(f"{app.name}-*.timer") if now else {}
    held = suspended(app)
    return [
        {
            "timer": timer,
            "unit": unit(app, timer),
            "release": now[timer].release if timer in now else "",
            "suspended": held.get(timer, {}),
            **awaited(app, timer, up.get(unit(app, timer), ("", ""))[0] == "active", timer in now, timer in held),
            **ran(app, timer, now.get(timer), [job for job in running if job.timer == timer]),
        }
        for timer in sorted({*now, *(job.timer for job in running)})
    ]


def awaited(app: App, timer: str, active: bool, installed: bool, held: bool) -> dict[str, Any]:
    """Whether a timer waits for its time, and for which."""
    if held or not installed:
        return {"state": "suspended" if held else "removed", "next": "", "ahead": False}
    at = systemd.show(unit(app, timer), "NextElapseUSecRealtime")["NextElapseUSecRealtime"] if active else ""
    return {"state": "up" if active else "down", "next": at, "ahead": active and is_ahead(app, timer)}


def is_ahead(app: App, timer: str) -> bool:
    """Whether a timer counts from a time that is still to come: the clock was set back while its job ran.

    systemd corrects all others then, and this one when the clock is set once more.
    """
    name = unit(app, timer)
    at = run("systemctl", "show", "--property=LastTriggerUSec", "--", name, check=False, environment={"TZ": "UTC"})
    found = re.fullmatch(r"LastTriggerUSec=[A-Z][a-z]{2} ([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}) UTC\n?", at)
    return found is not None and moment(f"{found[1]}+00:00") > time.time() + 1


def ran(app: App, timer: str, current: Job | None, running: list[Job]) -> dict[str, Any]:
    """What of a timer is under way, and what came of the last job."""
    under_way = [
        {
            "unit": job.name(app),
            "release": job.release,
            "current": job == current,
            "since": systemd.show(job.name(app), "InactiveExitTimestamp")["InactiveExitTimestamp"],
        }
        for job in running
    ]
    came = last(app, current, timer)
    if came and not came.get("outcome") and not under_way:
        came = {**came, "outcome": "interrupted", "status": None}
    return {"running": under_way, "last": came}


def words(found: list[dict[str, Any]]) -> list[str]:
    """The same as lines of the status, each with room for its name at the beginning, which is 12 characters."""
    lines = []
    for one in found:
        held, last = one["suspended"], one["last"]
        when = {
            "suspended": f"suspended since {held.get('since')} by {held.get('by')}",
            "removed": "no timer of the release that serves",
            "up": f"next {one['next'] or 'when its job has ended'}{AHEAD if one['ahead'] else ''}",
            "down": "down, nothing starts it. Deploy again",
        }
        ran = "has not run" if not last else outcome(last)
        lines.append(f"  timer     {one['timer']}: {when[one['state']]}; {ran}")
        for job in one["running"]:
            verb = "runs" if job["current"] else "finishes"
            lines.append(f"            {one['timer']}: {job['unit']} {verb} in {job['release']} since {job['since']}")
    return lines


def outcome(last: dict[str, Any]) -> str:
    """What came of a job, in words."""
    if not last.get("outcome"):
        return f"begun {last.get('begun')} in {short(str(last.get('release')))}"
    took = f" after {last['seconds']} s" if last.get("seconds") is not None else ""
    told = f"last {last.get('begun')} in {short(str(last.get('release')))}: {last['outcome']}{took}"
    if last.get("failures", 0) > 1:
        told += f", {last['failures']} failed in a row"
    if last.get("failures") and last.get("succeeded"):
        told += f"; it succeeded last at {last['succeeded']}"
    return told
