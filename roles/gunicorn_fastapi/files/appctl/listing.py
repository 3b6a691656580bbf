"""Which releases there are, and what they are made of."""

import argparse
import contextlib
import datetime
import os
from pathlib import Path
from typing import Any

from appctl import complete, origin, releases, talk
from appctl.app import App
from appctl.releases import short


def command_list(app: App, _: argparse.Namespace) -> list[dict[str, Any]]:
    """List the releases on this host, newest first, with state and size."""
    current, previous = releases.current(app), releases.previous(app)
    served = releases.served(app)
    rows: list[dict[str, Any]] = []
    for release in releases.names(app):
        built = (app.release(release) / "manifest.json").stat().st_mtime
        row: dict[str, Any] = {
            "release": release,
            "built": datetime.datetime.fromtimestamp(built, datetime.UTC).isoformat(timespec="seconds"),
            "role": {current: "current", previous: "previous"}.get(release, ""),
            "served": release in served,
            "size": size(app.release(release)) + size((app.release(release) / "venv").resolve()),
            "incomplete": complete.why_not(app, release),
            "origin": origin.of(app, release),
        }
        rows.append(row)
        state = row["role"] or ("served" if row["served"] else "never served")
        told = f", {words}" if (words := origin.words(row["origin"])) else ""
        damage = f", incomplete: {row['incomplete']}" if row["incomplete"] else ""
        talk.out(f"{short(release)}  {row['built']}  {row['size'] / 2**20:5.0f} MiB  {state}{told}{damage}")
    return rows


def size(directory: Path) -> int:
    """Bytes on the disk of a directory of root's, links not followed."""
    found = 0
    for here, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                found += (Path(here) / name).lstat().st_blocks * 512
    return found


def command_packages(app: App, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """List the packages of a release, with versions and hashes."""
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
