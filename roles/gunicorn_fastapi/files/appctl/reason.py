"""Which of an application's words tell why it failed. They are shown; nothing is ever decided by them."""

import json
import re
from collections.abc import Sequence

from appctl.journal import Record, entries

LEVELS = {"0": "CRITICAL", "1": "CRITICAL", "2": "CRITICAL", "3": "ERROR", "4": "WARNING", "6": "INFO", "7": "DEBUG"}
"""Names of the journal's priorities, as Python's logging has them."""

NAMES = (
    ("level", "levelname", "severity"),
    ("logger", "name"),
    ("message", "msg", "event"),
    ("exception", "exc_info"),
)
"""Where records in JSON have their level, logger, message and traceback; the first names are those of ours."""

LINES = 2000
LONG = 2000
"""Lines that are looked at, the latest ones, and characters of each."""

# What a line begins with that is no reason, in the formats that people use: "2026-11-25 10:00:00,123 - INFO - ",
# "INFO:     ", "[2026-11-25 10:00:00 +0000] [7] [INFO] ", "2026-11-25 | INFO | ", "2026-11-25T10:00:00Z [info     ] ".
STAMP = r"[0-9TZ:.,+/ \[\]|()-]{0,60}([\w.-]{1,60} - )?\[?"
FINE = re.compile(
    STAMP + r"(TRACE|DEBUG|INFO|NOTICE|SUCCESS|trace|debug|info|notice|success) {0,12}( - |[\]:|])"
    r"|.{0,80}\b(level|severity|lvl)=\"?(trace|debug|info|notice)\b",
    re.ASCII,
)
COLOUR = re.compile(r"\x1b\[[0-9;]{0,16}m")
ACCESS = re.compile(r'.{0,200}"[A-Z]{1,16} \S{1,4096} HTTP/\d\.\d" [1-4]\d\d\b')

# What gunicorn says when it ends because of a worker is no reason: the worker has told.
CONSEQUENCE = re.compile(
    r"gunicorn\.errors\.HaltServer|(.* - )?CRITICAL - root - Uncaught exception"
    r"|.* gunicorn\.error - (Shutting down|Reason|Workers have crashed|Worker \(pid:\d+\) exited)"
)
SETTING = re.compile(r"Invalid value for \w+: ")
EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt|Fault)\b")
WARNING = re.compile(
    r"(.* - )?(WARNING|ERROR|CRITICAL) - "
    rf"|{STAMP}(WARNING|ERROR|CRITICAL|FATAL|warning|error|critical) {{0,12}}[\]:|]"
    r"|.{0,80}\b(level|severity|lvl)=\"?(warn|warning|error|critical|fatal)\b",
    re.ASCII,
)
PRINT = re.compile(r"(?!\s|Traceback|During|(\S+ \S+ - )?[A-Z]+ - ).")


def readable(entry: Record) -> str:
    """A record as the format "plain" has it, whatever its own is; without the time, when it is in another."""
    text = entry.get("MESSAGE", "")
    if line := parsed(text):
        level, logger, message, exception = (said(line, *names) for names in NAMES)
        if level and message:
            return "\n".join([f"{level.upper()} - {logger or '-'} - {message}", *([exception] if exception else [])])
    logger = entry.get("LOGGER", "")
    if logger and f" - {logger} - " not in text.partition("\n")[0]:
        return f"{LEVELS.get(entry.get('PRIORITY', ''), 'NOTICE')} - {logger} - {text}"
    return text


def said(line: dict[str, object], *names: str) -> str:
    """The first text that an object has under one of these names."""
    return next((value for name in names if isinstance(value := line.get(name), str)), "")


def parsed(text: str) -> dict[str, object]:
    """The object that a text is in JSON, an empty one when it is none."""
    if not text.startswith("{"):
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def access_status(text: str) -> int:
    """The status that an access line tells, 0 when the text is none."""
    _, name, request = text.partition(" - uvicorn.access - ")
    status = request[-4:]
    return int(status) if name and re.fullmatch(r" [1-5][0-9]{2}", status) else 0


def is_ours(entry: Record) -> bool:
    """Whether one of our own commands has said it: root, and not systemd on its way to execute the application."""
    return entry.get("_UID") == "0" and "UNIT" not in entry


def lines_of(found: Sequence[Record]) -> list[str]:
    """The latest lines of records; of what is no reason, only the first."""
    lines: list[str] = []
    for entry in reversed(found):
        # At a newline alone: others would make two lines of a word.
        text = COLOUR.sub("", readable(entry)).split("\n")
        lines += [line[:LONG].rstrip("\r") for line in reversed(text[:1] if FINE.match(text[0]) else text[-LINES:])]
        if len(lines) >= LINES:
            break
    return lines[:LINES][::-1]


def last_words(match: str, since: float = 0) -> list[str]:
    """What an application has said last, and systemd about executing it, in lines.

    `match` is a trusted field of its records, _SYSTEMD_UNIT=… or _SYSTEMD_INVOCATION_ID=…; `since` is a time of the
    epoch.
    """
    return lines_of([entry for entry in entries(match, since=since) if not is_ours(entry)])


def our_words(match: str, since: float = 0) -> list[str]:
    """What our own commands in a unit, such as its probe, have said last."""
    return lines_of([entry for entry in entries(match, "_UID=0", since=since) if is_ours(entry)])


def manager_words(unit: str, since: float = 0) -> list[str]:
    """What systemd itself has said last of a unit. Others may name it in their records, too; they are not asked."""
    return lines_of(entries("_PID=1", "_UID=0", f"UNIT={unit}", since=since))


def verdict(match: str, since: float = 0) -> str:
    """What our own command in a unit, its probe, has failed with last. Empty when it has not."""
    ours = [re.match(r"[a-z][a-z0-9_]{0,31}ctl: (.+)", line) for line in our_words(match, since)]
    return next((found[1] for found in reversed(ours) if found), "")


def reason_in(lines: Sequence[str], verdict: str = "") -> str:
    """The line that tells most: an exception's last one, our own verdict, the last warning or error, the last print.

    Where gunicorn refuses one of its settings, the line before the exception is the one that names it. What went
    well is no reason. Empty when there is none.
    """
    reasons = [line[:LONG] for line in lines[-LINES:]]
    reasons = [line for line in reasons if not (CONSEQUENCE.match(line) or FINE.match(line) or ACCESS.match(line))]
    for pattern in (SETTING, EXCEPTION, None, WARNING, PRINT):
        if pattern is None and verdict:
            return verdict
        for line in reversed(reasons):
            if pattern and pattern.match(line):
                return line
    return next((line for line in reversed(reasons) if line.strip()), "")


def why_it_ended(unit: str, since: float, came_up: bool) -> str:
    """Why a service has ended: its own reason or, where it had no time to tell one, systemd's."""
    exits = [line for line in manager_words(unit, since) if "process exited" in line]
    if came_up and exits and "code=exited" not in exits[-1]:
        return exits[-1]  # a signal ended it, whatever it has said shortly before
    return reason_in(last_words(f"_SYSTEMD_UNIT={unit}", since)) or "".join(exits[-1:])
