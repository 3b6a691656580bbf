"""Commands of the operator's that the controller runs once in a run, with a document about it on standard input."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

from .inputs import shown

EVENTS = BEFORE, AFTER, FAILURE = "before_deploy", "after_deploy", "on_failure"

TIMEOUT = 60

LONGEST = 3600
"""Seconds that a hook may be given: nobody else can deploy meanwhile who waits for the run's pipeline."""

SAID = 500
"""Characters of a hook's output, or of a reason, that are told."""

LEAST_SECRET = 6
"""Characters of a value that is hidden in a reason. Shorter ones would take the words around them with them."""

VARIABLE = "GUNICORN_FASTAPI_HOOKS"
"""By it the callback, in Ansible's main process, tells the action, in a process that is forked from it, that it is
there, and which applications have had their before_deploy: ``PID shop fastapi``."""


def check(inputs: Mapping[str, Any]) -> str:
    problem = wrong(inputs["gunicorn_fastapi_hooks"])
    return f"gunicorn_fastapi_hooks: {problem}" if problem else ""


def wrong(values: Mapping[str, Any]) -> str:
    """What is wrong with the variable, empty when nothing is. Does not repeat commands, which may have tokens."""
    for key, value in values.items():
        if key == "timeout":
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= LONGEST:
                return f"timeout: {shown(value)} must be a number of seconds, at most {LONGEST}."
            continue
        if key not in EVENTS:
            return f"{shown(key)} is no hook. There are {', '.join(EVENTS)}, and timeout for all of them."
        try:
            command = words(value)
        except ValueError:
            return (
                f'{key} must be a command: a text without open quotes, or a list of texts, such as ["notify", "shop"].'
            )
        if shutil.which(command[0]) is None:
            return f"{key}: {shown(command[0])} is not a program on the controller. Install it, or give its path."
    return ""


def words(command: object) -> list[str]:
    """The words of a command. No shell reads a text. Raises ValueError for what is no command."""
    found = shlex.split(command) if isinstance(command, str) else command
    if not isinstance(found, list) or not found or not all(isinstance(w, str) and "\0" not in w for w in found):
        raise ValueError("no command")
    if not found[0]:
        raise ValueError("no program")
    return [str(word) for word in found]


def run(command: object, document: Mapping[str, Any], timeout: float) -> str:
    """Run a hook to its end. Returns why it failed, in words, or nothing.

    What it has started and left behind is killed when its time is over, and else left alone.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(json.dumps(document).encode() + b"\n")
        given.seek(0)
        try:
            process = subprocess.Popen(words(command), stdin=given, stdout=said, stderr=said, start_new_session=True)
        except (OSError, ValueError) as error:
            return f"it cannot be started: {error}"
        try:
            status = process.wait(timeout)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                return f"it did not end within {timeout:g} s and was killed"
            raise
        if not status:
            return ""
        size = said.seek(0, os.SEEK_END)
        said.seek(max(0, size - 4 * SAID))
        last = " ".join(said.read().decode(errors="replace").split())[-SAID:]
    how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
    return f"{how}{': ' if last else ''}{printable(last)}"


def printable(text: str) -> str:
    """A text without characters that a terminal obeys."""
    return "".join(c if c.isprintable() else "?" for c in text)


def one(values: Iterable[str | None]) -> str | None:
    """The value that all have in common, if there is one."""
    found = {value for value in values if value}
    return found.pop() if len(found) == 1 else None


def document(
    about: Mapping[str, Any], outcome: str | None, seconds: float | None, reason: str | None
) -> dict[str, Any]:
    """What a hook reads. ``about``: the run, as the action has it; what is not known yet is null."""
    hosts = about["hosts"]
    return {
        "application": about["application"],
        "action": about["action"],
        "hosts": hosts,
        "from": one(host["from"] for host in hosts),
        "to": one(host["to"] for host in hosts),
        "commit": about["commit"],
        "who": about["who"],
        "outcome": outcome,
        "seconds": None if seconds is None else round(seconds, 1),
        "reason": reason,
    }


def hidden(text: str, secrets: Iterable[object]) -> str:
    """The first line of a reason, without the values of secrets."""
    line = printable(text.strip().partition("\n")[0])
    for secret in sorted({str(value) for value in secrets}, key=len, reverse=True):
        if len(secret) >= LEAST_SECRET:
            line = line.replace(secret, "***")
    return line[:SAID]
