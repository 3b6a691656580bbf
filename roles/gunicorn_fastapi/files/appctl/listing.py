"""Which releases there are, and what they are made of."""

import argparse
import datetime
from typing import Any

from appctl import releases, talk
from appctl.app import App
from appctl.releases import short


def command_list(app: App, _: argparse.Namespace) -> list[dict[str, str]]:
    """The releases on this host, the latest built first."""
    current, previous = releases.current(app), releases.previous(app)
    rows = []
    for release in releases.names(app):
        built = (app.release(release) / "manifest.json").stat().st_mtime
        at = datetime.datetime.fromtimestamp(built, datetime.UTC).isoformat(timespec="seconds")
        rows.append(
            {"release": release, "built": at, "role": {current: "current", previous: "previous"}.get(release, "")}
        )
        talk.out(f"{short(release)}  {at}  {rows[-1]['role']}".rstrip())
    return rows


def command_packages(app: App, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The packages of a release, with their versions and the digests that were accepted."""
    packages: list[dict[str, Any]] = releases.manifest(app, releases.resolve(app, arguments.release)).get(
        "packages", []
    )
    for package in packages:
        condition = f" ; {package['condition']}" if package["condition"] else ""
        talk.out(f"{package['name']}=={package['version']}{condition}")
        for digest in package["hashes"]:
            talk.out(f"    {digest}")
    return packages


def add_packages(command: argparse.ArgumentParser) -> None:
    command.add_argument("release", nargs="?", default="current")
