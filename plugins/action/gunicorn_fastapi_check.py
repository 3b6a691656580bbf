"""Refuse, on the controller, what the role's library says is wrong with its variables or with a host."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

# Part of a role, an action has no way to the role's library but this one.
LIBRARY = str(Path(__file__).resolve().parent.parent / "module_utils")
if LIBRARY not in sys.path:
    sys.path.append(LIBRARY)

from gunicorn_fastapi_controller import checks, hosts, inputs, location, placing, processes, pythons, timers  # noqa: E402

# Not repeated in a result, which -v prints.
SECRETS = ("environment", "secret_environment", "build_environment", "credentials", "checks", "hooks")
PRIVATE = tuple(f"gunicorn_fastapi_{name}" for name in SECRETS)


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible is not typed
    TRANSFERS_FILES = False
    _requires_connection = False

    def values(self, variables: dict[str, Any], names: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
        """The values of variables, and sentences about those that cannot be had: each by its name."""
        values, problems = {}, []
        for name in names:
            try:
                values[name] = self._templar.template({name: variables[name]}).get(name)  # omit leaves it out
            except AnsibleError as error:
                problems.append(f"{name}: its value cannot be had: {error}")
        return values, problems

    def patterns(self) -> list[str]:
        """What the play says of its hosts. Nothing where Ansible does not tell."""
        block, play = getattr(self._task, "_parent", None), None
        while block is not None:
            block, play = getattr(block, "_parent", None), getattr(block, "_play", None) or play
        return [str(pattern) for pattern in getattr(play, "hosts", None) or []]

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        variables = task_vars or {}
        result: dict[str, Any] = super().run(tmp, variables)
        arguments = self._task.args
        specification = yaml.safe_load(Path(arguments["specification"]).read_text(encoding="utf-8"))
        options = specification["argument_specs"]["main"]["options"]
        values, problems = self.values(variables, options)
        converted, wrong = inputs.inputs_and_problems(values, {name: options[name] for name in values})
        problems += wrong
        problems += checks.problems(converted)
        problems += inputs.unknown(list(variables), list(options))
        beside: dict[str, dict[str, Any]] = {}
        if not problems:
            groups = variables.get("groups", {})
            play = placing.of_play(self.patterns(), groups)
            for module in (processes, timers):
                all_of_them = module.whole(converted.get(module.VARIABLE, {}))
                problems += [p for p in [placing.unknown(module.VARIABLE, all_of_them, groups, play)] if p]
                own = placing.of_host(all_of_them, variables["inventory_hostname"], groups, play)
                beside[module.VARIABLE.removeprefix(inputs.PREFIX)] = own
        builds: dict[str, Any] = {}
        if not problems:
            known = Path(arguments["specification"]).parent.parent / "files/pythons.sha256"
            version, mirror = (converted[name] for name in (pythons.VARIABLE, pythons.MIRROR))
            builds = pythons.wanted(version, mirror, known.read_text(encoding="utf-8"))
        found = arguments.get("found")
        if found and not problems:
            found = {**found, "pythons": builds}
            problems = hosts.problems(found, converted)
            if "size" in arguments:
                problems = [p for p in [hosts.room(found, converted, arguments["directory"], arguments["size"])] if p]
            problems = [f"{variables['inventory_hostname']}: {' '.join(problems)}"] if problems else []
        if problems:
            return result | {"failed": True, "msg": "\n".join(problems)}
        told = {n: v for n, v in converted.items() if n not in PRIVATE}
        told["gunicorn_fastapi_app_source"] = location.without_secrets(converted["gunicorn_fastapi_app_source"])
        return result | {"changed": False, "inputs": told, "pythons": builds, **beside}
