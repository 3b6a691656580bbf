"""Programs that root starts, but not as root: each in a unit of its own that can do next to nothing."""

import contextlib
import grp
import pwd
import re
from collections.abc import Sequence
from pathlib import Path

from appctl import disk
from appctl.process import CtlError, finish, run

CONFINED = (
    "DynamicUser=yes",
    "CapabilityBoundingSet=",
    "InaccessiblePaths=-/run/dbus",
    # A file may have holes, and would be copied with what is in them.
    "LimitFSIZE=16G",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    # Of all on the host it is the one to go where there is no more memory: it can be tried again.
    "OOMScoreAdjust=1000",
    "PrivateDevices=yes",
    "PrivateIPC=yes",
    "ProcSubset=pid",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "ProtectSystem=strict",
    "ReadOnlyPaths=/run",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "SystemCallArchitectures=native",
    "SystemCallErrorNumber=EPERM",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@aio @keyring @privileged @resources",
    "UMask=0022",
)
"""A user that exists for as long as the unit, private temporary directories, no privilege and no way to one."""

PROTECTS = re.compile(
    r"(CapabilityBoundingSet|InaccessiblePaths|LockPersonality|MemoryDenyWriteExecute|NoNewPrivileges|NoExecPaths"
    r"|ExecPaths|ProcSubset|ProtectHome|ProtectProc|ProtectSystem|ReadOnlyPaths|RestrictNamespaces|SystemCall\w+)=.*"
)
"""Lines of a unit that can keep a program from running, as far as systemd-run takes them on every version."""


def of_unit(*texts: str) -> list[str]:
    """What keeps programs of a unit from running, by its text and those of its drop-ins, as properties of another."""
    lines = [line.strip() for text in texts for line in text.split("\n")]
    return [line for line in lines if PROTECTS.fullmatch(line)]


def confined(
    unit: str,
    command: Sequence[str],
    properties: Sequence[str],
    stdin: str = "",
    most: float = 60,
    disks: Sequence[Path] = (),
) -> tuple[int, str, str]:
    """Run a command as a unit and give its exit status, output and error output once all its processes are gone.

    systemd kills it after `most` seconds. What a run that was killed has left behind under this name goes before.
    Raises CtlError, and has killed it, when it prints without an end, or leaves hardly any room on one of the `disks`;
    and where the host has the name of a dynamic user already: systemd would take that one, and its groups.
    """

    def watch() -> None:
        for place in disks:
            disk.spare(place, unit)

    stop(unit)
    if "DynamicUser=yes" in properties:
        free(unit.removesuffix(".service"))
    try:
        return finish(words(unit, command, properties, most), most + 60, stdin, watch=watch)
    except CtlError:
        stop(unit)  # what was killed so far is systemd-run alone
        raise


def words(unit: str, command: Sequence[str], properties: Sequence[str], most: float) -> tuple[str, ...]:
    """What runs a command as a unit, with the files of who starts it, until its end or for `most` seconds."""
    return (
        "systemd-run", "--quiet", "--collect", "--wait", "--pipe", "--service-type=exec", f"--unit={unit}",
        *(f"--property={line}" for line in [*properties, f"RuntimeMaxSec={most:g}", "TimeoutStopSec=5"]),
        *command,
    )  # fmt: skip


def free(name: str) -> None:
    """Raise CtlError when there is a user or a group of this name."""
    for kind, find in (("user", pwd.getpwnam), ("group", grp.getgrnam)):
        with contextlib.suppress(KeyError):
            find(name)
            raise CtlError(f"the host has a {kind} {name}, with whose rights packages would be built. Rename it")


def stop(unit: str) -> None:
    """Kill a unit with all its processes, if it is there, and forget it."""
    state = run("systemctl", "show", "--property=ActiveState", "--value", unit).strip()
    if state == "inactive":
        return
    run("systemctl", "kill", "--signal=KILL", unit, check=False)
    run("systemctl", "stop", unit, check=False)
    run("systemctl", "reset-failed", unit, check=False)
    state = run("systemctl", "show", "--property=ActiveState", "--value", unit).strip()
    if state not in ("inactive", "failed"):
        raise CtlError(f"{unit} is {state} and cannot be stopped. Look for its processes: systemctl status {unit}")
