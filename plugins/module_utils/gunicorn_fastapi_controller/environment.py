"""The application's variables, as the file that a shell reads before it becomes the application."""

from __future__ import annotations

import json
import re
from typing import Any

HEAD = "# Ansible managed\n# Variables of the application, for a shell.\n"

RESERVED = re.compile(
    r"GUNICORN_FASTAPI_.*|LISTEN_.*|NOTIFY_SOCKET|CREDENTIALS_DIRECTORY|MAINPID|INVOCATION_ID|JOURNAL_STREAM|WATCHDOG_.*"
)
"""What systemd and the role themselves tell the application."""


def value(given: Any) -> str:
    """A value as the application gets it: texts as they are, everything else as JSON, which pydantic-settings reads."""
    return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)


def quoted(text: str) -> str:
    """A text that a shell takes for itself, byte for byte."""
    return "'" + text.replace("'", "'\\''") + "'"


def rendered(values: dict[str, Any]) -> str:
    """The file. A variable whose value is null is left out."""
    lines = [f"{name}={quoted(value(given))}\n" for name, given in sorted(values.items()) if given is not None]
    return HEAD + "".join(lines)
