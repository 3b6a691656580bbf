"""Which releases there are, and what they are made of."""

import argparse
import contextlib
import datetime
import os
from pathlib import Path
from typing import Any

from appctl import complete, history, origin, releases, talk
from appctl.app import App
from appctl.logs import number
from appctl.releases import short

HISTORY = ("time", "from", "to", "outcome", "reason", "seconds", "by")
"""What is shown of a handover."""


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


def command_history(app: App, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Show who changed the active release, when and with which outcome, from records that root alone writes."""
    records, damaged = history.read(app.history)
    rows = [{name: record.get(name) for name in HISTORY} for record in records[-arguments.lines :]]
    for row in rows:
        row["commit"] = origin.of(app, str(row["to"])).get("commit") or ""  # as long as the release is here
        before, after = short(str(row["from"] or "-")), short(str(row["to"]))
        took = f" in {row['seconds']} s" if isinstance(row["seconds"], (int, float)) else ""
        who = f" by {row['by']}" if row["by"] else ""
        what = f", commit {short(str(row['commit']))}" if row["commit"] else ""
        talk.out(
            f"{row['time']}  {before:12} -> {after:12}  {row['outcome']}{took}{who}{what}  {row['reason']}".rstrip()
        )
    if damaged:
        talk.out(f"{damaged} damaged lines are skipped")
    return rows


def add_history(command: argparse.ArgumentParser) -> None:
    command.add_argument("--lines", type=number, default=1000, metavar="N", help="at most so many, the latest (1000)")


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
