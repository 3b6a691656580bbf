"""What systemd knows of a unit."""

import contextlib
import re
from pathlib import Path

from appctl.process import CtlError, run


def show(unit: str, *names: str) -> dict[str, str]:
    """The properties of a unit, as systemctl prints them. A unit that is not there has empty ones."""
    lines = run("systemctl", "show", f"--property={','.join(names)}", unit).split("\n")
    return dict(line.split("=", 1) for line in lines if "=" in line)


def active(unit: str) -> bool:
    """Whether a unit is up or on its way up."""
    return show(unit, "ActiveState")["ActiveState"] in ("active", "activating", "reloading")


def children(pid: int) -> set[int]:
    """Process ids of a process's children."""
    with contextlib.suppress(OSError):
        return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    return set()


def exposure(*unit: str) -> float:
    """What systemd thinks of a unit's sandbox, from 0, the best, to 10."""
    text = run("systemd-analyze", "security", "--no-pager", *unit)
    match = re.search(r"Overall exposure level for \S+: (\d+\.\d)", text)
    if not match:
        raise CtlError(f"systemd-analyze security {' '.join(unit)} told no exposure level")
    return float(match.group(1))
