"""Collect what the host is to keep encrypted. Its task says no_log: the result is secret."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

# Part of a role, an action has no way to the role's library but this one.
LIBRARY = str(Path(__file__).resolve().parent.parent / "module_utils")
if LIBRARY not in sys.path:
    sys.path.append(LIBRARY)

from gunicorn_fastapi_controller import secret  # noqa: E402
from gunicorn_fastapi_controller.problem import InputError  # noqa: E402

NAMES = ("gunicorn_fastapi_credentials", secret.GIVEN, secret.FILE)


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible is not typed
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        variables = task_vars or {}
        result: dict[str, Any] = super().run(tmp, variables)
        files, given, path = (self._templar.template({name: variables[name]})[name] for name in NAMES)
        try:
            kept = secret.credentials(files, given, path)
        except InputError as error:
            return result | {"failed": True, "msg": str(error)}
        return result | {"changed": False, "credentials": kept}
