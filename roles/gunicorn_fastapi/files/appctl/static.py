"""Files that the edge serves for the application, without asking it.

A release lists directories of its source with the paths that they have. They are copied beside the releases, which
Caddy cannot enter, into public/RELEASE. What clients get is found by links: `current`, `next` while a handover is under
way, and `previous` for pages that were loaded before. So files come and go with their release, and Caddy hears nothing.
"""

import contextlib
import gzip
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appctl import disk, releases, tree
from appctl.app import App
from appctl.process import CtlError
from appctl.releases import short

LISTED_MAX = 65536

COMPRESSIBLE = frozenset(
    [".css", ".htm", ".html", ".js", ".json", ".map", ".md", ".mjs", ".svg", ".txt", ".wasm", ".webmanifest", ".xml"]
)
PAGES = {"fallback": "gunicorn_fastapi_static_fallback", "unavailable": "gunicorn_fastapi_unavailable_page"}
"""Single pages that the edge serves, and the variables that name their files."""

SMALL = 1024
"""Bytes of a file that is not worth it."""


def public(app: App) -> Path:
    """Where the files of all releases are."""
    return app.root / "public"


def listed(app: App, release: str) -> dict[str, Any]:
    """What a release has the edge serve; nothing when it has no list."""
    try:
        found = json.loads(disk.read_bounded(app.release(release) / "etc/static.json", LISTED_MAX))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CtlError(f"release {short(release)}: its list of static files cannot be read: {error}") from None
    return found if isinstance(found, dict) else {}


def publish(app: App, release: str) -> None:
    """Copy the files of a release to where the edge can read them, unless they are there. Raises CtlError and OSError.

    A power loss leaves all of them or none.
    """
    wanted = listed(app, release)
    target = public(app) / release
    if not wanted or target.is_dir():
        return
    made = public(app) / f".{release}.building"
    tree.remove(made)
    public(app).mkdir(mode=0o755, exist_ok=True)
    public(app).chmod(0o755)
    try:
        for directory in (made, made / "files"):
            make(directory)
        for prefix, source in sorted(wanted.get("directories", {}).items()):
            copy(inside(app, release, source), made / "files" / prefix.strip("/"), source)
        for page, variable in PAGES.items():
            if name := wanted.get(page):
                source = inside(app, release, name)
                if not source.is_file():
                    raise CtlError(f"{variable}: {name} is no file of the source. Name one that is")
                place(source, made / f"{page}.html", name)
        tree.put(made, target)
    except BaseException:
        tree.remove(made)
        raise


def make(directory: Path) -> None:
    """Make a directory, and those before it below the release's own, which the edge can enter."""
    if not directory.is_dir():
        make(directory.parent)
        directory.mkdir()
        directory.chmod(0o755)


def inside(app: App, release: str, source: str) -> Path:
    """A path of the source, without a link on the way. Raises CtlError for another."""
    path = app.release(release) / "app"
    for part in Path(source).parts:
        path = path / part
        if part == ".." or path.is_symlink():
            raise CtlError(f"gunicorn_fastapi_static: {source} leads out of the source or over a link. Name its target")
    return path


def copy(source: Path, target: Path, name: str) -> None:
    """Copy a directory: its regular files alone, and none whose name begins with a dot."""
    if not source.is_dir():
        raise CtlError(
            f"gunicorn_fastapi_static: {name} is no directory of the release. Name one of the source, and see that it "
            "is not excluded (gunicorn_fastapi_include)"
        )
    for path in visible(source):
        place(path, target / path.relative_to(source), name)


def visible(directory: Path) -> Iterator[Path]:
    """The files that are served."""
    for entry in sorted(directory.iterdir()):
        if entry.name.startswith(".") or entry.is_symlink():
            continue
        if entry.is_dir():
            yield from visible(entry)
        elif stat.S_ISREG(entry.lstat().st_mode):
            yield entry


def place(source: Path, target: Path, name: str) -> None:
    """Copy one file, and compress it where that makes it smaller."""
    content = source.read_bytes()
    make(target.parent)
    disk.spare(target.parent, f"{name} of the static files", len(content))
    write(target, content)
    beside = target.with_name(f"{target.name}.gz")
    if target.suffix in COMPRESSIBLE and len(content) > SMALL and not source.with_name(beside.name).exists():
        smaller = gzip.compress(content, 9, mtime=0)
        if len(smaller) < len(content):
            write(beside, smaller)


def write(path: Path, content: bytes) -> None:
    """Write a file whose time is made of its content: of time and size Caddy makes the ETag, equal for equal files."""
    path.write_bytes(content)
    path.chmod(0o644)
    number = 2 + int(hashlib.sha256(content).hexdigest()[:7], 16)
    os.utime(path, (number, number))


def offer(app: App, release: str) -> None:
    """Have the edge serve what a release brings, too, before its first instance answers a client."""
    publish(app, release)
    if (public(app) / release).is_dir():
        disk.swap_link(public(app) / "next", release)


def withdraw(app: App) -> None:
    """Have the edge serve no more of a release that does not serve."""
    (public(app) / "next").unlink(missing_ok=True)


def point(app: App) -> None:
    """Have `current` name the release that the unit names, and `previous` the one before; forget all others."""
    now, root = releases.current(app), public(app)
    if not root.is_dir():
        return
    publish(app, now)
    links = {name: root / name for name in ("current", "next", "previous")}
    before = links["current"].readlink().name if links["current"].is_symlink() else ""
    if before and before != now:
        disk.swap_link(links["previous"], before)
    if not (root / now).is_dir():
        links["current"].unlink(missing_ok=True)
    elif before != now:
        disk.swap_link(links["current"], now)
    links["next"].unlink(missing_ok=True)
    used = {link.readlink().name for link in links.values() if link.is_symlink()}
    for entry in root.iterdir():
        if not entry.is_symlink() and entry.name not in used:
            with contextlib.suppress(OSError):  # the next handover tries again
                tree.remove(entry)
