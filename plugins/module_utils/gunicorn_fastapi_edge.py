"""The edge of a host as it was found: who has which domain, and whose Caddy that is."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path

PLACE = "var/lib/gunicorn_fastapi/edge"
DROP_IN = "etc/systemd/system/caddy.service.d/gunicorn_fastapi.conf"
CERTIFICATES = "var/lib/caddy/.local/share/caddy/certificates"
PORTS = ["0.0.0.0:80", "0.0.0.0:443"]
CADDY = "/system.slice/caddy.service"

# Seconds after which a certificate of the host's own authority is made anew: appctl/certificates.py, VALID - RENEW.
DUE = 420 * 86400


def settings(base: Path, name: str) -> dict[str, object]:
    """What an application has asked of the edge; nothing when it has no domains."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((base / PLACE / "applications" / name / "edge.json").read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def owners(base: Path) -> dict[str, str]:
    """Which application has which domain."""
    found = {}
    for scheme in ("https", "http"):
        directory = base / PLACE / scheme
        for link in sorted(directory.iterdir()) if directory.is_dir() else []:
            if link.is_symlink():
                found[link.name.replace("_", "*", 1)] = link.readlink().name
    return found


def missing(base: Path, name: str, given: dict[str, object]) -> list[str]:
    """The domains whose certificate is to be asked for again."""
    domains = given.get("domains")
    if not isinstance(domains, list) or given.get("tls") in ("files", "off"):
        return []
    if given.get("tls") == "internal":
        try:
            old = time.time() - (base / PLACE / "applications" / name / "tls.pem").stat().st_mtime > DUE
        except OSError:
            old = True
        return domains if old else []
    return [domain for domain in domains if not list((base / CERTIFICATES).glob(f"*/{domain}/{domain}.crt"))]


def look(name: str, run: Callable[..., str], base: Path = Path("/")) -> dict[str, object]:
    """All of it."""
    given, all_owners = settings(base, name), owners(base)
    is_ours = (base / DROP_IN).exists()
    states = run("systemctl", "show", "--property=ActiveState,UnitFileState,LoadState", "caddy.service").split("\n")
    state = dict(line.partition("=")[::2] for line in states)
    used = state.get("ActiveState") == "active" or state.get("UnitFileState") == "enabled"
    return {
        "settings": given,
        "owners": all_owners,
        "missing": missing(base, name, given),
        "installed": state.get("LoadState") == "loaded",
        "active": state.get("ActiveState") == "active",
        "foreign": used and not is_ours,
        "last": bool(given) and set(all_owners.values()) <= {name},
        "ours": is_ours,
    }
