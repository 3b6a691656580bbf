"""Have the application's source as a directory of the controller, and say which application is in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

# Part of a role, an action has no way to the role's library but this one.
LIBRARY = str(Path(__file__).resolve().parent.parent / "module_utils")
if LIBRARY not in sys.path:
    sys.path.append(LIBRARY)

from gunicorn_fastapi_controller import discover, origin  # noqa: E402
from gunicorn_fastapi_controller.problem import InputError  # noqa: E402

SOURCE = "gunicorn_fastapi_app_source"


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible is not typed
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        variables = task_vars or {}
        result: dict[str, Any] = super().run(tmp, variables)
        arguments = self._task.args
        # Not an argument: those are shown, and an address may have a token in it.
        source = str(self._templar.template({SOURCE: variables[SOURCE]})[SOURCE])
        # A task runs in a process of its own, whose parent is the run: all hosts of it get one commit.
        run = origin.run_of(os.getppid())
        try:
            found = origin.found(source, arguments["path"], arguments["version"], Path(arguments["cache"]), run)
            module, where = arguments["module"], ""
            if not module:
                module, where = discover.discover(found.application)
        except InputError as error:
            return result | {"failed": True, "msg": str(error)}
        said = f"The application is {module}, {where}" if where else ""
        return result | {
            "changed": False,
            "directory": str(found.directory),
            "origin": found.facts,
            "app_module": module,
            "said": said,
        }
