"""Maintenance: a responder takes the place of the application at its public addresses, and gives it back.

While one takes the place of the other, both accept from the same sockets, as in a handover. So nobody is refused, and
what the application has accepted it answers.
"""

import contextlib
import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from appctl import addresses, admitting, behind, bounded, disk, lock, opening, releases, systemd, talk
from appctl.app import App
from appctl.instance import start
from appctl.ours import Ours
from appctl.process import CtlError, run
from appctl.releases import short

PROGRAM = Path(__file__).with_name("responder.py")


def ask(app: App, page: str, retry_after: int, allow: Sequence[str] = ()) -> None:
    """Leave what is asked for to the unit that does it."""
    lock.private(app)
    wanted = {"page": page, "retry_after": retry_after, "allow": list(allow)}
    disk.durable(app.private / "maintenance.json", json.dumps(wanted), 0o600)


def asked(app: App) -> dict[str, Any]:
    """What was left. Raises CtlError when it is not there."""
    try:
        found = json.loads(disk.read_bounded(app.private / "maintenance.json", 4 * behind.PAGE_MAX))
        allow = [admitting.network(str(network)) for network in found["allow"]]
        return {"page": str(found["page"]), "retry_after": int(found["retry_after"]), "allow": allow}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CtlError(f"maintenance: what was asked for is not there: {error}. Try again") from None


def on(app: App) -> None:
    """Turn it on, or give it another page. The application goes on behind it, if it can start.

    Raises CtlError, with everything as before, when the responder does not start.
    """
    wanted, already, alone = asked(app), behind.state(app), behind.is_alone(app)
    app.maintenance.mkdir(mode=0o755, exist_ok=True)
    app.maintenance.chmod(0o755)
    since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    noted = {"on": True, "since": since, "by": lock.by(), **already, "retry_after": wanted["retry_after"]}
    noted |= {"allow": wanted["allow"], "turn": admitting.turn()}
    if wanted["allow"]:
        disk.durable(app.maintenance / "page", wanted["page"])
        admit(app, already, noted)
        return
    unit = responder_text(app)
    Ours(app.name, app.base).add(f"/{(app.system / app.responder).relative_to(app.base)}")
    for name, text in (
        ("responder.py", PROGRAM.read_text()),
        ("page", wanted["page"]),
        (
            "state.json",
            json.dumps(noted if alone else {**noted, "allow": already.get("allow", []), "on": bool(already)}),
        ),
    ):
        disk.durable(app.maintenance / name, text)
    disk.durable(app.system / app.responder, unit)
    run("systemctl", "daemon-reload")
    if alone:
        bounded.change("reload-or-restart", app.responder)
        talk.say(app, "maintenance: the page was replaced", releases.current(app))
        return
    try:
        bounded.change("start", app.responder)
    except CtlError as failure:
        forget(app)
        raise CtlError(f"maintenance: {app.responder} does not start, and nothing has changed: {failure}") from None
    if already:
        close(app)  # before those who were kept out get to workers that know of no one to keep out
    disk.durable(app.maintenance / "state.json", json.dumps(noted))
    talk.say(app, f"maintenance: {app.responder} answers 503 from now on", releases.current(app))
    settle(app)


def admit(app: App, already: dict[str, Any], noted: dict[str, Any]) -> None:
    """Have the workers answer all but some. After maintenance for all, the application gets its addresses back before.

    Raises CtlError, with everything as before, when it does not start.
    """
    disk.durable(app.maintenance / "state.json", json.dumps(noted))
    try:
        bring(app, app.service)
    except CtlError as failure:
        disk.durable(app.maintenance / "state.json", json.dumps(already))
        with contextlib.suppress(CtlError):
            bring(app, app.responder)
        raise CtlError(f"maintenance stays on for all, because {app.service} does not start: {failure}") from None
    if (app.system / app.responder).exists():
        forget(app)
    admitting.wait(app, noted["turn"])
    talk.say(app, f"maintenance is on for all but {', '.join(noted['allow'])}", releases.current(app))


def off(app: App) -> None:
    """Turn it off. Raises CtlError, and it stays on, when the application does not start."""
    if not behind.is_alone(app):
        noted = {**behind.state(app), "on": False, "turn": admitting.turn()}
        disk.durable(app.maintenance / "state.json", json.dumps(noted))
        admitting.wait(app, noted["turn"])
        talk.say(app, "maintenance is off", releases.current(app))
        return
    try:
        bring(app, app.service)
    except CtlError as failure:
        with contextlib.suppress(CtlError):
            bring(app, app.responder)
        raise CtlError(f"maintenance stays on, because {app.service} does not start: {failure}") from None
    disk.durable(app.maintenance / "state.json", json.dumps({**behind.state(app), "on": False}))
    forget(app)
    talk.say(app, f"maintenance is off, {app.service} serves again", releases.current(app))


def forget(app: App) -> None:
    """Have the responder answer what it has accepted, and remove it."""
    bounded.change("stop", app.responder, check=False)
    (app.system / app.responder).unlink(missing_ok=True)
    run("systemctl", "daemon-reload")
    run("systemctl", "reset-failed", app.responder, check=False)


def responder_text(app: App) -> str:
    """The responder's unit as the current release has it, with all public addresses. Raises CtlError without one."""
    current = releases.current(app)
    path = app.release(current) / "systemd" / app.responder
    if not current or not path.exists():
        raise CtlError(
            f"maintenance: release {short(current) or 'none'} was built by a version of the role that has no "
            "maintenance. Deploy the application again"
        )
    return path.read_text() + addresses.for_candidate(sorted(set(opening.units(app)) - {app.socket}))


def texts(app: App, owner: str) -> dict[str, str]:
    """The units as they have to be when the public addresses are the owner's."""
    wanted = {unit: behind.owned(text, owner) for unit, text in opening.units(app).items()}
    own = (app.release(releases.current(app)) / "systemd" / app.service).read_text()
    wanted[app.service] = own if owner == app.service else behind.closed(app, own)
    return wanted


def bring(app: App, owner: str) -> bool:
    """Give the public addresses to a unit: at once to those who come, and to the service by its restart.

    Whether that changed anything. Raises CtlError when the service does not start.
    """
    wanted = {u: text for u, text in texts(app, owner).items() if (app.system / u).read_text() != text}
    if not wanted:
        return False
    runs = systemd.active(app.service)
    for unit, text in wanted.items():
        disk.durable(app.system / unit, text)
    run("systemctl", "daemon-reload")
    if runs or owner == app.service:
        start(app.service, "restart")
    return True


def close(app: App) -> None:
    """Give the public addresses to the responder. An application that does not start is no reason against it."""
    try:
        bring(app, app.responder)
    except CtlError as failure:
        told = f"maintenance is on, and {app.service} does not start: {failure}"
        talk.say(app, told, releases.current(app), error=True)


def settle(app: App) -> None:
    """Finish what was interrupted."""
    if behind.is_alone(app):
        if not systemd.active(app.responder):
            bounded.change("start", app.responder)
        close(app)
    elif (app.system / app.responder).exists():
        if bring(app, app.service):
            talk.say(app, "an interrupted maintenance was ended", releases.current(app))
        forget(app)
