"""Units of an application: the service itself, and instances beside it for as long as they are needed."""

import contextlib
import os
import time
from collections.abc import Iterator

from appctl import behind, bounded, reason, releases, systemd, talk
from appctl.app import CANDIDATE, PASSING, PREFLIGHT, App
from appctl.hints import sandbox_hint
from appctl.process import CtlError, run

WORDS = 20
"""Lines of the application that a failure shows."""


def unit_text(app: App, release: str, unit: str) -> str:
    """The text of a unit as the release has it; in maintenance without the public addresses."""
    text = (app.release(release) / "systemd" / unit).read_text()
    return behind.closed(app, text) if behind.is_alone(app) else text


def start(unit: str, verb: str = "start", *sockets: str) -> str:
    """Start a unit and wait until its own probe says that it is healthy; says how long that took.

    What is named in `sockets` is restarted with it, in one step of systemd's, and nothing that hangs on them. So is its
    private socket: a release that was taken over may have shut it down, and the next one would inherit that.

    Raises CtlError with the application's reason, and leaves the unit as it failed.
    """
    begin, since = time.monotonic(), time.time()
    try:
        alone = ("--job-mode=ignore-requirements",) if sockets else ()
        private = App.of_unit(unit).private_sockets(unit) if verb == "restart" else []
        bounded.change(verb, unit, *private, *sockets, options=alone)
    except CtlError as failure:
        # Not by the invocation: a client that waits may have started the next one by now.
        raise CtlError(why(unit, since) or str(failure)) from None
    return f"{time.monotonic() - begin:.1f} s"


def why(unit: str, since: float) -> str:
    """What a unit says about its failure: the reason, and the application's last lines. Never fails."""
    match = f"_SYSTEMD_UNIT={unit}"
    try:
        lines = reason.last_words(match, since)
        told = reason.reason_in(lines, reason.verdict(match, since))
        hint = sandbox_hint(told, lines, App.of_unit(unit).name)
    except Exception as error:  # noqa: BLE001 (what is told decides nothing)
        return f"(its reason could not be read: {type(error).__name__}: {error})"
    shown = "\n".join(f"    {line}" for line in lines[-WORDS:])
    return f"{told}{hint}\n{shown}" if told else ""


@contextlib.contextmanager
def instance(app: App, release: str, kind: str, more: str = "") -> Iterator[str]:
    """A second instance of the application for as long as the block lasts; gives its time to start.

    Its service says `more` than the release has it say.
    """
    service = app.instance_service(kind)
    try:
        sockets = {name: unit_text(app, release, name) for name in app.private_sockets(service)}
        place(app, service, unit_text(app, release, service) + more, sockets)
        # A former candidate may still run, where the service could not be brought up.
        yield start(service, "restart")
    finally:
        if systemd.serves(app.service) or kind != CANDIDATE or not systemd.active(service):
            remove(app, kind)
        else:
            talk.say(app, f"{app.service} is not up, so {service} keeps serving", release, error=True)


def place(app: App, service: str, text: str, sockets: dict[str, str]) -> None:
    """Have systemd know a service that a reboot forgets, with what the operator has added to the application's."""
    app.transient.mkdir(exist_ok=True)
    for name, content in {**sockets, service: text}.items():
        (app.transient / name).write_text(content)
    link = app.transient / f"{service}.d"
    link.unlink(missing_ok=True)
    if app.extensions.is_dir():
        link.symlink_to(app.extensions)
    run("systemctl", "daemon-reload")


def remove(app: App, kind: str) -> None:
    """Stop a second instance, if there is one, and forget its units."""
    forget(app, app.instance_service(kind))


def forget(app: App, service: str) -> None:
    """Stop a service that was placed, with its private socket, and forget its units. Does nothing without them."""
    names = [service, *app.private_sockets(service)]
    files = [app.transient / name for name in [*names, f"{names[0]}.d"]]
    if not any(os.path.lexists(file) for file in files):
        return
    bounded.change("stop", *names, check=False)
    for file in files:
        file.unlink(missing_ok=True)
    # A stopped unit that nothing refers to is forgotten without a reload, unless it is remembered as failed.
    run("systemctl", "reset-failed", *names, check=False)


def left(app: App) -> list[str]:
    """The instances beside the service whose units are there."""
    return [kind for kind in PASSING if (app.transient / app.instance_service(kind)).exists()]


def loosened(app: App) -> str:
    """By how much drop-ins of the running service loosen its sandbox, in words. Empty when they do not."""
    if not app.extensions.is_dir():
        return ""
    # The same sandbox, and no drop-ins.
    alone = app.release(releases.current(app)) / "systemd" / app.instance_service(PREFLIGHT)
    try:
        intended, real = systemd.exposure("--offline=true", str(alone)), systemd.exposure(app.service)
    except CtlError as failure:
        return f"warning: what {app.extensions} does to the sandbox is unknown: {failure}"
    if real <= intended:
        return ""
    return (
        f"warning: {app.extensions} raises the exposure of {app.service} from {intended} to {real} "
        f"(systemd-analyze security {app.service})"
    )
