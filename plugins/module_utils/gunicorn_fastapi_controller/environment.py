"""The application's variables, as the file that a shell reads before it becomes the application."""

from __future__ import annotations

import datetime
import json
import re
from typing import Any

HEAD = "# Ansible managed\n# Variables of the application, for a shell.\n"

RESERVED = re.compile(
    r"GUNICORN_FASTAPI_.*|LISTEN_.*|NOTIFY_SOCKET|CREDENTIALS_DIRECTORY|MAINPID|INVOCATION_ID|JOURNAL_STREAM|WATCHDOG_.*"
)
"""What systemd and the role themselves tell the application."""


def value(given: Any) -> str:
    """A value as the application gets it: texts as they are, everything else as JSON, which pydantic-settings reads.

    YAML's dates are texts. Raises TypeError for what JSON has no form for, such as bytes.
    """
    if isinstance(given, datetime.date):  # and datetime, which is one
        return given.isoformat()
    return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False, default=dated)


def dated(given: object) -> str:
    """A date in a list or a mapping."""
    if isinstance(given, datetime.date):
        return given.isoformat()
    raise TypeError(f"{type(given).__name__} has no form in JSON")


def has_no_form(given: object) -> bool:
    """Whether a value cannot be given to the application."""
    try:
        value(given)
    except (TypeError, ValueError, RecursionError):
        return True
    return False


def quoted(text: str) -> str:
    """A text that a shell takes for itself, byte for byte."""
    return "'" + text.replace("'", "'\\''") + "'"


def rendered(values: dict[str, Any]) -> str:
    """The file. A variable whose value is null is left out."""
    lines = [f"{name}={quoted(value(given))}\n" for name, given in sorted(values.items()) if given is not None]
    return HEAD + "".join(lines)
