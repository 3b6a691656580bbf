"""Have the archive of a build of Python on the controller, verified."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

# Part of a role, an action has no way to the role's library but this one.
LIBRARY = str(Path(__file__).resolve().parent.parent / "module_utils")
if LIBRARY not in sys.path:
    sys.path.append(LIBRARY)

from gunicorn_fastapi_controller import pythons  # noqa: E402
from gunicorn_fastapi_controller.problem import InputError  # noqa: E402


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible is not typed
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars or {})
        try:
            archive = pythons.archive(self._task.args["build"], Path(self._task.args["cache"]))
        except InputError as error:
            return result | {"failed": True, "msg": str(error)}
        return result | {"changed": False, "archive": str(archive)}
