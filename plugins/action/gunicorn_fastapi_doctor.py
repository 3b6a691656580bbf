"""Examine a host: what cannot be reached or asked is a finding as all else, and no end of the run."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

# Part of a role, an action has no way to the role's library but this one.
LIBRARY = str(Path(__file__).resolve().parent.parent / "module_utils")
if LIBRARY not in sys.path:
    sys.path.append(LIBRARY)

PATIENCE = 3.0
"""Seconds that a port may take to answer the controller."""


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible is not typed
    TRANSFERS_FILES = False

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        # Not above, because ansible-test imports an action without the library `packaging`, which Ansible itself needs.
        from gunicorn_fastapi_controller import advisories, doctor, inputs
        from gunicorn_fastapi_controller.problem import InputError

        variables = task_vars or {}
        result: dict[str, Any] = super().run(tmp, variables) | {"changed": False}
        asked = dict(self._task.args)
        options = yaml.safe_load(Path(asked.pop("specification")).read_text(encoding="utf-8"))
        described = options["argument_specs"]["main"]["options"]
        given = {name: self._templar.template(variables[name]) for name in described if name in variables}
        wanted, _ = inputs.inputs_and_problems(given, {name: described[name] for name in given})
        try:
            found = self.ask("gunicorn_fastapi_host", asked.pop("host"), variables)
            asked["is_ours"] = not found["refusal"]
            begin = time.time()
            seen = self.ask("gunicorn_fastapi_doctor", asked, variables)["facts"]
            end = time.time()
        except AnsibleError as error:
            # A wrong password of sudo's is no failure of the connection, whatever Ansible calls it.
            is_connection = isinstance(error, AnsibleConnectionFailure) and "password" not in str(error)
            told = [doctor.unreached(str(error), is_connection=is_connection)]
        else:
            # Somewhere between both the host has looked at its clock.
            seen["skew"] = seen["time"] - min(max(seen["time"], begin), end)
            seen |= {"name": asked["name"], "busy": found["busy"], "ports": self.ports(asked["domains"])}
            place = wanted.get("gunicorn_fastapi_advisories")
            try:
                seen["advisories"] = advisories.read(Path(place).expanduser()) if place else []
            except InputError as error:
                return result | {"failed": True, "msg": str(error)}
            told = doctor.findings(found, seen, wanted)
        return result | {"findings": [finding._asdict() for finding in told]}

    def ask(self, module: str, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """What a module finds. Raises AnsibleError with its words when it cannot."""
        found: dict[str, Any] = self._execute_module(module_name=module, module_args=arguments, task_vars=variables)
        if found.get("failed") or found.get("unreachable"):
            words = [str(found.get(key) or "") for key in ("module_stderr", "module_stdout", "msg")]
            raise AnsibleError(" ".join(words).strip())
        return found

    def ports(self, domains: list[str]) -> dict[str, str]:
        """Why ports of the edge do not answer here, by domain and port; empty where they do.

        What refuses is no firewall: before the first deploy nobody listens there.
        """
        found = {}
        for domain in domains:
            for port in (80, 443):
                place = f"{domain}:{port}"
                try:
                    socket.create_connection((domain, port), PATIENCE).close()
                    found[place] = ""
                except (ConnectionRefusedError, socket.gaierror):  # a name that is none is told already
                    found[place] = ""
                except OSError as error:
                    found[place] = error.strerror or f"nothing within {PATIENCE:g} s"
        return found
