"""The units around the releases, which a run brings: they are put in place as everything else that is changed."""

import argparse
from pathlib import Path

from appctl import limits, lock
from appctl.app import App
from appctl.asking import read_request
from appctl.background import add_lock_wait
from appctl.disk import durable
from appctl.ours import Ours
from appctl.process import CtlError, run


def command_surround(app: App, arguments: argparse.Namespace) -> dict[str, object]:
    """Put units in place; they are on standard input, each with its path, mode and content."""
    asked = read_request("surround")
    try:
        units = [(str(unit["path"]), int(unit["mode"], 8), str(unit["content"])) for unit in asked]
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
        for path, mode, content in units:
            durable(app.base / path.lstrip("/"), content, mode)
        run("systemctl", "daemon-reload")
    return {"changed": bool(units)}


def add_surround(command: argparse.ArgumentParser) -> None:
    add_lock_wait(command)
