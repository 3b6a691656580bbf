"""On which hosts of the inventory something beside the server runs. --limit changes nothing of that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .inputs import shown

CHOICES = ("first", "one")
"""What one host of a group has: its first one, or one that differs from name to name."""


def of_play(patterns: Iterable[str], groups: Mapping[str, Any]) -> list[str]:
    """The hosts that a play names, whatever --limit leaves of them. None when that takes more than their names."""
    hosts: dict[str, None] = {}
    known = {host for members in groups.values() for host in members}
    for pattern in patterns:
        for name in str(pattern).split(","):
            if name.strip() in groups:
                hosts.update(dict.fromkeys(groups[name.strip()]))
            elif name.strip() in known:
                hosts[name.strip()] = None
            else:
                return []
    return list(hosts)


def chosen(how: str, name: str, members: Iterable[str]) -> str:
    """The host of these that has it. Who leaves them takes along only what it had. Empty without any."""
    hosts = list(members)
    if how == "first":
        return hosts[0] if hosts else ""
    return max(hosts, key=lambda host: hashlib.sha256(f"{name}\0{host}".encode()).digest(), default="")


def has(wanted: str, name: str, host: str, groups: Mapping[str, Any], play: Sequence[str]) -> bool:
    """Whether a host has what is wanted on such hosts."""
    how, colon, group = wanted.partition(":")
    if how in CHOICES and (colon or wanted not in groups):
        return host == chosen(how, name, groups.get(group, []) if colon else play)
    return wanted in ("all", host) or host in groups.get(wanted, [])


def of_host(
    found: Mapping[str, dict[str, Any]], host: str, groups: Mapping[str, Any], play: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """What of all that is wanted a host of the inventory has."""
    return {name: one for name, one in found.items() if has(one["hosts"], name, host, groups, play)}


def unknown(
    variable: str, found: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Any], play: Sequence[str] = ()
) -> str:
    """Whose hosts nobody can tell, as a sentence about the first of them."""
    hosts = {host for members in groups.values() for host in members}
    for name, one in found.items():
        wanted = str(one["hosts"])
        how, colon, group = wanted.partition(":")
        if wanted in ("all", *groups, *hosts) or (how in CHOICES and colon and group in groups):
            continue
        if wanted not in CHOICES:
            return (
                f"{variable}: {name}: hosts: {shown(wanted)} is neither a group nor a host of the inventory. "
                f"There are {', '.join(sorted(groups))}."
            )
        if not play:
            return (
                f"{variable}: {name}: hosts: {wanted}: the play does not name its hosts as a group, so which host that "
                f"is depends on --limit, and two would run it. Say of which group: {wanted}:GROUP."
            )
    return ""
