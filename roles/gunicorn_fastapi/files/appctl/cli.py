"""The command line of NAMEctl. Each command's module is imported when it is asked for."""

import argparse
import importlib
import io
import json
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from appctl import disk, talk
from appctl.app import App
from appctl.process import CtlError
from appctl.text import visible


class Command(NamedTuple):
    """Where a command is found, and who may use it."""

    module: str
    function: str
    arguments: str = ""
    needs_root: bool = True
    hidden: bool = False


COMMANDS = {
    "status": Command("status", "command_status", "add_status", needs_root=False),
    "traffic": Command("traffic", "command_traffic", needs_root=False),
    "metrics": Command("serving", "command_metrics", "add_metrics", needs_root=False),
    "list": Command("listing", "command_list"),
    "packages": Command("listing", "command_packages", "add_packages"),
    "diff": Command("comparing", "command_diff", "add_diff"),
    "history": Command("listing", "command_history", "add_history"),
    "logs": Command("logs", "command_logs", "add_logs"),
    "preflight": Command("background", "command_preflight", "add_preflight"),
    "release-command": Command("background", "command_release_command", "add_release_command"),
    "handover": Command("background", "command_handover", "add_handover"),
    "rollback": Command("background", "command_rollback", "add_rollback"),
    "restart": Command("background", "command_restart", "add_lock_wait"),
    "scale": Command("scale", "command_scale", "add_scale"),
    "timers": Command("timing", "command_timers", "add_timers"),
    "run": Command("oneoff", "command_run", "add_run"),
    "shell": Command("oneoff", "command_shell", "add_shell"),
    "runs": Command("runs", "command_runs"),
    "tasks": Command("tasks", "command_tasks"),
    "maintenance": Command("closing", "command_maintenance", "add_maintenance"),
    "pause": Command("closing", "command_pause", "add_pause"),
    "backup": Command("backup", "command_backup", "add_backup"),
    "restore": Command("restoring", "command_restore", "add_restore"),
    "prune": Command("prune", "command_prune", "add_prune"),
    "uninstall": Command("uninstall", "command_uninstall", "add_uninstall"),
    # What units and playbooks ask.
    "build": Command("build", "command_build", "add_build", hidden=True),
    "python": Command("pythons", "command_python", "add_python", hidden=True),
    "lock": Command("locked", "command_lock", "add_lock", hidden=True),
    "locked": Command("locked", "command_locked", hidden=True),
    "prepare": Command("prepared", "command_prepare", "add_prepare", hidden=True),
    "prepared": Command("prepared", "command_prepared", hidden=True),
    "keep": Command("locked", "command_keep", "add_lock", hidden=True),
    "resolve": Command("resolve", "command_resolve", hidden=True),
    "edge": Command("edge", "command_edge", "add_edge", hidden=True),
    "surround": Command("surround", "command_surround", "add_surround", hidden=True),
    "probe": Command("health", "command_probe", "add_probe", hidden=True),
    "ran": Command("runs", "command_ran", "add_ran", hidden=True),
    "timed": Command("timing", "command_timed", "add_timed", hidden=True),
    "stop": Command("stop", "command_stop", "add_stop", hidden=True),
    "begin": Command("totals", "command_begin", "add_begin", hidden=True),
    "begun": Command("totals", "command_begun", "add_begun", hidden=True),
    "backoff": Command("backoff", "command_backoff", hidden=True),
    "execute": Command("background", "command_execute", "add_execute", hidden=True),
    "watch": Command("handback", "command_watch", "add_watch", hidden=True),
    "settle": Command("background", "command_settle", hidden=True),
    "settled": Command("background", "command_settled", "add_addresses", hidden=True),
}


def parser(name: str, asked: str) -> argparse.ArgumentParser:
    """The command line; the modules of all commands are imported only to list them."""
    top = argparse.ArgumentParser(prog=f"{name}ctl", description=f"Releases of {name} on this host.")
    commands: Any = top.add_subparsers(required=True, metavar="COMMAND")
    for word, command in COMMANDS.items():
        if asked in COMMANDS and word != asked:
            continue
        module = importlib.import_module(f"appctl.{command.module}")
        function: Callable[[App, argparse.Namespace], Any] = getattr(module, command.function)
        summary = (function.__doc__ or "").splitlines()[0]
        shown = {} if command.hidden else {"help": summary}
        sub = commands.add_parser(word, description=summary, **shown)
        sub.set_defaults(function=function, needs_root=command.needs_root, name=word)
        sub.add_argument("--json", action="store_true", help="print JSON instead of lines")
        if command.arguments:
            getattr(module, command.arguments)(sub)
    return top


def main(name: str, words: list[str] | None = None) -> None:
    """Carry out one command. Ends with status 1 and a sentence, or with it as JSON, when that fails."""
    words = sys.argv[1:] if words is None else words
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # whatever the locale cannot write
    app = App(name)
    if not words or (words[0] not in COMMANDS and not words[0].startswith("-")):
        # argparse would list what units and playbooks ask, too.
        missing = f"there is no command {visible(words[0], one_line=True)}" if words else "no command was given"
        print(f"{name}ctl: {missing}. Try: {name}ctl --help", file=sys.stderr)
        sys.exit(2)
    arguments = parser(name, words[0]).parse_args(words)
    talk.quiet = arguments.json
    try:
        if arguments.needs_root and os.geteuid() != 0:
            raise CtlError(f"{name}ctl {arguments.name} needs root. Try: sudo {name}ctl {arguments.name}")
        answer = arguments.function(app, arguments) or {}
        sys.stdout.flush()  # a reader that has gone is noticed here, and not at the end
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as failure:  # noqa: BLE001 (told, and the end)
        reason = disk.told(failure) if isinstance(failure, OSError) else str(failure)
        if not isinstance(failure, (CtlError, OSError)):
            import traceback  # here, because nearly no run needs it

            # A fault of ours. Its place is told, and not by Python, which would show a text of the application's raw.
            reason = f"this is a bug in {name}ctl, please report it:\n{traceback.format_exc()}"
        if arguments.json:
            print(json.dumps(safe({"changed": False, "failed": True, "reason": reason, "said": talk.said})))
            sys.exit(1)
        sys.exit(f"{name}ctl: {visible(reason, talk.MOST)}")
    if arguments.json:
        print(json.dumps(safe(answer if isinstance(answer, list) else {"said": talk.said, **answer})))
    if isinstance(answer, dict) and answer.get("exit_status"):
        sys.exit(answer["exit_status"])


def safe(value: Any) -> Any:
    """A value whose texts, which may be an application's own, are safe to show."""
    if isinstance(value, dict):
        return {key: safe(item) for key, item in value.items()}
    if isinstance(value, list):
        return [safe(item) for item in value]
    return visible(value, talk.MOST) if isinstance(value, str) else value
