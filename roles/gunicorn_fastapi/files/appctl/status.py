"""What serves, since when, how well, and what happened last: looked up when it is asked."""

import argparse
import datetime
import os
import time
from typing import Any

from appctl import backoff, exchange, history, journal, limits, reason, releases, systemd, talk, watch
from appctl.app import CANDIDATE, MAIN, App
from appctl.process import CtlError
from appctl.releases import short

TRAFFIC_SECONDS = 300
TRAFFIC_RECORDS = 2000
"""What the status looks at to tell how many requests there are: the log of these seconds, and no more records."""

WAIT = 5.0
"""Seconds that the health path has for its answer."""

HANDOVERS = 5
"""How many of the latest handovers the status shows."""

PROPERTIES = (
    "ActiveState", "SubState", "MainPID", "StatusText",
    "ActiveEnterTimestamp", "InactiveExitTimestamp", "NRestarts",
)  # fmt: skip


def health(app: App) -> str:
    """What the health path of the running service answers just now, in words."""
    try:
        manifest = releases.manifest(app, releases.running(app, app.service))
        path, host = str(manifest.get("health_path", "/")), str(manifest.get("health_host", "localhost"))
        begin = time.monotonic()
        answer = exchange.ask(app.address(MAIN), path, host, WAIT)
        took = (time.monotonic() - begin) * 1000
    except PermissionError:
        return "unknown, asking it needs root"
    except (OSError, CtlError) as error:
        return f"not to be asked ({error})"
    if not answer.status:
        return f"{path} does not answer within {WAIT:g} s"
    said = f"{path} answers {answer.status} in {took:.0f} ms"
    if exchange.verdict(answer.status) == exchange.HEALTHY:
        return said
    return f"{said}, so it is not healthy {exchange.details(answer, path, host)}"


def traffic(app: App) -> dict[str, float] | None:
    """Requests in the log of the last minutes: how many, how many of them were answered with 5xx, in how many seconds.

    Looks at the latest records only, so that it costs the same under any load. None when there is nothing to see.
    """
    units = [f"_SYSTEMD_UNIT={unit}" for unit in (app.service, app.instance_service(CANDIDATE))]
    now = time.time()
    latest = journal.entries(*units, lines=TRAFFIC_RECORDS, since=now - TRAFFIC_SECONDS)
    statuses = [status for entry in latest if (status := reason.access_status(reason.readable(entry)))]
    if not statuses:
        return None
    whole = len(latest) < TRAFFIC_RECORDS
    seconds = TRAFFIC_SECONDS if whole else now - systemd.number(latest[0].get("__REALTIME_TIMESTAMP", "")) / 1e6
    return {"logged": len(statuses), "failed": sum(status >= 500 for status in statuses), "seconds": round(seconds, 1)}


def command_status(app: App, _: argparse.Namespace) -> dict[str, Any]:
    """What serves, since when, how well, and what happened last."""
    unit = systemd.show(app.service, *PROPERTIES)
    is_root = os.geteuid() == 0
    up = unit["ActiveState"] == "active"
    failed = {} if up else backoff.failed_before(app)
    handovers, damaged = history.read(app.history) if is_root else ([], 0)
    state = {
        "name": app.name,
        "release": releases.running(app, app.service) or releases.current(app),
        "state": f"{unit['ActiveState']} ({unit['SubState']})",
        "since": unit["ActiveEnterTimestamp"] if up else unit["InactiveExitTimestamp"],
        "status": unit["StatusText"],
        "workers": len(systemd.children(systemd.number(unit["MainPID"]))),
        **limits.seen(app),
        "health": health(app) if up else "the service is not up",
        "requests": traffic(app),
        "trouble": watch.trouble(app).words(),
        "restarts": systemd.number(unit["NRestarts"]),
        "failures": failed.get("failures", 0),
        "next_try": failed.get("tried"),
        "candidate": releases.running(app, app.instance_service(CANDIDATE)),
        # Only root may look into the releases and the history.
        "previous": releases.previous(app) if is_root else None,
        "handovers": handovers[-HANDOVERS:],
        "damaged": damaged,
    }
    for line in words(state):
        talk.out(line)
    return state


def words(state: dict[str, Any]) -> list[str]:
    """The state as lines."""
    requests = state["requests"]
    release = short(state["release"]) or "none"
    lines = [
        f"{state['name']}: release {release}, {state['state']} since {state['since'] or 'never'}",
        f"  health    {state['health']}",
        f"  workers   {state['workers']}",
        f"  status    {state['status']}",
        f"  memory    {limits.words(state)}",
    ]
    if requests:
        lines.append(
            f"  requests  {requests['logged']} logged in {requests['seconds']:g} s, {requests['failed']} failed (5xx)"
        )
    if state["trouble"]:
        lines.append(f"  trouble   {state['trouble']}")
    lines.append(f"  restarts  {state['restarts']} by systemd since the last start")
    if state["failures"]:
        lines.append(
            f"  failures  {state['failures']} in a row, {next_try(state)} (journalctl -u {state['name']} -p err)"
        )
    if state["candidate"]:
        lines.append(f"  handover  under way, {short(state['candidate'])} serves beside it")
    unknown = state["previous"] is None
    lines.append(f"  previous  {'unknown, that needs root' if unknown else short(state['previous']) or 'none'}")
    for entry in state["handovers"]:
        before, after = short(str(entry.get("from") or "-")), short(str(entry.get("to")))
        lines.append(f"  {entry.get('time')}  {before:12} -> {after}  {entry.get('outcome')} {entry.get('reason')}")
    if state["damaged"]:
        lines.append(f"  history   {state['damaged']} damaged lines are left out of it")
    return lines


def next_try(state: dict[str, Any]) -> str:
    """When the service is tried again, if that is still to come."""
    at = state["next_try"] or 0
    if at <= time.time():
        return "it is being tried now"
    return f"the next try is at {datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(timespec='seconds')}"
