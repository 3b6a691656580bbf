"""The public addresses as a playbook gives them on the command line.

Whoever may call NAMEctl by sudo alone may choose addresses, and nothing else of a unit that root's systemd reads.
"""

import argparse
import ipaddress
import json
import re
from typing import Any

from appctl.process import CtlError

PATH = re.compile(r"(?=.{1,107}\Z)(/(?!\.{1,2}(/|\Z))[A-Za-z0-9_.-]+)+")
ADDRESS = re.compile(r"(?:([0-9.]{7,15})|\[([0-9a-fA-F:.]{2,45})\]):([0-9]{1,5})")
OTHERS = {
    "mode": re.compile("0?[0-7]{3}"),
    "user": re.compile("[a-z_][a-z0-9_-]{0,30}"),
    "group": re.compile("[a-z_][a-z0-9_-]{0,30}"),
}
BACKLOG_MAX = 2**31 - 1


def wanted(given: str) -> dict[str, Any] | None:
    """The public addresses and their properties; None where nothing is given. Raises CtlError for anything else."""
    if not given:
        return None
    try:
        found = json.loads(given)
        bind, backlog = found["bind"], found["backlog"]
        whole = isinstance(bind, list) and bool(bind) and all(is_address(text) for text in bind)
        whole = whole and type(backlog) is int and 0 < backlog <= BACKLOG_MAX
        whole = whole and all(pattern.fullmatch(found[name]) for name, pattern in OTHERS.items())
    except (ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise CtlError("--addresses: these are no addresses. Set gunicorn_fastapi_bind and deploy, which gives them")
    return {name: found[name] for name in ("bind", "backlog", *OTHERS)}


def is_address(text: object) -> bool:
    """Whether it is ADDRESS:PORT, [ADDRESS]:PORT, or the path of a unix socket."""
    if not isinstance(text, str) or PATH.fullmatch(text):
        return isinstance(text, str)
    match = ADDRESS.fullmatch(text)
    try:
        ipaddress.IPv4Address(match[1]) if match and match[1] else ipaddress.IPv6Address(match[2] if match else "")
    except ValueError:
        return False
    return match is not None and 1 <= int(match[3]) <= 65535


def add_addresses(command: argparse.ArgumentParser) -> None:
    command.add_argument("--addresses", default="", metavar="JSON", help=argparse.SUPPRESS)
