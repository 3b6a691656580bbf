"""What may keep a host from running an application well, as facts: looked up, judged by nobody, and nothing changed."""

from __future__ import annotations

import contextlib
import http.client
import importlib
import json
import os
import re
import shutil
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

SECONDS = 10
"""For which an index or a name server may keep us waiting."""

LEFT_FOR = 3600
"""Seconds after which what a build has left behind is no build's that is under way."""

DPKG = "var/lib/dpkg"


def read(path: Path) -> str:
    """The text of a file, empty when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def umask() -> int:
    """The mask of root's programs."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def controllers(base: Path) -> list[str] | None:
    """What the kernel can limit. None where systemd does not have the one hierarchy of control groups."""
    path = base / "sys/fs/cgroup/cgroup.controllers"
    return read(path).split() if path.exists() else None


def memory(base: Path) -> dict[str, int]:
    """Bytes of memory that the host has, and that programs could get now."""
    found = dict(re.findall(r"^(MemTotal|MemAvailable): +(\d+) kB$", read(base / "proc/meminfo"), re.MULTILINE))
    return {name: int(found.get(name, 0)) * 1024 for name in ("MemTotal", "MemAvailable")}


def apt(names: list[str], run: Callable[..., str], base: Path = Path("/")) -> dict[str, object]:
    """Whether packages of the distribution could be installed, and which of these names it does not know."""
    there = [*(base / DPKG).glob("status")]
    if not there:
        return {"there": False, "interrupted": False, "holder": "", "unknown": []}
    # Without files of its own in the cache: it would write them.
    told = run("apt-cache", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=", "policy", *names)
    candidates = dict(re.findall(r"^(\S+):\n(?:.*\n)??  Candidate: (\S+)$", told, re.MULTILINE))
    lists = [*(base / "var/lib/apt/lists").glob("*_Packages*")]
    return {
        "there": True,
        "interrupted": any(re.fullmatch("[0-9]+", path.name) for path in (base / DPKG / "updates").glob("*")),
        "holder": holder(base / DPKG / "lock-frontend", base),
        # A host that has never fetched a list of packages knows none; the deploy fetches it.
        "unknown": [name for name in names if candidates.get(name, "(none)") == "(none)"] if lists else [],
    }


def holder(path: Path, base: Path = Path("/")) -> str:
    """Which process has locked a file, empty when none has."""
    try:
        inode = str(path.stat().st_ino)
    except OSError:
        return ""
    for line in read(base / "proc/locks").splitlines():
        fields = line.split()
        if "->" not in fields and len(fields) > 5 and fields[5].rpartition(":")[2] == inode:
            return f"{read(base / 'proc' / fields[4] / 'comm').strip() or 'a process'} (process {fields[4]})"
    return ""


def index_url(given: str, base: Path = Path("/")) -> str:
    """The index that packages come from: the one that was given, or the one that Debian's pip has. Empty without."""
    wheels = sorted((base / "usr/share/python-wheels").glob("pip-*.whl"))
    if given or not wheels:
        return given
    sys.path.insert(0, str(wheels[-1]))
    try:
        return str(importlib.import_module("pip._internal.models.index").PyPI.simple_url)
    except ImportError:
        return ""
    finally:
        sys.path.remove(str(wheels[-1]))


def unreachable(url: str) -> str:
    """Why nobody answers at a URL, asked through the proxies of the environment. Empty when somebody does."""
    try:
        request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "gunicorn_fastapi"})
        with urllib.request.urlopen(request, timeout=SECONDS):
            return ""
    except urllib.error.HTTPError:
        return ""  # it may want a password, which is the build's
    except urllib.error.URLError as error:
        return str(error.reason)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__


def addresses(name: str) -> dict[str, object]:
    """Where a name leads, as this host sees it."""
    try:
        found = socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return {"addresses": [], "error": str(getattr(error, "strerror", "") or error)}
    return {"addresses": sorted({str(entry[4][0]) for entry in found}), "error": ""}


def own_addresses(run: Callable[..., str]) -> list[str]:
    """The addresses of this host's interfaces."""
    try:
        interfaces = json.loads(run("ip", "-json", "address") or "[]")
        return sorted(str(entry["local"]) for interface in interfaces for entry in interface.get("addr_info", []))
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def left(name: str, base: Path = Path("/")) -> list[str]:
    """What an interrupted build or change has left behind."""
    root, found = base / "opt" / name, []
    # Only root writes there, and names alone are looked at.
    for directory, pattern in ((root / "incoming", "*"), (root / "public", ".*.building")):
        for path in sorted(directory.glob(pattern)):
            with contextlib.suppress(OSError):  # it has just been removed
                if time.time() - path.lstat().st_ctime > LEFT_FOR:
                    found.append(str(path))
    return found


def failed_units(name: str, run: Callable[..., str]) -> list[str]:
    """The units of the application that systemd keeps as failed."""
    lines = run("systemctl", "list-units", "--state=failed", "--all", "--plain", "--no-legend", f"{name}*")
    units = [line.split()[0] for line in lines.splitlines() if line.strip()]
    return [unit for unit in units if re.fullmatch(rf"{re.escape(name)}([-@].*)?\.\w+", unit)]


def room(base: Path = Path("/")) -> dict[str, dict[str, int]]:
    """Bytes and names that are free where a deploy and the application write. Names are -1 where nobody counts them."""
    found = {}
    for place in ("opt", "var/lib", "var/cache", "run"):
        with contextlib.suppress(OSError):
            status = os.statvfs(base / place)
            names = status.f_favail if status.f_files else -1
            found[f"/{place}"] = {"bytes": status.f_bavail * status.f_frsize, "names": names}
    return found


FILTERED = (
    "systemd-run", "--quiet", "--collect", "--wait", "--pipe", "--property=IPAddressDeny=any",
    "/usr/bin/python3", "-IS", "-c",
    "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'', ('127.0.0.1', 9))",
)  # fmt: skip
"""Sends a datagram from a unit that may send none, which fails at once. Nothing stays of it."""


def filters(run: Callable[..., tuple[int, str, str]]) -> bool:
    """Whether systemd can keep a unit from addresses. Without systemd, that is not what is wrong.

    It only logs that a kernel cannot filter them, and starts the service without the filter.
    """
    return (
        not shutil.which("systemd-run") or "Operation not permitted" in run(list(FILTERED), handle_exceptions=False)[2]
    )
