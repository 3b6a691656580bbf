"""What systemd knows of a unit, and its processes."""

import contextlib
import os
import re
import select
import signal
from collections.abc import Iterator
from pathlib import Path

from appctl.disk import read_bounded
from appctl.process import CtlError, run

CGROUPS = Path("/sys/fs/cgroup")

UP = ("active", "activating", "reloading")
"""States of a unit that is up or on its way up."""

SERVING = ("active", "reloading")
"""States in which it serves. An application can say by itself that it reloads, or stops."""

TEXTS = ("StatusText", "Description")
"""Properties that somebody else than systemd has written."""


def enable(unit: str) -> None:
    """Have a unit started at boot, also at one after a loss of power a moment later. Raises CtlError."""
    run("systemctl", "enable", unit)
    run("sync", "--file-system", "/etc/systemd/system", timeout=600)


def show(unit: str, *names: str) -> dict[str, str]:
    """These properties of a unit. They are empty where the unit or this systemd has none.

    What others have written is asked for by itself, so that it can never be taken for another property.
    Raises CtlError when systemd cannot be asked.
    """
    own = [name for name in names if name not in TEXTS]
    properties = dict.fromkeys(names, "")
    if own:
        # systemctl prints no newline in a value. Python's splitlines() would split at other characters too.
        for line in run("systemctl", "show", f"--property={','.join(own)}", "--", unit).split("\n"):
            name, equals, value = line.partition("=")
            if equals and name in own:
                properties[name] = value
    for name in set(names).intersection(TEXTS):
        properties[name] = run("systemctl", "show", f"--property={name}", "--value", "--", unit).removesuffix("\n")
    return properties


def number(text: str) -> int:
    """A property that is a number. 0 when it is none, or not one yet."""
    return int(text) if re.fullmatch(r"[0-9]{1,20}", text) else 0


def active(unit: str) -> bool:
    """Whether a unit is up or on its way up."""
    return show(unit, "ActiveState")["ActiveState"] in UP


def serves(unit: str) -> bool:
    """Whether a unit is up, and neither on its way up nor down."""
    return show(unit, "ActiveState")["ActiveState"] in SERVING


def exposure(*unit: str) -> float:
    """What systemd thinks of a unit's sandbox, from 0, the best, to 10."""
    text = run("systemd-analyze", "security", "--no-pager", *unit)
    match = re.search(r"Overall exposure level for [^\s:]{1,300}: (\d{1,2}\.\d)", text)
    if not match:
        raise CtlError(f"systemd-analyze security {' '.join(unit)} reported no exposure level")
    return float(match.group(1))


class Process:
    """A process by a descriptor: a signal never reaches another one that has got its number."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self.descriptor = descriptor

    def has_ended(self) -> bool:
        """Whether it has ended, waited for or not."""
        return bool(select.select([self.descriptor], [], [], 0)[0])

    def signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.descriptor, number)


@contextlib.contextmanager
def process(pid: int, group: str = "") -> Iterator[Process]:
    """A process for as long as the block lasts. Raises ProcessLookupError when there is none.

    So it does when the process is not one of the control group `group`, if that is given: a number that anyone
    can tell systemd or us is believed only as the unit's own.
    """
    if pid <= 1:
        raise ProcessLookupError(f"process {pid} is no unit's")
    descriptor = os.pidfd_open(pid)
    try:
        opened = Process(pid, descriptor)
        # In this order: as long as it has not ended, its number has not gone to another.
        if (group and not belongs(control_group(pid), group)) or opened.has_ended():
            raise ProcessLookupError(f"process {pid} has ended, or is not one of {group}")
        yield opened
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def main_process(unit: str) -> Iterator[Process]:
    """The main process of a unit. Raises ProcessLookupError when it has none, or one that is not its own."""
    properties = show(unit, "MainPID", "ControlGroup")
    if not properties["ControlGroup"].strip("/"):
        raise ProcessLookupError(f"{unit} has no processes")
    with process(number(properties["MainPID"]), properties["ControlGroup"]) as main:
        yield main


def control_group(pid: int | str) -> str:
    """The control group of a process, as systemd names it. Empty when it has ended."""
    with contextlib.suppress(OSError):
        return group_in(read_bounded(Path(f"/proc/{pid}/cgroup"), 65536).decode(errors="replace"))
    return ""


def group_in(text: str) -> str:
    """The control group of systemd's in a /proc/PID/cgroup. Where there are two hierarchies, one has nothing in it."""
    found = ""
    for line in text.split("\n"):
        hierarchy, _, path = line.partition(":")[2].partition(":")
        if hierarchy in ("", "name=systemd") and len(path) > len(found):
            found = path
    return found


def belongs(group: str, parent: str) -> bool:
    """Whether a control group is another one or beneath it."""
    return bool(group) and f"{group}/".startswith(f"{parent.rstrip('/')}/")


def processes(unit: str) -> set[int]:
    """Process ids of all processes of a unit. A process cannot leave its unit, nor enter another."""
    group = show(unit, "ControlGroup")["ControlGroup"].strip("/")
    found: set[int] = set()
    if group:
        for path in (CGROUPS / group).rglob("cgroup.procs"):
            with contextlib.suppress(OSError):  # it has just ended
                found |= {int(word) for word in read_bounded(path, 1 << 20).split()}
    return found


def children(pid: int) -> set[int]:
    """Process ids of a process's children; of one that has ended there are none."""
    with contextlib.suppress(OSError):
        words = read_bounded(Path(f"/proc/{pid}/task/{pid}/children"), 1 << 20).split()
        return {int(word) for word in words if word.isdigit()}
    return set()
