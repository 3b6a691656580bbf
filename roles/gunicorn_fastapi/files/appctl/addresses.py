"""The public addresses, in socket units around the releases.

NAME.socket has the first of them and stands for all: the others follow its start and stop. Each further address has
a unit of its own, for systemd can close an address of an active unit (by a reload), but open none. What an active unit
has is therefore never moved to another one: a change closes what leaves, opens what comes, and touches nothing else.
"""

import hashlib
import ipaddress
import re
from typing import NamedTuple

from appctl import behind
from appctl.app import App


class Address(NamedTuple):
    """An address as ListenStream= takes it; `alone`: of [::], without the IPv4 clients that it would have."""

    text: str
    alone: bool = False

    @property
    def host(self) -> str:
        """The IP address, empty for the path of a unix socket."""
        return "" if self.text.startswith("/") else self.text.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.text.rpartition(":")[2]) if self.host else 0


class Options(NamedTuple):
    """What all addresses have in common."""

    backlog: int = 4096
    mode: str = "0666"
    user: str = "root"
    group: str = "root"


Layout = dict[str, list[Address]]
"""Which unit has which addresses."""


def parse(bind: list[str]) -> list[Address]:
    """The addresses of a list; what is one address is written in one way."""
    found = []
    for text in bind:
        if not text.startswith("/"):
            host, _, port = text.rpartition(":")
            ip = ipaddress.ip_address(host.strip("[]"))
            text = f"[{ip}]:{int(port)}" if ip.version == 6 else f"{ip}:{int(port)}"
        found.append(Address(text))
    four = {address.port for address in found if address.host and ":" not in address.host}
    return [address._replace(alone=address.host == "::" and address.port in four) for address in found]


def as_open(wanted: list[Address], held: list[Address]) -> list[Address]:
    """The same addresses in the form in which they are open already: one socket for both families, or two."""
    for port in {address.port for address in wanted if address.host == "::"}:
        both, four, six = Address(f"[::]:{port}"), Address(f"0.0.0.0:{port}"), Address(f"[::]:{port}", alone=True)
        if both in held and four in wanted and six in wanted:
            wanted = [both if address == six else address for address in wanted if address != four]
        elif both in wanted and four in held:
            wanted = [part for address in wanted for part in ([four, six] if address == both else [address])]
    return wanted


def plan(now: Layout, wanted: list[Address], name: str) -> Layout:
    """Where the wanted addresses are to be; those that are open stay where they are."""
    head = f"{name}.socket"
    wanted = as_open(wanted, [address for held in now.values() for address in held])
    after = {unit: kept for unit, held in now.items() if (kept := [address for address in held if address in wanted])}
    placed = [address for held in after.values() for address in held]
    missing = [address for address in wanted if address not in placed]
    if head not in after:
        after[head], missing = missing[:1], missing[1:]
    for address in missing:
        digest = hashlib.sha256(repr(tuple(address)).encode()).hexdigest()[:12]
        after[f"{name}-address-{digest}.socket"] = [address]
    return after


def unit_text(app: App, unit: str, layout: Layout, options: Options) -> str:
    """A socket unit."""
    held = layout[unit]
    others = sorted(set(layout) - {app.socket})
    what = " ".join(address.text for address in held) or "none, the others have it"
    lines = [
        "# Written by gunicorn_fastapi. It stays open when the service restarts; clients wait.",
        "",
        "[Unit]",
        f"Description={app.name}: public address {what}",
    ]
    if unit != app.socket:
        lines.append(f"PartOf={app.socket}")
    elif others:
        lines.append(f"Wants={' '.join(others)}")
    lines += ["", "[Socket]"]
    # A unit has to listen somewhere.
    lines += [f"ListenStream={address.text}" for address in held] or [f"ListenStream={app.address('none')}"]
    if any(address.host == "::" for address in held):
        lines.append(f"BindIPv6Only={'ipv6-only' if any(address.alone for address in held) else 'both'}")
    if any(address.host for address in held):
        lines.append("# An address that the host gets later is served when it comes.")
        lines.append("FreeBind=yes")
    if not held:
        lines += ["SocketMode=0600", "RemoveOnStop=yes"]
    elif not all(address.host for address in held):
        lines += [f"SocketMode={options.mode}", f"SocketUser={options.user}", f"SocketGroup={options.group}"]
        lines.append("RemoveOnStop=yes")
    lines += [
        f"Service={behind.owner(app)}",
        f"Backlog={options.backlog}",
        "# However often the service fails, the address stays open for the next release.",
        "TriggerLimitIntervalSec=0",
    ]
    if unit == app.socket:
        lines += ["", "[Install]", "WantedBy=sockets.target"]
    return "\n".join(lines) + "\n"


def meaning(text: str) -> list[str]:
    """The lines of a unit that are not comments."""
    return [line for line in text.split("\n") if line and not line.startswith(("#", ";"))]


def settings(text: str, key: str) -> list[str]:
    """The values of a setting in a unit."""
    return re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)


def layout(app: App, texts: dict[str, str]) -> Layout:
    """Which unit has which addresses, by the texts of units."""
    found: Layout = {}
    for unit, text in texts.items():
        alone = settings(text, "BindIPv6Only") == ["ipv6-only"]
        listens = [value for value in settings(text, "ListenStream") if value != str(app.address("none"))]
        found[unit] = [a._replace(alone=alone and a.host == "::") for v in listens for a in parse([v])]
    return found


def for_candidate(kept: list[str]) -> str:
    """What a second instance's unit says beside the release's own words, to have these addresses too."""
    if not kept:
        return ""
    return f"\n[Unit]\nAfter={' '.join(kept)}\n\n[Service]\nSockets={' '.join(kept)}\n"
