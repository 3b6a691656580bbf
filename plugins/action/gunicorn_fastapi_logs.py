"""Show log records of all hosts of a play in order of time: those that were fetched, or as they come."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

# Part of a role, an action has no way to the role's library but this one.
LIBRARY = str(Path(__file__).resolve().parent.parent / "module_utils")
if LIBRARY not in sys.path:
    sys.path.append(LIBRARY)

from gunicorn_fastapi_controller import merging  # noqa: E402
from gunicorn_fastapi_controller.hooks import printable  # noqa: E402


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible is not typed
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars) | {"changed": False}
        arguments = self._task.args
        if arguments.get("command"):
            return result | {"words": self.words([str(word) for word in arguments["command"]])}
        hosts = {str(host): value or [] for host, value in arguments["hosts"].items()}
        width = max(map(len, hosts), default=0)

        def show(host: str, record: dict[str, Any]) -> None:
            if arguments.get("json"):
                self._display.display(json.dumps({"host": host, **record}))
                return
            colours = {4: constants.COLOR_WARN} | dict.fromkeys(range(4), constants.COLOR_ERROR)
            shown = "\n".join(map(printable, merging.text(host, record, width).split("\n")))
            self._display.display(shown, color=colours.get(record.get("priority", 6)))

        if not arguments.get("follow"):
            for host, record in merging.ordered(hosts):
                show(host, record)
            return result
        ends = merging.follow({host: words for host, words in hosts.items() if words}, show)
        return result | {"failed": True, "msg": f"the hosts have ended it: {ends}"}

    def words(self, command: list[str]) -> list[str]:
        """The program that runs a command on this host, as Ansible itself would. Raises AnsibleError without one."""
        line = shlex.join(command)
        connection = self._connection
        if connection.become:
            if connection.become.get_option("become_pass"):
                raise AnsibleError(self.refusal("a password for become"))
            line = connection.become.build_become_command(line, False)
        if connection.transport == "local":
            return ["/bin/sh", "-c", line]
        if connection.transport != "ssh":
            raise AnsibleError(self.refusal(f"the connection {connection.transport}"))
        if connection.get_option("password"):
            raise AnsibleError(self.refusal("a password"))
        host = connection.get_option("host") or self._play_context.remote_addr
        program = connection.get_option("ssh_executable")
        built = connection._build_command(program, "ssh", host, line)  # noqa: SLF001 (what else knows all options)
        return [word.decode() if isinstance(word, bytes) else str(word) for word in built]

    def refusal(self, what: str) -> str:
        command = self._task.args["command"][0]
        return (
            f"follow=true goes over ssh with a key, and this host has {what}. Run there: sudo {command} logs --follow"
        )
