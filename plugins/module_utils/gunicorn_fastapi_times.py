"""Whether times of timers are times for the systemd of this host."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from typing import Any


def untimely(timers: Mapping[str, Any], run: Callable[[list[str]], tuple[int, str, str]]) -> dict[str, dict[str, str]]:
    """The times that are none, or never come, by timer, and why."""
    found: dict[str, dict[str, str]] = {}
    for timer, one in timers.items():
        for text in one["on_calendar"] if shutil.which("systemd-analyze") else []:
            status, output, errors = run(["systemd-analyze", "calendar", "--", text])
            if status:
                lines = errors.strip().splitlines()
                found.setdefault(timer, {})[text] = f"is no time for systemd: {lines[-1] if lines else status}"
            elif re.search(r"^ *Next elapse: never$", output, re.MULTILINE):
                found.setdefault(timer, {})[text] = "never comes again"
    return found
