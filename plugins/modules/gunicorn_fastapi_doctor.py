#!/usr/bin/python
"""What may keep a host from running an application well. Looks, and changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gunicorn_fastapi_doctor
short_description: Examine a host that runs an application, or is to
description:
  - Looks at the host as a deploy does, and at what only time or money would be lost by, and says with one sentence for
    each thing what is wrong and what to do. Changes nothing.
  - It is an action with this module behind it. A host that cannot be reached or asked is a finding, too.
  - What a deploy looks at is that of M(gunicorn_fastapi.systemd.gunicorn_fastapi_host).
options:
  name: {type: str, required: true, description: Name of the application.}
  is_ours:
    type: bool
    default: false
    description: Whether its control command may be executed. The action knows that.
  index: {type: str, default: "", description: "URL of the package index, empty for the usual one."}
  offline: {type: bool, default: false, description: Whether no index is asked.}
  packages: {type: list, elements: str, default: [], description: Debian packages that a deploy installs.}
  domains: {type: list, elements: str, default: [], description: Names that are to lead to the host.}
  host: {type: dict, description: "For the action: what it asks gunicorn_fastapi_host."}
  specification: {type: path, description: "For the action: the role's C(meta/argument_specs.yml)."}
author: the gunicorn_fastapi maintainers (@gunicorn-fastapi)
"""

EXAMPLES = r"""
- name: Examine the host
  gunicorn_fastapi.systemd.gunicorn_fastapi_doctor:
    name: shop
    specification: "{{ role_path }}/meta/argument_specs.yml"
    host: {name: shop, directory: /opt/shop, python: python3, bind: ["0.0.0.0:80"], uv: /usr/local/lib/uv, ours: ""}
"""

RETURN = r"""
findings:
  type: list
  elements: dict
  returned: by the action
  description: "What is wrong: C(subject), C(text), and C(stops), whether a deploy would end by it."
facts: {type: dict, returned: by the module, description: What was found.}
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule


def look(module: AnsibleModule) -> dict[str, Any]:
    """All that the host says."""
    # Not above, for the reason that gunicorn_fastapi_bundle gives.
    from ..module_utils import gunicorn_fastapi_facts as facts  # type: ignore[import-not-found,misc]

    base, asked = Path("/"), module.params
    name = asked["name"]

    def run(*command: str) -> str:
        _, out, _ = module.run_command(list(command), handle_exceptions=False, expand_user_and_vars=False)
        return str(out).strip()

    silent = []

    def ctl(word: str, form: type) -> Any:
        """Its answer in a form, which is empty without a control command, and when it gives no such answer."""
        program = f"/usr/local/sbin/{name}ctl"
        if not (asked["is_ours"] and os.access(program, os.X_OK)):
            return form()
        try:
            # As its first line says, and -B: what it compiles would be files that were not there.
            told = json.loads(run("/usr/bin/python3", "-ISB", program, word, "--json"))
        except ValueError:
            told = None
        if isinstance(told, form) and not (isinstance(told, dict) and told.get("failed")):
            return told
        silent.append(word)
        return form()

    status = ctl("status", dict)
    container = run("systemd-detect-virt", "--container")
    index = "" if asked["offline"] else facts.index_url(asked["index"])
    return {
        "time": time.time(),
        "uid": os.geteuid(),
        "umask": facts.umask(),
        "controllers": facts.controllers(base),
        "manager": run("systemctl", "is-system-running"),
        # A container has the clock of its host.
        "synchronized": ""
        if container != "none"
        else run("timedatectl", "show", "--property=NTPSynchronized", "--value"),
        "memory": facts.memory(base),
        "cpus": len(os.sched_getaffinity(0)),
        "room": facts.room(),
        "apt": facts.apt(asked["packages"], run),
        "index": {"url": index, "error": facts.unreachable(index) if index else ""},
        "domains": {domain: facts.addresses(domain) for domain in asked["domains"]},
        "addresses": facts.own_addresses(run),
        "left": facts.left(name),
        "failed": facts.failed_units(name, run),
        "status": status,
        "packages": ctl("packages", list) if status.get("release") else [],
        "silent": silent,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "is_ours": {"type": "bool", "default": False},
            "index": {"type": "str", "default": ""},
            "offline": {"type": "bool", "default": False},
            "packages": {"type": "list", "elements": "str", "default": []},
            "domains": {"type": "list", "elements": "str", "default": []},
            "host": {"type": "dict"},
            "specification": {"type": "path"},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, facts=look(module))


if __name__ == "__main__":
    main()
