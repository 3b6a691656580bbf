"""Addresses as operators give them: whether a host can have them, and who has them already."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

IP_FREEBIND = 15
"""An address that the host has not got yet may be listened on; it is not in Python's socket module before 3.14."""


def read(path: Path) -> str:
    """The text of a file, empty when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def listeners(port: int) -> list[tuple[str, int]]:
    """Addresses (as in /proc/net/tcp: hexadecimal) and inodes of what listens on a TCP port."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in read(Path(table)).splitlines()[1:]:
            fields = line.split()
            address, local_port = fields[1].rsplit(":", 1)
            if fields[3] == "0A" and int(local_port, 16) == port:
                found.append((address, int(fields[9])))
    return found


def processes_with(inode: int) -> list[int]:
    """Ids of the processes that have a socket open, the lowest first."""
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            for descriptor in os.listdir(process / "fd"):  # noqa: PTH208 (names alone)
                with contextlib.suppress(OSError):  # this one has just been closed
                    # All of it: a file of that name has a directory before it.
                    if str((process / "fd" / descriptor).readlink()) == f"socket:[{inode}]":
                        pids.append(int(process.name))
                        break
    return sorted(pids)


def split(address: str) -> tuple[str, int]:
    """Host (empty for the path of a unix socket) and port of an address as ListenStream= takes it."""
    if address.startswith("/"):
        return "", 0
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def conflicts(host: str, listening: str) -> bool:
    """Whether something that listens there (as /proc/net/tcp writes it) may keep us from listening on `host`."""
    if not listening.strip("0") or host in ("0.0.0.0", "::"):
        return True
    packed = ipaddress.ip_address(host).packed
    words = [packed[i : i + 4] for i in range(0, len(packed), 4)]
    return listening == b"".join(word[::-1] for word in words).hex().upper()


def why_not(address: str, bind: list[str]) -> OSError | None:
    """What happens when we listen there, beside the others of `bind`; tried, and given back."""
    host, port = split(address)
    if not host:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(address)
            except OSError:  # systemd takes the place of a socket that nobody listens on
                return None
        return OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    six = ":" in host
    try:
        with socket.socket(socket.AF_INET6 if six else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.setsockopt(socket.SOL_IP, IP_FREEBIND, 1)
            if six:
                alone = any(p == port and h and ":" not in h for h, p in map(split, bind))
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(alone))
            probe.bind((host, port))
    except OSError as error:
        return error
    return None


def unit_is_ours(unit: str, name: str) -> bool:
    """Whether a socket unit is one of this application's."""
    return (
        re.fullmatch(rf"{re.escape(name)}(-probe|-candidate|-preflight|-metrics|-address-[0-9a-f]+)?\.socket", unit)
        is not None
    )


def listed(sockets: str, host: str, port: int) -> list[str]:
    """The units that listen there, in what "systemctl list-sockets --show-types" prints without a legend."""
    units = []
    for line in sockets.splitlines():
        match = re.match(r"(\S+?)(?::(\d+))?\s+Stream\s+(\S+)", line)
        if match and int(match[2] or 0) == port:
            where = match[1].strip("[]")
            if where == host or (port and {where, host} & {"0.0.0.0", "::"}):
                units.append(match[3])
    return units


def holders(bind: list[str], name: str, run: Callable[..., str], also: str = "") -> list[dict[str, str]]:
    """Who keeps us from an address; `run` gives what a command prints.

    What the application itself has does not count: its control command changes its addresses. Nor does what the
    control group `also` has, if that is given.
    """
    found = []
    for address in bind:
        host, port = split(address)
        sockets = run("systemctl", "list-sockets", "--all", "--full", "--show-types", "--no-legend")
        if not host and any(unit_is_ours(unit, name) for unit in listed(sockets, address, 0)):
            continue
        error = why_not(address, bind)
        if error is None:
            continue
        if error.errno != errno.EADDRINUSE:
            found.append({"address": address, "by": f"cannot be listened on: {error.strerror}"})
        elif not host:
            found.append({"address": address, "by": "is answered by somebody else"})
        else:
            found += [
                {"address": address, "by": f"is held by {who}"} for who in others(host, port, name, sockets, also)[:1]
            ]
    return found


def others(host: str, port: int, name: str, sockets: str, also: str = "") -> list[str]:
    """Who else than the application listens there, with what "systemctl list-sockets" says."""
    units = [unit for unit in listed(sockets, host, port) if not unit_is_ours(unit, name)]
    found = []
    for where, inode in listeners(port):
        pids = processes_with(inode) if conflicts(host, where) else []
        if 1 in pids:
            found += [f"systemd for {unit} (process 1)" for unit in units]
        elif pids and not any(is_ours(pid, name, also) for pid in pids):
            found.append(f"{read(Path(f'/proc/{pids[0]}/comm')).strip()} (process {pids[0]})")
    return found


def is_ours(pid: int, name: str, also: str = "") -> bool:
    """Whether a process belongs to one of the application's services, or to the control group `also`."""
    # Where there are two hierarchies, the one of systemd's is not the first.
    lines = [line.split(":", 2) for line in read(Path(f"/proc/{pid}/cgroup")).splitlines()]
    groups = [line[2] for line in lines if line[1:2] in ([""], ["name=systemd"])]
    return any(group.startswith(f"/{name}.slice/") or group == also for group in groups)
