"""What is wrong with a host, each check a function of what was found there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import pythons
from .problem import visible

Found = Mapping[str, Any]

# The oldest that the units and the control command have been seen to work with.
SYSTEMD_LEAST = 252
PYTHON_LEAST = (3, 11)
# Bytes of a virtualenv of usual size.
VIRTUALENV_SIZE = 300 * 1024 * 1024


def init(found: Found, _inputs: Mapping[str, Any]) -> str:
    if found["init"] == "systemd":
        return ""
    return (
        f"process 1 is {found['init']}, not systemd, and the service is made of systemd's units. In a container, start "
        "its init (/sbin/init)."
    )


def systemd(found: Found, _inputs: Mapping[str, Any]) -> str:
    if found["systemd"] >= SYSTEMD_LEAST:
        return ""
    if not found["systemd"]:
        return (
            "systemctl does not report its version, so it is missing or hangs. Try systemctl --version on the host; "
            f"{SYSTEMD_LEAST} or newer is needed."
        )
    return (
        f"systemd {found['systemd']} of {found['system']} is older than {SYSTEMD_LEAST}. Debian 12, Ubuntu 24.04 and "
        "later have it."
    )


def python(found: Found, inputs: Mapping[str, Any]) -> str:
    numbers = [int(part) for part in found["python"].split(".")[:2] if part.isdigit()]
    if tuple(numbers) >= PYTHON_LEAST:
        return ""
    least = ".".join(map(str, PYTHON_LEAST))
    if not found["python"] and found.get("python_path"):
        return (
            f"gunicorn_fastapi_python: {found['python_path']} does not run for an unprivileged user, so it cannot run "
            f"the application either: {found['python_why']}. Install one that every user may execute, such as "
            "below /usr/local or /opt."
        )
    if pythons.VERSION.fullmatch(inputs["gunicorn_fastapi_python"]) and not found["python"]:
        version, mirror = inputs["gunicorn_fastapi_python"], inputs["gunicorn_fastapi_python_mirror"]
        why = pythons.lacking(version, mirror, found["machine"], found["pythons"])
        return (
            f"gunicorn_fastapi_python: the host has no Python {version}, apt knows no package of it, and {why}, or set "
            "another interpreter."
        )
    is_ = f"is {found['python']}" if found["python"] else "was not found"
    return (
        f"gunicorn_fastapi_python: {inputs['gunicorn_fastapi_python']} {is_}; {least} or later is required. "
        "Install it, or set another interpreter."
    )


def name(found: Found, _inputs: Mapping[str, Any]) -> str:
    return f"gunicorn_fastapi_name: {found['refusal']}." if found["refusal"] else ""


def bind(found: Found, _inputs: Mapping[str, Any]) -> str:
    told = [f"{holder['address']} {holder['by']}." for holder in found["holders"]]
    return f"gunicorn_fastapi_bind: {' '.join(told)} Stop that, or choose another address." if told else ""


def domains(found: Found, inputs: Mapping[str, Any]) -> str:
    """Whether the domains are free here, and Caddy is nobody else's."""
    wanted = inputs["gunicorn_fastapi_domains"]
    owners = found["edge"]["owners"]
    taken = [f"{name} belongs to {owners[name]}" for name in wanted if owners.get(name, inputs["gunicorn_fastapi_name"])
             != inputs["gunicorn_fastapi_name"]]  # fmt: skip
    if taken:
        return f"gunicorn_fastapi_domains: {', '.join(taken)} on this host. Remove it there first, or here."
    if wanted and found["edge"]["foreign"]:
        return (
            "gunicorn_fastapi_domains: caddy.service is in use here and was not set up by this role. Leave it to the "
            "role (systemctl disable --now caddy), or use it as a proxy of your own (docs/behind-a-proxy.md)."
        )
    return ""


def timers(found: Found, _inputs: Mapping[str, Any]) -> str:
    """Whether their times are times for this host's systemd, and nobody else has units of their names."""
    if found["taken"]:
        return (
            f"gunicorn_fastapi_timers: {', '.join(found['taken'])} is there, and this role did not make it. Remove it, "
            "or choose another name for the timer."
        )
    told = [
        f"{timer}: on_calendar: {text} {why} (systemd-analyze calendar '{text}')."
        for timer, times in found["timers"].items()
        for text, why in times.items()
    ]
    return f"gunicorn_fastapi_timers: {' '.join(told)} Correct it, nothing has changed." if told else ""


def noexec(found: Found, inputs: Mapping[str, Any]) -> str:
    if not found["noexec"]:
        return ""
    return (
        f"{found['noexec']}, which has /opt/{inputs['gunicorn_fastapi_name']}, is mounted noexec, and releases are "
        f"executed from there. Have it mounted exec (mount -o remount,exec {found['noexec']}, and in /etc/fstab)."
    )


def egress(found: Found, _inputs: Mapping[str, Any]) -> str:
    if found["filters"]:
        return ""
    return (
        "gunicorn_fastapi_egress: systemd cannot filter addresses here (it takes cgroup v2 and a kernel with BPF), so "
        'the application could connect to anything. Use "any", or [] for no network.'
    )


Check = Callable[[Found, Mapping[str, Any]], str]
CHECKS: tuple[Check, ...] = (init, systemd, python, name, bind, domains, noexec, egress, timers)


def problems(found: Found, inputs: Mapping[str, Any]) -> list[str]:
    """All that keeps the host from running the application."""
    return [visible(problem) for check in CHECKS if (problem := check(found, inputs))]


def room(found: Found, inputs: Mapping[str, Any], directory: str, size: int) -> str:
    """Whether a release can be put on the disk: its source twice, and a virtualenv."""
    if found["read_only"]:
        places = ", ".join(map(visible, found["read_only"]))
        return (
            f"{places} is mounted read-only, and a deploy writes there. Have it mounted writable "
            f"(mount -o remount,rw {visible(found['read_only'][0])}); the kernel's log says whether a disk has failed."
        )
    needed = 2 * size + VIRTUALENV_SIZE
    if found["free"] >= needed:
        return ""
    return (
        f"{directory} has {found['free'] / 2**20:.2f} MB left and a release may need {needed / 2**20:.2f} MB. "
        "Free disk space; a lower gunicorn_fastapi_keep_releases "
        f"(now {inputs['gunicorn_fastapi_keep_releases']}) frees some at the next deploy."
    )
