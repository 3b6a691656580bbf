"""The application's variables, as the file that a shell reads before it becomes the application."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from typing import Any

from .inputs import matches, shown

HEAD = "# Ansible managed\n# Variables of the application, for a shell.\n"

RESERVED = re.compile(
    r"GUNICORN_FASTAPI_.*|LISTEN_.*|NOTIFY_SOCKET|CREDENTIALS_DIRECTORY|MAINPID|INVOCATION_ID|JOURNAL_STREAM|WATCHDOG_.*"
)
"""What systemd and the role themselves tell the application."""

LONGEST = 128 * 1024
"""Bytes from which on Linux starts no program with a variable (MAX_ARG_STRLEN)."""


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


def wrong(variable: str, values: Mapping[str, Any]) -> str:
    """What is wrong with the variables that one of the role's has. Names them, never their values."""
    if bad := [name for name in values if not matches(r"[A-Za-z_][A-Za-z0-9_]*", name)]:
        why = "is not a valid variable name. Use letters, digits and _."
    elif bad := [name for name in values if RESERVED.fullmatch(name)]:
        why = "is set by systemd or the role for the application. Choose another name."
    elif bad := [name for name in ("GUNICORN_CMD_ARGS",) if values.get(name) is not None]:
        return (
            f"{variable}: GUNICORN_CMD_ARGS would override the role's gunicorn settings. Set "
            "gunicorn_fastapi_gunicorn_settings instead."
        )
    elif bad := [name for name, given in values.items() if has_no_form(given)]:
        return (
            f"{variable}: the value of {', '.join(map(shown, bad))} is neither a text, a number, true, false, a date, "
            "a list nor a mapping. Put quotes around it."
        )
    elif bad := [name for name, given in values.items() if "\0" in value(given)]:
        why = "contains a NUL byte, which no variable can hold. Remove it."
    elif bad := [name for name, given in values.items() if len(f"{name}={value(given)}".encode()) >= LONGEST]:
        why = "is longer than a variable can be, 128 KiB. Give it as a file, by gunicorn_fastapi_credentials."
    else:
        return ""
    return f"{variable}: {', '.join(map(shown, bad))} {why}"


def quoted(text: str) -> str:
    """A text that a shell takes for itself, byte for byte."""
    return "'" + text.replace("'", "'\\''") + "'"


def rendered(values: dict[str, Any]) -> str:
    """The file. A variable whose value is null is left out."""
    lines = [f"{name}={quoted(value(given))}\n" for name, given in sorted(values.items()) if given is not None]
    return HEAD + "".join(lines)
