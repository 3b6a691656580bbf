"""What serves, since when, how well, and what happened last: looked up when it is asked."""

import argparse
import datetime
import os
import time
from typing import Any

from appctl import (
    backoff,
    behind,
    complete,
    counting,
    edge,
    exchange,
    history,
    limits,
    origin,
    processes,
    pythons,
    released,
    releases,
    runs,
    systemd,
    talk,
    timers,
    watch,
    watching,
)
from appctl.app import CANDIDATE, MAIN, App
from appctl.process import CtlError
from appctl.releases import short

HEAD = ("release", "state", "since", "workers", "memory", "restarts", "req/s", "5xx", "health")
COLUMNS = "{:13} {:20} {:30} {:>7} {:>8} {:>8} {:>8} {:>6}  {}"
"""One line of a table of hosts, as playbooks/status.yml shows it behind the name of each."""

HANDOVERS = 5
"""How many of the latest handovers the status shows."""

PROPERTIES = (
    "ActiveState", "SubState", "MainPID", "StatusText",
    "ActiveEnterTimestamp", "InactiveExitTimestamp", "NRestarts",
)  # fmt: skip


def asked(app: App) -> tuple[str, list[exchange.Answer]]:
    """What the health path of the running service answers just now, in words; and that answer, if it is one."""
    begin = time.monotonic()
    try:
        path, host, answer = counting.ask(app, MAIN)
    except PermissionError:
        return "unknown, the health check needs root", []
    except (OSError, CtlError) as error:
        return f"health check failed to connect ({error})", []
    took = (time.monotonic() - begin) * 1000
    if not answer.status:
        return f"{path} does not answer within {counting.WAIT:g} s", []
    said = f"{path} answers {answer.status} in {took:.0f} ms"
    if exchange.verdict(answer.status) != exchange.HEALTHY:
        said += f", unhealthy {exchange.details(answer, path, host)}"
    return said, [answer]


def traffic(requests: counting.Requests | None) -> dict[str, float] | None:
    """The requests of the last minutes, by the names that they have always had here. None when there were none."""
    if not requests or not requests.answered:
        return None
    # Who shows it divides by the time, which the application tells.
    return {"logged": requests.answered, "failed": requests.failed, "seconds": max(requests.seconds, 0.1)}


def command_status(app: App, arguments: argparse.Namespace) -> dict[str, Any]:
    """Show the active release, its health and the last handovers."""
    unit = systemd.show(app.service, *PROPERTIES)
    is_root = os.geteuid() == 0
    up = unit["ActiveState"] in systemd.SERVING
    failed = {} if up else backoff.failed_before(app)
    health, answers = asked(app) if up else ("the service is not running", [])
    candidate = releases.running(app, app.instance_service(CANDIDATE))
    requests = counting.requests(answers + (counting.answers(app, CANDIDATE) if candidate else []))
    handovers, damaged = history.read(app.history) if is_root else ([], 0)
    release = releases.running(app, app.service) or releases.current(app)
    state = {
        "name": app.name,
        "release": release,
        "state": f"{unit['ActiveState']} ({unit['SubState']})",
        "since": unit["ActiveEnterTimestamp"] if up else unit["InactiveExitTimestamp"],
        "status": unit["StatusText"],
        "workers": len(systemd.children(systemd.number(unit["MainPID"]))),
        **limits.seen(app),
        "health": health,
        "requests": traffic(requests),
        "trouble": watch.trouble(app, requests).words(),
        "restarts": systemd.number(unit["NRestarts"]),
        "failures": failed.get("failures", 0),
        "next_try": failed.get("tried"),
        "candidate": candidate,
        "watch": watching.words(app),
        "handed_back": watching.handed_back(app) if is_root else "",
        "edge": edge.told(app),
        "maintenance": behind.state(app),
        # Only root may look into the releases and the history.
        "incomplete": complete.why_not(app, release) if is_root and release else "",
        "origin": origin.of(app, release) if is_root else {},
        "python": pythons.told(app, release, arguments.python) if is_root and release else {},
        "previous": releases.previous(app) if is_root else None,
        "released_since": released.told(app, releases.previous(app)) if is_root else "",
        "processes": processes.described(app),
        "timers": timers.described(app),
        "runs": [run.words() for run in runs.there(app)],
        "handovers": handovers[-HANDOVERS:],
        "damaged": damaged,
    }
    for line in words(state):
        talk.out(line)
    return {**state, "table": {"head": COLUMNS.format(*HEAD), "line": COLUMNS.format(*cells(state))}}


def add_status(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--python", default="", metavar="VERSION", help="the newest Python of its kind that is known elsewhere"
    )


def cells(state: dict[str, Any]) -> list[object]:
    """The state as one line of a table of hosts."""
    memory, requests = state["memory"], state["requests"]
    return [
        short(state["release"]) or "none",
        state["state"],
        state["since"],
        state["workers"],
        "?" if memory is None else f"{memory / limits.MIB:.0f} MiB",
        state["restarts"],
        f"{requests['logged'] / requests['seconds']:.1f}" if requests else "-",
        f"{requests['failed'] / requests['logged']:.1%}" if requests else "-",
        f"{'maintenance, ' if state['maintenance'] else ''}{state['health']}{pythons.behind(state['python'])}",
    ]


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
    if told := origin.words(state["origin"]):
        lines.insert(1, f"  source    {told}")
    if told := origin.packages(state["origin"], time.time()):
        lines.append(f"  packages  {told}")
    if state["python"]:
        lines.append(f"  python    {pythons.words(state['python'])}")
    if state["incomplete"]:
        lines.append(f"  release   incomplete, it could not start again: {state['incomplete']}. Deploy it again")
    if requests:
        lines.append(
            f"  requests  {requests['logged']} answered in {requests['seconds']:g} s, {requests['failed']} failed (5xx)"
        )
    if state["trouble"]:
        lines.append(f"  trouble   {state['trouble']}")
    lines.append(f"  restarts  {state['restarts']} by systemd since the last start")
    if state["failures"]:
        lines.append(
            f"  failures  {state['failures']} in a row, {next_try(state)} (journalctl -u {state['name']} -p err)"
        )
    lines += edge.words(state["edge"])
    if state["maintenance"]:
        lines.append(f"  maintenance  {behind.told(state['maintenance'])}")
    if state["candidate"]:
        lines.append(f"  handover  under way, {short(state['candidate'])} serves beside it")
    if state["watch"]:
        lines.append(f"  watch     {state['watch']}")
    if state["handed_back"]:
        lines.append(f"  watch     {state['handed_back']}")
    lines += processes.words(state["processes"])
    lines += timers.words(state["timers"])
    unknown = state["previous"] is None
    lines.append(f"  previous  {'unknown, that needs root' if unknown else short(state['previous']) or 'none'}")
    if state["released_since"]:
        lines.append(f"            {state['released_since']}")
    lines += [f"  running   {run}" for run in state["runs"]]
    for entry in state["handovers"]:
        before, after = short(str(entry.get("from") or "-")), short(str(entry.get("to")))
        told = f"  {entry.get('time')}  {before:12} -> {after}  {entry.get('outcome')} {entry.get('reason')}"
        lines.append(told.rstrip())
    if state["damaged"]:
        lines.append(f"  history   {state['damaged']} damaged lines are skipped")
    return lines


def next_try(state: dict[str, Any]) -> str:
    """When the service is tried again, if that is still to come."""
    at = state["next_try"] or 0
    if at <= time.time():
        return "restarting now"
    return f"next restart at {datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(timespec='seconds')}"
