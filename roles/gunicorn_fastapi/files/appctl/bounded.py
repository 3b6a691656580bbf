"""Starts and stops that have an end of root's own, whatever the application asks systemd for."""

import contextlib
import re

from appctl import releases, systemd, talk
from appctl.app import App
from appctl.process import CtlError, LateError, run

LONGEST = 3600.0
"""Seconds to wait for a unit whose own times are without an end, by a drop-in of the operator's."""

MARGIN = 15.0
"""Seconds beside the unit's own times."""

UNITS = {"y": 31557600.0, "month": 2629800.0, "w": 604800.0, "d": 86400.0, "h": 3600.0, "min": 60.0, "s": 1.0,
         "ms": 1e-3, "us": 1e-6}  # fmt: skip
"""What systemctl calls seconds, and times of other lengths."""


def seconds(text: str) -> float:
    """A length of time as systemctl prints it, such as "1min 30s". LONGEST for "infinity", and for what is none."""
    words = text.split()
    found = [re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)([a-z]{1,5})", word) for word in words]
    lengths = [float(match[1]) * UNITS[match[2]] for match in found if match and match[2] in UNITS]
    return sum(lengths) if words and len(lengths) == len(words) else LONGEST


def patience(*units: str) -> float:
    """Seconds in which units have stopped and started, by their own times.

    Two stops: a start that fails is followed by one.
    """
    longest = 0.0
    for unit in units:
        if unit.endswith(".service"):
            times = systemd.show(unit, "TimeoutStartUSec", "TimeoutStopUSec")
            longest = max(longest, seconds(times["TimeoutStartUSec"]) + 2 * seconds(times["TimeoutStopUSec"]))
    return longest + MARGIN


def change(verb: str, *units: str, options: tuple[str, ...] = (), check: bool = True) -> None:
    """Have systemd start, restart or stop units, and wait until it has.

    A service can prolong its stop without an end (STOPPING=1, then EXTEND_TIMEOUT_USEC=). What takes longer than
    its unit says is killed, and said; then systemd goes on. Raises CtlError when that fails, or takes as long again.
    """
    longest = patience(*units)
    try:
        run("systemctl", *options, verb, *units, check=check, timeout=longest)
    except LateError:
        services = [unit for unit in units if unit.endswith(".service")]
        kill(services, verb, longest)
        # The job of the restart goes on. Another one would end what it has started.
        again = "start" if verb == "restart" else verb
        try:
            run("systemctl", *options, again, *units, check=check, timeout=longest)
        except LateError:
            kill(services, verb, longest)
            raise


def kill(services: list[str], verb: str, longest: float) -> None:
    """Kill all processes of services, and say so."""
    for unit in services:
        with contextlib.suppress(CtlError):  # it has none, or systemd does not answer: the next question will tell
            run("systemctl", "kill", "--signal=KILL", "--", unit)
        app = App.of_unit(unit)
        told = f"{unit}: the {verb} took more than {longest:g} s, longer than the unit allows, so it was killed"
        talk.say(app, told, releases.current(app), error=True)
