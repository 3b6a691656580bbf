"""Old releases, and what no release refers to, go from the disk."""

import argparse
import shutil

from appctl import releases, talk
from appctl.app import App
from appctl.releases import short

LEAST = 2
"""The current release and the one to roll back to."""


def command_prune(app: App, arguments: argparse.Namespace) -> dict[str, object]:
    """Remove old releases, never the current one nor the one to roll back to."""
    kept = [release for release in (releases.current(app), releases.previous(app)) if release]
    kept += [release for release in releases.names(app) if release not in kept]
    removed = kept[max(arguments.keep, LEAST) :]
    for release in removed:
        directory = app.release(release)
        (directory / "manifest.json").unlink()
        shutil.rmtree(directory)
        talk.out(f"removed release {short(release)}")
    used = {(release / "venv").resolve().name for release in app.releases.glob("*")}
    for virtualenv in app.virtualenvs.glob("*"):
        if virtualenv.name not in used:
            shutil.rmtree(virtualenv)
    for directory in app.credentials.glob("*"):
        if not app.release(directory.name).exists():
            shutil.rmtree(directory)
    return {"changed": bool(removed), "removed": removed}


def add_prune(command: argparse.ArgumentParser) -> None:
    command.add_argument("--keep", type=int, default=5, metavar="N", help="releases that stay, at least 2")
