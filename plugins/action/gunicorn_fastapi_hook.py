"""Say that a run is about to change an application: run its hook before_deploy, once in a run."""

from __future__ import annotations

import getpass
import os
import socket
import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

# Part of a role, an action has no way to the role's library but this one.
LIBRARY = str(Path(__file__).resolve().parent.parent / "module_utils")
if LIBRARY not in sys.path:
    sys.path.append(LIBRARY)

from gunicorn_fastapi_controller import hooks, inputs  # noqa: E402

UNHEARD = (
    "gunicorn_fastapi_hooks: nobody would run them when the run is over, because Ansible has not loaded the callback "
    "gunicorn_fastapi_hooks. Where the role comes from the collection, add to your ansible.cfg: "
    "callbacks_enabled = gunicorn_fastapi.systemd.gunicorn_fastapi_hooks. Where it is a directory, import it "
    "(import_role, roles:) instead of including it"
)


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible is not typed
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        variables = task_vars or {}
        result: dict[str, Any] = super().run(tmp, variables) | {"changed": False}
        arguments = self._task.args
        application = arguments["application"]
        values = self._templar.template(variables["gunicorn_fastapi_hooks"])
        hosts = arguments["hosts"]
        changes = [inputs.to_bool(host.pop("changes")) for host in hosts]
        if not any(changes):
            return result | {"skipped": True, "skip_reason": "nothing is going to change"}
        if self._task.check_mode:
            self._display.display(f"gunicorn_fastapi_hooks: not run in check mode: {', '.join(sorted(values))}")
            return result | {"skipped": True, "skip_reason": "no hook is run in check mode"}
        heard = os.environ.get(hooks.VARIABLE, "").split()
        if heard[:1] != [str(os.getppid())]:
            raise AnsibleError(UNHEARD)
        if application in heard[1:]:
            return result | {"skipped": True, "skip_reason": "it has been run"}
        about = {
            "application": application,
            "action": arguments["action"],
            "hosts": [{**host, "outcome": None} for host in hosts],
            "commit": arguments.get("commit") or None,
            "who": f"{getpass.getuser()}@{socket.gethostname()}",
        }
        told = result | {"about": about}
        if hooks.BEFORE in values:
            document = hooks.document(about, None, None, None)
            if why := hooks.run(values[hooks.BEFORE], document, values.get("timeout", hooks.TIMEOUT)):
                message = (
                    f"gunicorn_fastapi_hooks: before_deploy has failed, so nothing was changed: {why}. "
                    "Do what it asks for, or correct it, and run again"
                )
                return told | {"failed": True, "msg": message}
        return told
