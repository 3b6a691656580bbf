"""Say which packages have known vulnerabilities, by files on the controller."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

# Part of a role, an action has no way to the role's library but this one.
LIBRARY = str(Path(__file__).resolve().parent.parent / "module_utils")
if LIBRARY not in sys.path:
    sys.path.append(LIBRARY)


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible is not typed
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        # Not above, because ansible-test imports an action without the library `packaging`, which Ansible itself needs.
        from gunicorn_fastapi_controller import advisories
        from gunicorn_fastapi_controller.problem import InputError

        result: dict[str, Any] = super().run(tmp, task_vars or {}) | {"changed": False}
        asked = self._task.args
        try:
            known = advisories.read(Path(asked["path"]).expanduser())
        except InputError as error:
            return result | {"failed": True, "msg": str(error)}
        return result | {"vulnerable": advisories.vulnerable(asked["packages"], known)}
