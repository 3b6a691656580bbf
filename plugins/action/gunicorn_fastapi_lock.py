"""Find an application's list of packages, and say what uv has to be asked about it."""

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
        from gunicorn_fastapi_controller import lists
        from gunicorn_fastapi_controller.problem import InputError
        from gunicorn_fastapi_controller.server import Host, check_python

        result: dict[str, Any] = super().run(tmp, task_vars or {})
        asked = self._task.args
        top = Path(asked["source"]).expanduser().resolve()
        application = (top / asked.get("app_path", "")).resolve()
        host = Host(asked["python"], asked["machine"])
        extras, groups = list(asked["extras"]), list(asked["groups"])
        try:
            check_python(application, host)
            found = lists.find(top, application, asked["requirements"])
            question: dict[str, Any] = {}
            if found.is_asked:
                question = lists.question(
                    found, top, application, extras, groups, host, asked["date"], asked["upgrade"]
                )
        except InputError as error:
            return result | {"failed": True, "msg": str(error)}
        return result | {
            "changed": False,
            "said": found.said(top),
            "path": str(found.path.relative_to(top)),
            "usual": found.path == application / "requirements.txt" and not question,
            "dated": found.kind in ("compile", "project"),
            "key": question.get("key", ""),
            "question": question,
        }
