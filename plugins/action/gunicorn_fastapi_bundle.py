"""Pack a release on the controller, and name it after its content."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

# Part of a role, an action has no way to the role's library but this one.
LIBRARY = str(Path(__file__).resolve().parent.parent / "module_utils")
if LIBRARY not in sys.path:
    sys.path.append(LIBRARY)

NO_STATE = {"directory": "", "paths": [], "scratch": [], "working_directory": ""}
OPTIONS = {
    "source": {"type": "path", "required": True},
    "app_path": {"type": "str", "default": ""},
    "built": {"type": "bool", "default": False},
    "origin": {"type": "dict", "default": {}},
    "exclude": {"type": "list", "elements": "str", "default": []},
    "include": {"type": "list", "elements": "str", "default": []},
    "requirements": {"type": "str", "default": ""},
    "extras": {"type": "list", "elements": "str", "default": []},
    "groups": {"type": "list", "elements": "str", "default": []},
    "upgrade": {"type": "list", "elements": "str", "default": []},
    "locked": {"type": "str", "default": ""},
    "wheels": {"type": "dict", "default": {}},
    "state": {"type": "dict", "default": NO_STATE},
    "supply": {"type": "list", "elements": "path", "required": True},
    "library": {"type": "path", "required": True},
    "files": {"type": "str", "required": True, "no_log": True},
    "identity": {"type": "dict", "required": True},
    "machine": {"type": "str", "default": ""},
    "credentials": {"type": "str", "default": "", "no_log": True},
    "env_file": {"type": "str", "default": ""},
    "prepare_command": {"type": "str", "default": ""},
    "prepared": {"type": "str", "default": ""},
    "directory": {"type": "path", "required": True},
    "before": {"type": "dict", "required": True},
}


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible is not typed
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        # Not above, because ansible-test imports an action without the library `packaging`, which Ansible itself needs.
        from gunicorn_fastapi_controller import environment, health_checks
        from gunicorn_fastapi_controller.problem import InputError
        from gunicorn_fastapi_controller.release import bundle

        result: dict[str, Any] = super().run(tmp, task_vars or {})
        _, asked = self.validate_argument_spec(argument_spec=OPTIONS)
        try:
            files = json.loads(asked["files"])
            variables = files.get("etc/environment")
            if variables is not None:
                files["etc/environment"] = environment.rendered(variables)
            if "etc/checks.json" in files:
                files["etc/checks.json"] = health_checks.rendered(files["etc/checks.json"])
            made = bundle(**{**asked, "files": files})
        except InputError as error:
            return result | {"failed": True, "msg": str(error)}
        return result | made
