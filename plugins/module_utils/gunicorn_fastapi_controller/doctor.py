"""What is wrong with a host, beside that for which a deploy refuses it: a sentence with one remedy for each finding."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from packaging.version import InvalidVersion

from . import advisories, hosts, server
from .problem import visible

Facts = Mapping[str, Any]

MIB = 2**20
SKEW = 5.0
"""Seconds by which clocks may differ: tokens and certificates that are seconds old are not refused yet."""

NAMES = 50_000
"""Files of a release with a large virtualenv, its own included."""

SMALL = 64 * MIB
"""Bytes that a disk has left at least where something is written now and then."""

RENEW = 14
"""Days that a certificate has left when somebody should look: what renews itself does so before."""


class Finding(NamedTuple):
    """What is wrong with a host, and whether a deploy would end by it."""

    subject: str
    text: str
    stops: bool = False


def refusals(found: Facts, inputs: Mapping[str, Any]) -> Iterator[Finding]:
    """What a deploy refuses the host for, by its own checks."""
    for check in hosts.CHECKS:
        if text := check(found, inputs):
            yield Finding(check.__name__, text, stops=True)
    directory = f"/opt/{inputs['gunicorn_fastapi_name']}"
    if text := hosts.room(found, inputs, directory, 0):
        yield Finding("room", text, stops=True)
    if found["busy"]:
        yield Finding("locks", f"{found['busy']} is under way, and a deploy waits for it. Let it end first.")


def sudo(seen: Facts, _inputs: Mapping[str, Any]) -> Iterator[Finding]:
    if seen["uid"]:
        yield Finding(
            "sudo",
            f"tasks run as the user with the number {seen['uid']}, not as root. Set ansible_become: true for the host.",
            stops=True,
        )


def clock(seen: Facts, _inputs: Mapping[str, Any]) -> Iterator[Finding]:
    skew = seen["skew"]
    if abs(skew) > SKEW:
        where = "ahead of" if skew > 0 else "behind"
        yield Finding(
            "clock",
            f"its clock is {abs(skew):.0f} s {where} the controller's, which breaks certificates and tokens. Have it "
            "set: timedatectl set-ntp true",
        )
    elif seen["synchronized"] == "no":
        yield Finding("clock", "nothing keeps its clock right. Have it set: timedatectl set-ntp true")


def manager(seen: Facts, inputs: Mapping[str, Any]) -> Iterator[Finding]:
    """What systemd lacks on this host, beside its version."""
    if seen["manager"] in ("stopping", "offline", "maintenance"):
        yield Finding("systemd", f"systemd is {seen['manager']}: it starts nothing. Reboot the host.", stops=True)
    known = seen["controllers"]
    limits = {"memory": "memory_max", "cpu": "cpu_quota", "pids": "tasks_max"}
    if known is None:
        yield Finding(
            "systemd",
            "it has two hierarchies of control groups, so gunicorn_fastapi_egress cannot be had. Boot it with "
            "systemd.unified_cgroup_hierarchy=1",
        )
        return
    for controller, variable in limits.items():
        if controller not in known and inputs.get(f"gunicorn_fastapi_{variable}"):
            yield Finding(
                "systemd",
                f"{controller} cannot be limited here, so gunicorn_fastapi_{variable} has no effect. Boot with "
                f"cgroup_enable={controller}, or have the controller delegated to the container.",
            )


def apt(seen: Facts, _inputs: Mapping[str, Any]) -> Iterator[Finding]:
    found = seen["apt"]
    if not found["there"]:
        yield Finding("apt", "it has no dpkg, and packages come by apt. Use Debian or Ubuntu.", stops=True)
    if found["interrupted"]:
        yield Finding("apt", "dpkg was interrupted, and refuses to go on. Run: dpkg --configure -a", stops=True)
    if found["holder"]:
        yield Finding("apt", f"{found['holder']} has locked dpkg, and a deploy may have to wait. Let it end first.")
    if found["unknown"]:
        names = ", ".join(found["unknown"])
        yield Finding(
            "apt", f"apt does not know {names}. Run apt update, or add what has them to its sources.", stops=True
        )


def index(seen: Facts, _inputs: Mapping[str, Any]) -> Iterator[Finding]:
    if why := seen["index"]["error"]:
        yield Finding(
            "index",
            f"{seen['index']['url']} cannot be reached: {why}. Open the way there, name another "
            "gunicorn_fastapi_index_url, or bring the packages by gunicorn_fastapi_wheelhouse.",
            stops=True,
        )


def room(seen: Facts, _inputs: Mapping[str, Any]) -> Iterator[Finding]:
    """What is full beside the bytes of the releases' disk."""
    for place, free in seen["room"].items():
        least = NAMES if place == "/opt" else 1000
        if -1 < free["names"] < least:
            yield Finding("room", f"{place} has room for {free['names']} more files. Remove some (df -i {place}).")
        if place != "/opt" and free["bytes"] < SMALL:
            yield Finding("room", f"{place} has {free['bytes'] / MIB:.0f} MiB left. Free disk space (df {place}).")


def umask(seen: Facts, _inputs: Mapping[str, Any]) -> Iterator[Finding]:
    mask = seen["umask"]
    if mask & 0o022 != 0o022:
        yield Finding(
            "umask", f"what root makes can be written by others (umask {mask:04o}). Set 0022 in /etc/login.defs."
        )
    elif mask & 0o055:
        yield Finding(
            "umask",
            f"what root makes is closed to others (umask {mask:04o}). The role sets its modes itself; an interpreter "
            "that you install by hand needs: umask 022",
        )


def memory(seen: Facts, inputs: Mapping[str, Any]) -> Iterator[Finding]:
    """During a handover two generations of workers run side by side."""
    given, each = inputs["gunicorn_fastapi_workers"], inputs["gunicorn_fastapi_worker_memory"] * MIB
    total, available = seen["memory"]["MemTotal"], seen["memory"]["MemAvailable"]
    if not total:
        return
    workers = max(1, min(seen["cpus"], total // 2 // each)) if given == "auto" else int(given)
    serving = seen["status"].get("memory") or 0
    # Those that run are counted as used already.
    needed = max(workers * each, serving) if serving else 2 * workers * each
    if available < needed:
        yield Finding(
            "memory",
            f"{available // MIB} MiB are available, and {'a second' if serving else 'two'} generation"
            f"{'' if serving else 's'} of {workers} workers may take {needed // MIB} MiB during a handover. Give the "
            "host more, or set fewer gunicorn_fastapi_workers.",
        )


def names(seen: Facts, inputs: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether the domains lead to this host, and the authority could ask it."""
    asks = inputs["gunicorn_fastapi_tls"] == "acme"
    for domain, told in seen["domains"].items():
        if told["error"]:
            yield Finding("DNS", f"{domain} cannot be looked up: {told['error']}. Add an A or AAAA record for it.")
        elif not set(told["addresses"]) & set(seen["addresses"]):
            yield Finding(
                "DNS",
                f"{domain} leads to {', '.join(told['addresses'])}, which is no address of this host. Correct its "
                "record, unless a balancer or NAT has that address.",
            )
    for place, why in seen["ports"].items():
        if why:
            needed = "The certificate authority has to reach it: o" if asks else "O"
            yield Finding("ports", f"{place} does not answer the controller: {why}. {needed}pen it in the firewall.")


def certificates(seen: Facts, _inputs: Mapping[str, Any]) -> Iterator[Finding]:
    edge = seen["status"].get("edge") or {}
    for row in edge.get("domains", []):
        days = row["days"]
        if edge["tls"] == "off":
            continue
        if days is None:
            yield Finding("certificates", f"{row['domain']} has none. The reason is in: journalctl -u caddy -p warning")
        elif days < RENEW:
            left = f"expires in {days} days" if days >= 0 else "has expired"
            step = {
                "files": "Put a new one into gunicorn_fastapi_tls_certificate and deploy.",
                "internal": "Deploy, which renews it.",
            }.get(edge["tls"], "The reason is in: journalctl -u caddy -p warning")
            yield Finding("certificates", f"that of {row['domain']} {left}. {step}")
    if edge and edge["caddy"] != "active":
        yield Finding("edge", f"caddy is {edge['caddy'] or 'not there'}. Run: systemctl restart caddy")


def service(seen: Facts, _inputs: Mapping[str, Any]) -> Iterator[Finding]:
    """What the application's own status says."""
    status, name = seen["status"], seen["name"]
    if not status.get("release"):
        return
    if status["incomplete"]:
        yield Finding("release", f"the active release could not start again: {status['incomplete']}. Deploy it again.")
    if not re.search(r" answers 2\d\d in \d+ ms$", str(status["health"])) and not status["maintenance"]:
        yield Finding("health", f"{status['health']}. The reason is in: journalctl -u {name} -p warning")
    if status["trouble"]:
        yield Finding("health", f"{status['trouble']}. The reason is in: journalctl -u {name} -p warning")
    if status["maintenance"]:
        yield Finding("maintenance", f"clients get the page of maintenance. End it by: {name}ctl maintenance off")


def leftovers(seen: Facts, _inputs: Mapping[str, Any]) -> Iterator[Finding]:
    name = seen["name"]
    if seen["status"].get("candidate") and not seen["busy"]:
        yield Finding("leftovers", f"{name}-candidate.service of an interrupted handover runs. Deploy, which ends it.")
    for unit in seen["failed"]:
        yield Finding("leftovers", f"{unit} has failed. See journalctl -u {unit}, then: systemctl reset-failed {unit}")
    if seen["left"]:
        yield Finding(
            "leftovers", f"an interrupted build has left {', '.join(seen['left'])}. The next deploy removes it."
        )


def silent(seen: Facts, _inputs: Mapping[str, Any]) -> Iterator[Finding]:
    """What the control command did not tell: that nothing was found there would be said without looking."""
    for word in seen["silent"]:
        command = f"{seen['name']}ctl {word}"
        yield Finding("control", f"{command} gives no answer, so what it would tell is unknown. Try: sudo {command}")


def versions(seen: Facts, _inputs: Mapping[str, Any]) -> Iterator[Finding]:
    """Packages of the active release with holes that are known here, or by the operator's advisories."""
    told = advisories.vulnerable(seen["packages"], seen["advisories"])
    yield from (Finding("versions", text) for text in told)
    # Of one package, those of the operator are later and more.
    named = {text.partition(" ")[0] for text in told}
    listed = {str(entry.get("name")): str(entry.get("version")) for entry in seen["packages"]}
    try:
        for text in server.vulnerable({name: version for name, version in listed.items() if name not in named}):
            yield Finding("versions", text)
    except InvalidVersion:  # of a package that has no version of the usual form
        return


Check = Callable[[Facts, Mapping[str, Any]], Iterator[Finding]]
CHECKS: tuple[Check, ...] = (
    sudo, clock, manager, apt, index, room, umask, memory, names, certificates, service, leftovers, silent, versions
)  # fmt: skip


def findings(found: Facts, seen: Facts, inputs: Mapping[str, Any]) -> list[Finding]:
    """All that is wrong, what stops a deploy first. `found` is what a deploy looks at, `seen` the rest."""
    told = [*refusals(found, inputs), *(finding for check in CHECKS for finding in check(seen, inputs))]
    return sorted((said(finding) for finding in told), key=lambda finding: not finding.stops)


def unreached(error: str, *, is_connection: bool) -> Finding:
    """Why a host could not be looked at at all."""
    words = " ".join(error.split())[-400:] or "no reason was given"
    if is_connection:
        return said(Finding("reach", f"it cannot be reached: {words}. Try: ansible -m ping, with -vvv", stops=True))
    if re.search(r"(?i)sudo|become|password|privilege|escalat", words):
        step = "Let its user use sudo, and pass a password by --ask-become-pass"
        return said(Finding("sudo", f"root's rights cannot be had: {words}. {step}", stops=True))
    if re.search(r"(?i)interpreter|python\S*: (command )?not found|No such file or directory", words):
        step = "Install it: apt install python3"
        return said(Finding("Python", f"Ansible finds no Python there: {words}. {step}", stops=True))
    return said(Finding("reach", f"it cannot be examined: {words}. Run this again with -vvv", stops=True))


def said(finding: Finding) -> Finding:
    """A finding in one line that is safe to show."""
    return finding._replace(text=visible(" ".join(finding.text.split())))
