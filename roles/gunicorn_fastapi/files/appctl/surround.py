"""The units around the releases, which a run brings: they are put in place as everything else that is changed."""

import argparse
from pathlib import Path

from appctl import bounded, limits, lock, systemd
from appctl.app import App
from appctl.asking import add_lock_wait, read_request
from appctl.disk import durable
from appctl.ours import Ours
from appctl.process import CtlError, run

ABSENT = "absent"
"""The mode of a unit that is not wanted."""


def command_surround(app: App, arguments: argparse.Namespace) -> dict[str, object]:
    """Put units in place; they are on standard input, each with its path, mode and content."""
    asked = read_request("surround")
    try:
        units = [(str(unit["path"]), str(unit["mode"]), str(unit["content"])) for unit in asked]
        modes = {path: int(mode, 8) for path, mode, _ in units if mode != ABSENT}
    except (KeyError, TypeError, ValueError):
        raise CtlError("surround: the request on standard input is not understood") from None
    with lock.lock(app, "the change of its limits and private address", arguments.lock_wait):
        made = Ours(app.name, app.base).made() or []
        for path, _, content in units:
            # Also what an uninstallation has removed meanwhile, and its record with it.
            if path not in made or Path(path).parent != Path("/etc/systemd/system"):
                raise CtlError(
                    f"{path} is on no record as a unit of {app.name}, and nothing was written. Deploy it again"
                )
            if path.endswith(f"/{app.slice}") and (why := limits.below_use(app, content)):
                raise CtlError(why)
        names = [path.rpartition("/")[2] for path, _, _ in units]
        # The address stays open when the service alone changes.
        metrics = sorted({app.metrics, service_of(app.metrics)}.intersection(names))
        if metrics:
            bounded.change("stop", *metrics, check=False)
        for path, _, content in units:
            if path in modes:
                durable(app.base / path.lstrip("/"), content, modes[path])
            else:
                (app.base / path.lstrip("/")).unlink(missing_ok=True)
        if not (app.system / app.metrics).is_file():
            at_boot(app).unlink(missing_ok=True)
        run("systemctl", "daemon-reload")
        if metrics:
            open_metrics(app)
    return {"changed": bool(units)}


def open_metrics(app: App) -> None:
    """Have the address of the metrics open, now and at boot, where there is one, and else forget it."""
    if not (app.system / app.metrics).is_file():
        run("systemctl", "reset-failed", app.metrics, service_of(app.metrics), check=False)
        return
    systemd.enable(app.metrics)
    try:
        bounded.change("start", app.metrics)
    except CtlError:
        for path in (app.system / app.metrics, at_boot(app)):  # so that the next run tries again
            path.unlink(missing_ok=True)
        run("systemctl", "daemon-reload")
        raise CtlError(
            f"gunicorn_fastapi_metrics_bind: {app.metrics} could not be opened (journalctl -u {app.metrics}). "
            "Choose another address, or free it, and deploy again"
        ) from None


def at_boot(app: App) -> Path:
    """What has the address of the metrics opened at boot."""
    return app.system / "sockets.target.wants" / app.metrics


def service_of(socket: str) -> str:
    """The service that a socket starts."""
    return f"{socket.removesuffix('.socket')}.service"


def add_surround(command: argparse.ArgumentParser) -> None:
    add_lock_wait(command)
