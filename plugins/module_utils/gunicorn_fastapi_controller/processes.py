"""What is wrong with the processes beside the server, and the same with all that is left out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from .inputs import matches, shown, to_int

VARIABLE = "gunicorn_fastapi_processes"

# What the role itself calls an instance, a unit or a part of one.
TAKEN = ("main", "candidate", "preflight", "import", "release", "run", "probe", "handover", "build", "interpreter",
         "address", "processes", "web", "maintenance", "pause", "metrics", "watch")  # fmt: skip

SIGNALS = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2")

# What a shell does not take for a program.
KEYWORDS = ("if", "while", "until", "for", "case", "{", "!", "cd", "export", "set", "exec", ".", "umask", "ulimit",
            "trap", "exit", "eval")  # fmt: skip

DEFAULTS: dict[str, Any] = {
    "instances": 1,
    "deploy": "overlap",
    "stop_signal": "SIGTERM",
    "stop_timeout": 60,
    "ready": 3,
    "memory_max": "",
    "hosts": "all",
}

# A week.
LONGEST_STOP = 7 * 86400
MOST_INSTANCES = 1000


def is_command(value: object) -> bool:
    """Whether it is a text for a shell or a list of words, and begins with something."""
    words = [value] if isinstance(value, str) else value
    return (
        isinstance(words, list)
        and bool(words)
        and all(isinstance(word, str) and "\0" not in word for word in words)
        and bool(words[0].strip())
    )


def words_of(text: str) -> list[str]:
    """The words of a text for a shell, operators among them. Raises ValueError when a quote is left open."""
    lexer = shlex.shlex(text.strip().replace("\n", " ; "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    return list(lexer)


def has_one_program(text: str) -> bool:
    """Whether a text is one program with its arguments."""
    words = words_of(text)
    return words[0] not in KEYWORDS and not any(re.fullmatch("[();|&]+", word) for word in words)


def replaced_by_it(command: str | list[str]) -> str | list[str]:
    """The same command, whose shell is replaced by its program: that is who has to be told to stop."""
    if not isinstance(command, str) or not has_one_program(command):
        return command
    given = re.match(r"\w+=", command.strip())  # variables before the program
    return f"exec {'env ' if given else ''}{command.strip()}"


def wrong_with_text(command: object) -> str:
    """Why nobody could tell a command's program to stop; empty where one can."""
    try:
        if not isinstance(command, str) or has_one_program(command) or "exec" in words_of(command):
            return ""
    except ValueError:
        return "its command has a quote that is left open. Close it."
    return (
        "its command is more than one program, and the shell would be told to stop instead of the last. Write exec "
        "before that one, as in: cd worker && exec celery -A shop worker."
    )


def number(value: object, least: int, most: int) -> bool:
    """Whether it is a whole number between these."""
    try:
        return least <= to_int(value) <= most
    except ValueError:
        return False


def wrong_with(name: str, process: object) -> str:
    """What is wrong with one process; its command, which may hold a secret, is not repeated."""
    if not matches(r"[a-z][a-z0-9_]{0,30}", name) or name in TAKEN:
        reason = "the role itself calls something so" if name in TAKEN else "it becomes a part of a unit's name"
        return f"{shown(name)}: {reason}. Choose another name of small letters, digits and _, such as worker."
    if not isinstance(process, Mapping):
        return f"{name} is not a mapping. Write it as {name}: {{command: ...}}."
    unknown = sorted(str(key) for key in process if key not in ("command", *DEFAULTS))
    if unknown:
        return f"{name}: {unknown[0]} is unknown. There are command, {', '.join(DEFAULTS)}."
    if not is_command(process.get("command")):
        return f"{name}: it has no command. Give a text for a shell, or a list of words."
    if problem := wrong_with_text(process["command"]):
        return f"{name}: {problem}"
    full = {**DEFAULTS, **process}
    ready = full["ready"]
    wrong = {
        "instances": full["instances"] != "auto" and not number(full["instances"], 1, MOST_INSTANCES),
        "deploy": full["deploy"] not in ("overlap", "replace"),
        "stop_signal": full["stop_signal"] not in SIGNALS,
        "stop_timeout": not number(full["stop_timeout"], 1, LONGEST_STOP),
        "ready": not (number(ready, 0, 3600) if isinstance(ready, int) else is_command(ready)),
        "memory_max": not matches(r"([1-9][0-9]{0,15}[KMGT]?)?", str(full["memory_max"])),
        "hosts": not isinstance(full["hosts"], str) or not full["hosts"],
    }
    allowed = {
        "instances": f'a number from 1 to {MOST_INSTANCES}, or "auto", one for each CPU',
        "deploy": "overlap or replace",
        "stop_signal": f"one of {', '.join(SIGNALS)}",
        "stop_timeout": f"seconds from 1 to {LONGEST_STOP}",
        "ready": '"notify", a command that has to succeed, or the seconds that it has to stay up, up to 3600',
        "memory_max": "bytes, or such as 512M",
        "hosts": "all, first, one, a group or host of the inventory, first:GROUP or one:GROUP",
    }
    return next((f"{name}: {key} has to be {allowed[key]}." for key, is_wrong in wrong.items() if is_wrong), "")


def processes(inputs: Mapping[str, Any]) -> str:
    """The first thing that is wrong with any of them."""
    found = inputs[VARIABLE]
    problems = (wrong_with(name, process) for name, process in found.items())
    return next((f"{VARIABLE}: {problem}" for problem in problems if problem), "")


def whole(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The processes, with all that was left out. Nothing is wrong with them."""
    made = {}
    for name, process in found.items():
        full = {**DEFAULTS, **process}
        ready = full["ready"]
        by_command = not isinstance(ready, int) and ready != "notify"
        made[name] = full | {
            "command": replaced_by_it(full["command"]),
            "instances": full["instances"] if full["instances"] == "auto" else to_int(full["instances"]),
            "stop_timeout": to_int(full["stop_timeout"]),
            "memory_max": str(full["memory_max"]),
            "ready": 0 if by_command else ready,
            "ready_command": ready if by_command else "",
        }
    return made
