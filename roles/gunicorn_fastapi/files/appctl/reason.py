"""Which of an application's words tell why it failed."""

import contextlib
import json
import re
from typing import Any

from appctl.journal import entries

LEVELS = {"2": "CRITICAL", "3": "ERROR", "4": "WARNING", "6": "INFO", "7": "DEBUG"}
"""Names of the journal's priorities, as Python's logging has them."""


def readable(entry: dict[str, Any]) -> str:
    """A record as the format "plain" has it, whatever its own is; without the time, when it is in another."""
    message = entry.get("MESSAGE") or ""
    text = message if isinstance(message, str) else bytes(message).decode(errors="replace")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        line = json.loads(text)
        said = f"{line['level']} - {line['logger']} - {line['message']}"
        return f"{said}\n{line['exception']}" if "exception" in line else said
    logger = entry.get("LOGGER")
    if logger and f" - {logger} - " not in text.partition("\n")[0]:
        return f"{LEVELS.get(entry['PRIORITY'], 'NOTICE')} - {logger} - {text}"
    return text


def last_words(match: str, since: float = 0) -> list[str]:
    """The lines of the records that match FIELD=VALUE, since a time (of the epoch), of at most the latest 200."""
    latest = entries(match, "--lines=200", f"--since=@{since:.6f}")
    return [line for entry in latest for line in readable(entry).splitlines()]


def reason_in(lines: list[str]) -> str:
    """The line that tells most: an exception's last one, the last warning or error, or else the last print.

    Where gunicorn refuses one of its settings, the line before the exception is the one that names it.

    What gunicorn says when it ends because of a worker is no reason: the worker has told.
    """
    consequence = (
        r"gunicorn\.errors\.HaltServer|(.* - )?CRITICAL - root - Uncaught exception"
        r"|.* gunicorn\.error - (Shutting down|Reason|Workers have died|Worker \(pid:\d+\) exited)"
    )
    lines = [line for line in lines if not re.match(consequence, line)]
    exception = r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt|Fault)\b"
    setting = r"Invalid value for \w+: "
    for pattern in (
        setting,
        exception,
        r"(.* - )?(WARNING|ERROR|CRITICAL) - ",
        r"(?!\s|Traceback|During|(\S+ \S+ - )?[A-Z]+ - ).",
    ):
        for line in reversed(lines):
            if re.match(pattern, line):
                return line
    return lines[-1] if lines else ""


def sandbox_hint(reason: str) -> str:
    """What to know about a reason that may be the sandbox's doing, in brackets. Empty when it is not."""
    if "SIGSYS" in reason:
        return " (killed for a forbidden system call; the kernel's audit has its number: journalctl --grep=type=1326)"
    # EPERM, EACCES, EROFS, EAFNOSUPPORT: what the sandbox answers, though not it alone.
    if re.search(r"\[Errno (1|13|30|97)\]", reason):
        return " (maybe the sandbox denies that; the traceback says which call or path it was)"
    return ""
