"""Which processes keep an address open. A descriptor of a socket outlives its unit when it was passed on."""

import contextlib
import ipaddress
import os
from collections.abc import Iterable
from pathlib import Path

from appctl.addresses import Address
from appctl.disk import read_bounded
from appctl.systemd import control_group

LISTENING = "0A"
MOST = 64 * 1024 * 1024
"""Bytes of the kernel's table of connections that are read."""


def as_kernel(host: str) -> str:
    """An IP address as /proc/net/tcp writes it: words of four bytes, each the other way round."""
    packed = ipaddress.ip_address(host).packed
    return b"".join(packed[i : i + 4][::-1] for i in range(0, len(packed), 4)).hex().upper()


def listeners(addresses: Iterable[Address], tables: Path = Path("/proc/net")) -> dict[int, str]:
    """The inodes of the sockets that listen on addresses, and which address each has."""
    wanted = {(as_kernel(a.host), a.port): a.text for a in addresses if a.host}
    found = {}
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in read_bounded(tables / table, MOST).decode("ascii", "replace").split("\n")[1:]:
                fields = line.split()
                if len(fields) > 9 and fields[3] == LISTENING:
                    host, _, port = fields[1].rpartition(":")
                    if text := wanted.get((host, int(port, 16))):
                        found[int(fields[9])] = text
    return found


def holders(inodes: dict[int, str]) -> list[str]:
    """Who has one of these sockets, in words."""
    links = {f"socket:[{inode}]": text for inode, text in inodes.items()}
    found = []
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        texts = set()
        with contextlib.suppress(OSError):  # it has just ended
            for descriptor in os.listdir(process / "fd"):  # noqa: PTH208 (names alone)
                with contextlib.suppress(OSError):  # this one has just been closed
                    texts.add(links.get(str((process / "fd" / descriptor).readlink()), ""))
        found += [f"{text} is still answered by {named(int(process.name))}" for text in sorted(texts - {""})]
    return found


def named(pid: int) -> str:
    """A process as an operator looks for it."""
    unit = control_group(pid).rpartition("/")[2]
    return f"process {pid} of {unit}" if unit else f"process {pid}"
