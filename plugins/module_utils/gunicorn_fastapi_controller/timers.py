"""What is wrong with the timers of an application, and the same with all that is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .inputs import matches, shown, to_bool
from .processes import TAKEN, is_command, number

VARIABLE = "gunicorn_fastapi_timers"

DEFAULTS: dict[str, Any] = {
    "timeout": 3600,
    "persistent": False,
    "spread": 0,
    "on_failure": "",
    "hosts": "all",
}

# A week.
LONGEST = 7 * 86400

EXAMPLE = 'Write it as systemd does, such as "*-*-* 03:00:00", "Mon 04:30" or "hourly".'


def times(value: object) -> list[str]:
    """The times of a timer, one or several. Whatever is no text is none."""
    given = value if isinstance(value, (list, tuple)) else [value]
    return [text.strip() if isinstance(text, str) else "" for text in given]


def is_calendar(text: str) -> bool:
    """Whether a text has the form of a time for systemd; whether it is one, the host says."""
    return len(text) <= 200 and matches(r"[A-Za-z0-9*][A-Za-z0-9*:,./~_+ -]*", text)


def is_bool(value: object) -> bool:
    """Whether it is true or false, also as a word."""
    try:
        to_bool(value)
    except KeyError:
        return False
    return True


def wrong_with(name: str, timer: object, processes: Mapping[str, Any]) -> str:
    """What is wrong with one timer; its commands, which may hold secrets, are not repeated."""
    if not matches(r"[a-z][a-z0-9_]{0,30}", name):
        return (
            f"{shown(name)}: it becomes a part of a unit's name. Choose another name of small letters, digits and _, "
            "such as night."
        )
    if name in TAKEN or name in processes:
        whose = "a process of gunicorn_fastapi_processes" if name in processes else "something of the role's own"
        return f"{name}: {whose} is called so. Choose another name, such as {name}_job."
    if not isinstance(timer, Mapping):
        return f"{name} is not a mapping. Write it as {name}: {{command: ..., on_calendar: ...}}."
    unknown = sorted(str(key) for key in timer if key not in ("command", "on_calendar", *DEFAULTS))
    if unknown:
        return f"{name}: {unknown[0]} is unknown. There are command, on_calendar, {', '.join(DEFAULTS)}."
    if not is_command(timer.get("command")):
        return f"{name}: it has no command. Give a text for a shell, or a list of words."
    calendar = times(timer.get("on_calendar", ""))
    if bad := [text for text in calendar if not is_calendar(text)] or ([""] if not calendar else []):
        what = f"{shown(bad[0])} is no time" if bad[0] else "it has no time"
        return f"{name}: on_calendar: {what}. {EXAMPLE}"
    full = {**DEFAULTS, **timer}
    wrong = {
        "timeout": not number(full["timeout"], 1, LONGEST),
        "persistent": not is_bool(full["persistent"]),
        "spread": not number(full["spread"], 0, LONGEST),
        "on_failure": bool(full["on_failure"]) and not is_command(full["on_failure"]),
        "hosts": not isinstance(full["hosts"], str) or not full["hosts"],
    }
    allowed = {
        "timeout": f"seconds from 1 to {LONGEST}",
        "persistent": "true, when a time that was missed is caught up, or false",
        "spread": f"seconds up to {LONGEST}, over which the hosts are spread",
        "on_failure": "a text for a shell, or a list of words",
        "hosts": "all, first, one, a group or host of the inventory, first:GROUP or one:GROUP",
    }
    return next((f"{name}: {key} has to be {allowed[key]}." for key, is_wrong in wrong.items() if is_wrong), "")


def timers(inputs: Mapping[str, Any]) -> str:
    """The first thing that is wrong with any of them."""
    beside = inputs.get("gunicorn_fastapi_processes", {})
    problems = (wrong_with(name, timer, beside) for name, timer in inputs[VARIABLE].items())
    return next((f"{VARIABLE}: {problem}" for problem in problems if problem), "")


def whole(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The timers, with all that was left out. Nothing is wrong with them."""
    return {
        name: {
            **DEFAULTS,
            **timer,
            "on_calendar": times(timer["on_calendar"]),
            "timeout": int(timer.get("timeout", DEFAULTS["timeout"])),
            "spread": int(timer.get("spread", DEFAULTS["spread"])),
            "persistent": to_bool(timer.get("persistent", DEFAULTS["persistent"])),
        }
        for name, timer in found.items()
    }
