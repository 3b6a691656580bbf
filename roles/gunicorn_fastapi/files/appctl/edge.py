"""The edge of the host: Debian's Caddy, and what of it is this application's.

Each application has a directory of its own: its socket, its certificate, what the edge has to know. A domain is a link
to it. Caddy looks that up for each request, so no change of it reloads Caddy.
"""

import argparse
import contextlib
import fcntl
import grp
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appctl import bounded, certificates, disk, lock, systemd, talk, tree
from appctl.app import App
from appctl.asking import add_lock_wait, read_request
from appctl.process import CtlError, run

UNIT = "caddy.service"

PATIENCE = 60.0
"""Seconds that the certificates of one application may take, together."""

LOOK = 5.0
"""Seconds between two looks at what Caddy says meanwhile."""


class Edge:
    """Where what belongs to the edge lies on this host."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.root = app.base / "var/lib/gunicorn_fastapi/edge"
        self.applications = self.root / "applications"
        self.own = self.applications / app.name
        self.authority = self.root / "authority"
        self.schemes = {"https": self.root / "https", "http": self.root / "http"}
        self.etc = app.base / "etc/gunicorn_fastapi"
        self.environment = self.etc / "edge.env"
        self.drop_in = app.system / f"{UNIT}.d/gunicorn_fastapi.conf"
        self.configured = app.base / "run/caddy/configured"
        self.files = ("Caddyfile", "acme.conf", "acme-root.pem")

    def settings(self) -> dict[str, Any]:
        """What this application has asked for; nothing when it has no domains."""
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(disk.read_bounded(self.own / "edge.json", 65536))
            return found if isinstance(found, dict) else {}
        return {}

    def links(self) -> dict[Path, str]:
        """All domains of the host: the link of each, and its application."""
        found = {}
        for directory in self.schemes.values():
            for link in sorted(directory.iterdir()) if directory.is_dir() else []:
                if link.is_symlink():
                    found[link] = link.readlink().name
        return found


def name_of(domain: str) -> str:
    """What a domain's link is called."""
    return domain.replace("*", "_", 1)


@contextlib.contextmanager
def alone(edge: Edge) -> Iterator[None]:
    """Let nobody else change the edge: it is for all applications."""
    edge.root.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor = os.open(edge.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # held for as long as it takes to write some files
        yield
    finally:
        os.close(descriptor)


def command_edge(app: App, arguments: argparse.Namespace) -> dict[str, object]:
    """Give the application its domains, or take them away; the request is on standard input."""
    asked = read_request("edge")
    edge = Edge(app)
    since = time.time()
    with lock.lock(app, "the change of its domains", arguments.lock_wait):
        if not asked["domains"]:
            changed = leave(edge)
            return {"changed": changed}
        with alone(edge):
            refuse_others(edge, asked["domains"])
            fresh, changed = apply(edge, asked)
        changed |= bring_up(edge, fresh)
    get(asked, since)
    return {"changed": changed}


def refuse_others(edge: Edge, domains: list[str]) -> None:
    """Raise CtlError for a domain that another application of the host has."""
    for domain in domains:
        for link, owner in edge.links().items():
            if link.name == name_of(domain) and owner != edge.app.name:
                raise CtlError(
                    f"gunicorn_fastapi_domains: {domain} belongs to {owner} on this host, and nothing has changed. "
                    "Remove it there first"
                )


def apply(edge: Edge, asked: dict[str, Any]) -> tuple[bool, bool]:
    """Have what was asked for in place: whether a certificate that Caddy may remember has changed its kind, and whether
    anything has changed. What a domain needs is there before its link.
    """
    before, tls = edge.settings(), str(asked["tls"])
    for directory in (edge.own, edge.own / "hsts", *edge.schemes.values()):
        make(directory)
    pair = certificate(edge, asked, before)
    wanted = {key: asked[key] for key in ("domains", "redirects", "tls", "hsts", "certificate")}
    changed = wanted != before or bool(pair)
    if pair:
        private(edge.own / "tls.pem", pair)
    mark(edge.own / "acme", tls == "acme")
    if tls in ("acme", "off"):
        (edge.own / "tls.pem").unlink(missing_ok=True)
    for left in (edge.own / "hsts").iterdir():
        if left.name != asked["hsts"]:
            left.unlink()
    if asked["hsts"]:
        mark(edge.own / "hsts" / asked["hsts"], True)
    redirect(edge.own / "redirects", asked["redirects"])
    changed |= point(edge.own / "app.sock", asked["socket"])
    point(edge.own / "public", str(edge.app.root / "public"))
    scheme = edge.schemes["http" if tls == "off" else "https"]
    links = {scheme / name_of(domain) for domain in asked["domains"]}
    for link in links:
        changed |= point(link, f"../applications/{edge.app.name}")
    for link, owner in edge.links().items():
        if owner == edge.app.name and link not in links:
            link.unlink()
            changed = True
    if wanted != before:
        disk.durable(edge.own / "edge.json", json.dumps(wanted))
    kept = set(before.get("domains", [])) & set(asked["domains"])
    return bool(kept) and before.get("tls") == "acme" and tls in ("internal", "files"), changed


def certificate(edge: Edge, asked: dict[str, Any], before: dict[str, Any]) -> str:
    """The new certificate and key of the application, empty where the one that it has is good."""
    tls, domains, there = asked["tls"], asked["domains"], edge.own / "tls.pem"
    if tls == "files":
        if there.exists() and all(before.get(key) == asked[key] for key in ("tls", "domains", "certificate")):
            return ""
        if why := certificates.check(asked["pair"], domains):
            raise CtlError(f"gunicorn_fastapi_tls_certificate: {why}, and nothing has changed")
        return str(asked["pair"])
    if tls == "internal":
        left = certificates.in_use(edge.app.base, edge.own, tls, "").get("days", 0)
        if before.get("tls") == tls and before.get("domains") == domains and left >= certificates.RENEW:
            return ""
        return certificates.internal(edge.authority, domains)
    return ""


def make(directory: Path) -> None:
    """Make a directory that Caddy may look into."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    directory.chmod(0o755)


def mark(path: Path, there: bool) -> None:
    """Have an empty file there, or not."""
    if there:
        path.touch(mode=0o644)
        path.chmod(0o644)
    else:
        path.unlink(missing_ok=True)


def redirect(directory: Path, wanted: dict[str, str]) -> None:
    """Have a directory for each name that leads elsewhere, with a file whose name says where to."""
    for name, target in wanted.items():
        make(directory / name)
        mark(directory / name / f"to={target}", True)
    for left in directory.glob("*/to=*"):
        if left.name != f"to={wanted.get(left.parent.name)}":
            left.unlink()
        if left.parent.name not in wanted:
            left.parent.rmdir()


def point(link: Path, target: str) -> bool:
    """Have a link name a target; whether it did not."""
    if link.is_symlink() and str(link.readlink()) == target:
        return False
    disk.swap_link(link, target)
    return True


def private(path: Path, text: str) -> None:
    """Write what root and Caddy alone may read."""
    building = path.with_name(f".{path.name}.new")
    building.unlink(missing_ok=True)
    disk.durable(building, text, mode=0o600)
    os.chown(building, -1, caddy())
    building.chmod(0o640)
    building.replace(path)
    disk.sync_directory(path.parent)


def caddy() -> int:
    """The number of Caddy's group."""
    try:
        return grp.getgrnam("caddy").gr_gid
    except KeyError:
        raise CtlError("caddy is not installed on this host. Deploy again, which installs it") from None


def bring_up(edge: Edge, fresh: bool) -> bool:
    """Start Caddy, or have it read its configuration when that has changed; whether either was done."""
    if not edge.environment.exists():
        disk.durable(edge.environment, f"EDGE_KEY={secrets.token_hex(32)}\n", mode=0o600)
    if systemd.show(UNIT, "UnitFileState")["UnitFileState"] != "enabled":
        systemd.enable(UNIT)
    if not systemd.active(UNIT):
        bounded.change("start", UNIT, check=False)
        if not systemd.active(UNIT):
            raise CtlError(f"{UNIT}, the edge, did not start (journalctl -u caddy -n 20)")
        talk.out("caddy, the edge of this host, was started")
        return True
    if fresh or outdated(edge):
        talk.out("caddy is reloaded, which may lose a request on each connection that is kept open")
        run("systemctl", "reload", UNIT, timeout=120)
        return True
    return False


def outdated(edge: Edge) -> bool:
    """Whether Caddy has read its configuration before it was written."""
    try:
        read = edge.configured.lstat().st_mtime
    except OSError:
        return True
    return any((edge.etc / name).stat().st_mtime > read for name in edge.files if (edge.etc / name).exists())


def get(asked: dict[str, Any], since: float) -> None:
    """Have the edge get the certificates at once, so that no client waits for it.

    What fails is told, and is no failure: the application serves, and the edge tries again when a client comes.
    """
    if asked["tls"] == "off":
        return
    deadline = time.monotonic() + PATIENCE
    for domain in asked["domains"]:
        if why := without(domain, since, deadline):
            talk.out(
                f"warning: {domain} has no certificate yet: {why}. Does its name lead here, and can the authority "
                "reach port 80? It is asked again when a client comes, and by the next deploy",
                error=True,
            )


def without(domain: str, since: float, deadline: float) -> str:
    """Why a domain has no certificate, as soon as Caddy or the clock says so. Empty when it has one.

    Caddy goes on with what it has begun, whoever gives up waiting.
    """
    while True:
        left = deadline - time.monotonic()
        why = certificates.ask(domain, max(1.0, min(LOOK, left)))
        reason = certificates.why_not(domain, since) if why else ""
        if not why or reason or left <= LOOK:
            return reason or why


def leave(edge: Edge) -> bool:
    """Take the application off the edge, and the edge off the host when it was the last; whether there was anything."""
    if not edge.own.exists() and edge.app.name not in edge.links().values():
        return False
    with alone(edge):
        for link, owner in edge.links().items():
            if owner == edge.app.name:
                link.unlink()
        tree.remove(edge.own)
        others = sorted(set(edge.links().values()))
        if others:
            talk.out(f"{edge.app.name} has left the edge (caddy), which goes on for {', '.join(others)}")
            return True
        if systemd.show(UNIT, "LoadState")["LoadState"] == "loaded":
            bounded.change("stop", UNIT)
            run("systemctl", "disable", UNIT)
        for path in (*(edge.etc / name for name in edge.files), edge.environment, edge.drop_in):
            path.unlink(missing_ok=True)
        for directory in (edge.drop_in.parent, edge.etc):
            with contextlib.suppress(OSError):  # something of an operator's is in it, or it is not there
                directory.rmdir()
        run("systemctl", "daemon-reload")
    talk.out(
        f"{edge.app.name} was the last application of the edge: caddy was stopped and disabled. Its package and "
        "/var/lib/caddy with its certificates are kept"
    )
    return True


def told(app: App) -> dict[str, Any] | None:
    """What the status says of the application's domains. None when it has none."""
    edge = Edge(app)
    settings = edge.settings()
    if not settings:
        return None
    root = os.geteuid() == 0
    rows = []
    for domain in settings.get("domains", []):
        known = certificates.in_use(app.base, edge.own, settings["tls"], domain) if root else {}
        rows.append({"domain": domain, "issuer": known.get("issuer", ""), "days": known.get("days")})
    return {"tls": settings.get("tls"), "domains": rows, "caddy": systemd.show(UNIT, "ActiveState")["ActiveState"]}


def words(state: dict[str, Any] | None) -> list[str]:
    """The same as lines of the status."""
    if not state:
        return []
    lines = [f"  edge      caddy is {state['caddy'] or 'not there'}"]
    for row in state["domains"]:
        if state["tls"] == "off":
            said = "HTTP alone"
        elif row["days"] is None:
            said = f"{state['tls']}, no certificate that can be seen"
        else:
            said = f"{state['tls']}, by {row['issuer']}, {row['days']} days left"
        lines.append(f"  domain    {row['domain']}: {said}")
    return lines


def add_edge(command: argparse.ArgumentParser) -> None:
    add_lock_wait(command)
