"""Reading the journal, and writing to it."""

import contextlib
import json
import socket
from typing import Any

from appctl.process import run


def entries(*query: str) -> list[dict[str, Any]]:
    """The records that match a query of journalctl, the oldest first; those that the caller may read."""
    run("journalctl", "--sync", check=False)  # needs root; without it the last moments may be missing
    # --all: without it, long messages and those with unprintable characters are left out.
    lines = run("journalctl", "--quiet", "--output=json", "--all", *query, check=False).splitlines()
    return [json.loads(line) for line in lines]


def tell(name: str, text: str, release: str, error: bool = False) -> None:
    """Tell the journal, where it is found under the application's own unit."""
    fields = {
        "MESSAGE": text,
        "PRIORITY": "3" if error else "5",
        "SYSLOG_IDENTIFIER": f"{name}ctl",
        "OBJECT_SYSTEMD_UNIT": f"{name}.service",
        "RELEASE": release,
    }
    # The native protocol, with the length before each value: a reason may have many lines, in one record.
    packed = [(name.encode(), value.encode()) for name, value in fields.items()]
    datagram = b"".join(name + b"\n" + len(value).to_bytes(8, "little") + value + b"\n" for name, value in packed)
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.sendto(datagram, "/run/systemd/journal/socket")
