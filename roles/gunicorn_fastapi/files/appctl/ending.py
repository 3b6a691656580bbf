"""How the program of a unit that does not serve has ended, as systemd saw it."""

import signal
import time
from typing import NamedTuple

from appctl import systemd
from appctl.process import CtlError

TIMED_OUT = 124
"""The status of what did not end in time, as timeout(1) has it."""

NOTICED = 15.0
"""Seconds in which systemd has noticed that a process has ended."""


class Ending(NamedTuple):
    """A status as a shell has it, and the same in words."""

    status: int
    words: str


UNKNOWN = Ending(1, "unknown, systemd has forgotten it")


def of(unit: str) -> Ending:
    """The end of a unit's program, which has to be over."""
    found = systemd.show(unit, "Result", "ExecMainCode", "ExecMainStatus")
    status = systemd.number(found["ExecMainStatus"])
    if found["ExecMainCode"] in ("", "0"):
        return UNKNOWN
    if found["Result"] == "timeout":
        return Ending(TIMED_OUT, "timed out")
    if found["ExecMainCode"] != "1":  # CLD_EXITED
        status += 128
    if 128 < status <= 128 + signal.NSIG - 1:  # as a shell says it; 255 is a program's own
        return Ending(status, f"killed by signal {status - 128}")
    return Ending(min(status, 255), f"exit status {status}" if status else "done")


def awaited(unit: str) -> Ending:
    """The same of a unit whose main process has just ended. Raises CtlError when systemd does not notice."""
    deadline = time.monotonic() + NOTICED
    while systemd.show(unit, "SubState")["SubState"] not in ("exited", "failed", "dead"):
        if time.monotonic() >= deadline:
            raise CtlError(f"{unit} has ended, and systemd does not notice. Look at it: systemctl status {unit}")
        time.sleep(0.05)
    return of(unit)
