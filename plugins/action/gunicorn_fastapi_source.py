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

SOURCE, ENVIRONMENT = "gunicorn_fastapi_app_source", "gunicorn_fastapi_build_environment"


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible is not typed
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        # Not above, because ansible-test imports an action without the library `packaging`, which Ansible itself needs.
        from gunicorn_fastapi_controller import built, discover, origin
        from gunicorn_fastapi_controller.problem import InputError

        variables = task_vars or {}
        result: dict[str, Any] = super().run(tmp, variables)
        arguments = self._task.args
        # No arguments: those are shown, and an address may have a token in it.
        source, environment = (self._templar.template({name: variables[name]})[name] for name in (SOURCE, ENVIRONMENT))
        # A task runs in a process of its own, whose parent is the run: all hosts of it get one commit.
        run = origin.run_of(os.getppid())
        try:
            found = origin.found(str(source), arguments["path"], arguments["version"], Path(arguments["cache"]), run)
            directory, said = found.directory, []
            if arguments["build_command"]:
                build = built.Build(
                    arguments["build_command"],
                    environment,
                    arguments["build_timeout"],
                    arguments["rebuild"],
                    arguments["exclude"],
                    arguments["include"],
                )
                directory, told = built.built(
                    found.directory, found.path, build, Path(arguments["cache"]), run, self._task.check_mode
                )
                said.append(told)
            module = arguments["module"]
            if not module:
                module, where = discover.discover(directory / found.path)
                said.append(f"The application is {module}, {where}")
        except InputError as error:
            return result | {"failed": True, "msg": str(error)}
        return result | {
            "changed": False,
            "directory": str(directory),
            "built": directory != found.directory,
            "origin": found.facts,
            "app_module": module,
            "said": said,
        }
