"""Run, when a run is over, the hooks after_deploy or on_failure of the applications that it has begun to change.

It alone sees the whole run: all plays and batches, and hosts that were lost. It is part of Ansible's main process.
"""

from __future__ import annotations

DOCUMENTATION = r"""
name: gunicorn_fastapi_hooks
type: aggregate
short_description: Runs the hooks of gunicorn_fastapi_hooks when a run is over
description:
  - Where the role is a directory, Ansible loads this by itself. Where it comes from the collection, enable it by
    C(callbacks_enabled = gunicorn_fastapi.systemd.gunicorn_fastapi_hooks) in C(ansible.cfg).
  - Does nothing in a run that does not set C(gunicorn_fastapi_hooks).
requirements: []
"""

import atexit
import os
import sys
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase
from ansible.template import Templar

# Part of a role, a plugin has no way to the role's library but this one.
LIBRARY = str(Path(__file__).resolve().parent.parent / "module_utils")
if LIBRARY not in sys.path:
    sys.path.append(LIBRARY)

from gunicorn_fastapi_controller import hooks

HANDS_OVER = ("handover", "rollback")

DONE = "done"
FAILED = "failed"
UNCHANGED = "unchanged"

SECRETS = ("gunicorn_fastapi_credentials", "gunicorn_fastapi_environment")


class Run:
    """What is known of the change of one application. ``about``: as the action says."""

    def __init__(self, about: dict[str, Any], commands: dict[str, Any]) -> None:
        self.about = about
        self.commands = commands
        self.began = time.monotonic()
        self.outcomes = {host["name"]: UNCHANGED for host in about["hosts"]}
        self.reason = ""

    def over(self, lost: set[str], reason: str = "") -> tuple[str, dict[str, Any]]:
        """The hook that is due, and its document. ``lost``: hosts that have failed or could not be reached."""
        for host in lost & set(self.outcomes):
            self.outcomes[host] = FAILED
        hosts = [{**host, "outcome": self.outcomes[host["name"]]} for host in self.about["hosts"]]
        failed = FAILED in self.outcomes.values() or bool(reason)  # one that was rescued is none
        told = (reason or self.reason or None) if failed else None
        about, seconds = {**self.about, "hosts": hosts}, time.monotonic() - self.began
        return (
            hooks.FAILURE if failed else hooks.AFTER,
            hooks.document(about, FAILED if failed else DONE, seconds, told),
        )


class CallbackModule(CallbackBase):  # type: ignore[misc] # Ansible is not typed
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "gunicorn_fastapi_hooks"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._runs: dict[str, Run] = {}
        self._play: Any = None
        self._pid = os.getpid()
        self._note()
        atexit.register(self._interrupted)

    def _note(self) -> None:
        os.environ[hooks.VARIABLE] = " ".join([str(self._pid), *self._runs])

    # --- What Ansible calls -----------------------------------------------------------------------

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._play = play

    def v2_runner_on_ok(self, result: Any) -> None:
        if about := self._about(result):
            self._begin(about, result)
            return
        command = result.task.args.get("command")
        if is_named(result, "gunicorn_fastapi_ctl") and isinstance(command, list) and command[0] in HANDS_OVER:
            for run in self._runs.values():
                if result.host.name in run.outcomes and result.result.get("changed"):
                    run.outcomes[result.host.name] = DONE

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        if about := self._about(result):
            self._begin(about, result)
        if not ignore_errors:
            self._note_reason(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._note_reason(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        summaries = {host: stats.summarize(host) for host in stats.processed}
        lost = {host for host, summary in summaries.items() if summary["failures"] or summary["unreachable"]}
        self._end(lost)

    # --- Its own ----------------------------------------------------------------------------------

    def _about(self, result: Any) -> dict[str, Any] | None:
        """What the action says of a run that begins."""
        about = result.result.get("about") if is_named(result, "gunicorn_fastapi_hook") else None
        return about if isinstance(about, dict) else None

    def _begin(self, about: dict[str, Any], result: Any) -> None:
        values = self._values(result, "gunicorn_fastapi_hooks")
        self._runs.setdefault(about["application"], Run(about, values))
        self._note()

    def _values(self, result: Any, name: str) -> dict[str, Any]:
        """A variable as the task of a result had it, which may be secret and so is in no result."""
        variables = self._play.get_variable_manager().get_vars(play=self._play, host=result.host, task=result.task)
        found = Templar(loader=self._play.get_loader(), variables=variables).template(variables.get(name))
        return dict(found) if isinstance(found, dict) else {}

    def _note_reason(self, result: Any) -> None:
        """Keep the first reason of a failure, without what is secret; where that cannot be told, none is kept."""
        for run in self._runs.values():
            if run.reason or result.host.name not in run.outcomes:
                continue
            try:
                secrets = [value for name in SECRETS for value in self._values(result, name).values()]
            except Exception as error:  # noqa: BLE001 (whatever templating raises)
                run.reason = f"{result.host.name}: see the run (its secrets are unknown: {type(error).__name__})"
                continue
            text = str(result.result.get("msg") or result.task.get_name())
            run.reason = f"{result.host.name}: {hooks.hidden(text, secrets)}"

    def _end(self, lost: set[str], reason: str = "") -> None:
        runs, self._runs = self._runs, {}
        self._note()
        for run in runs.values():
            event, document = run.over(lost, reason)
            if event not in run.commands:
                continue
            why = hooks.run(run.commands[event], document, run.commands.get("timeout", hooks.TIMEOUT))
            if why:
                self._display.warning(f"gunicorn_fastapi_hooks: {event} has failed, which changes nothing else: {why}")

    def _interrupted(self) -> None:
        """Ansible has ended without an end of its own, by Ctrl-C or a fault."""
        if os.getpid() == self._pid and self._runs:
            self._end(set(), "the run was interrupted; what a host has begun goes on there")


def is_named(result: Any, name: str) -> bool:
    """Whether a result is of an action of ours, in a role or in the collection."""
    return str(result.task.action).rpartition(".")[2] == name
