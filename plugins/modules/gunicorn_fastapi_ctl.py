#!/usr/bin/python
"""Ask an application's control command."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gunicorn_fastapi_ctl
short_description: Ask an application's control command
description:
  - Runs NAMEctl on the host with C(--json), and reports what it says as its result. It decides by itself
    whether there is anything to do, so to ask again changes nothing.
  - In check mode only what reads is asked, and all else is skipped.
options:
  name: {type: str, required: true, description: Name of the application.}
  command:
    type: list
    elements: str
    required: true
    description: The command and its arguments, as on the command line.
  stdin:
    type: str
    description: What it reads from standard input. Not for the system's log.
  advice:
    type: str
    default: ""
    description: What to say where a failure may come from packages that do not fit the application.
author: the gunicorn_fastapi maintainers (@gunicorn-fastapi)
"""

EXAMPLES = r"""
- name: Roll back
  gunicorn_fastapi_ctl:
    name: fastapi
    command: [rollback, previous]
"""

RETURN = r"""
said: {type: list, elements: str, returned: always, description: What it told the operator.}
answer: {type: dict, returned: always, description: "Its answer, such as the state of the service."}
"""

import json
import os
import re

from ansible.module_utils.basic import AnsibleModule

READS = frozenset(
    {"status", "list", "history", "logs", "tasks", "packages", "settled", "resolve", "locked", "prepared"}
)

MISFIT = re.compile(r"\b(TypeError|AttributeError|ImportError|ModuleNotFoundError|PydanticUserError): ")
"""What an application says that was written for other versions of its packages."""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "command": {"type": "list", "elements": "str", "required": True},
            "stdin": {"type": "str", "no_log": True},
            "advice": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    name, command = module.params["name"], module.params["command"]
    if module.check_mode and command[0] not in READS:
        module.exit_json(changed=False, skipped=True, said=[], answer={})
    program = f"/usr/local/sbin/{name}ctl"
    if not os.access(program, os.X_OK):
        module.fail_json(
            msg=f"{program} not found: {name} is not installed on this host, or was uninstalled meanwhile. Deploy it",
            said=[],
            answer={},
        )
    code, out, err = module.run_command(
        [program, command[0], "--json", *command[1:]],  # what comes last may be an application's words
        data=module.params["stdin"],
        binary_data=True,
        handle_exceptions=False,
        expand_user_and_vars=False,  # root's variables are nothing that a value may ask for
    )
    try:
        answer = json.loads(out)
    except ValueError:
        # Not what the command says of itself, which is safe to show, but of the interpreter or of what is in its place.
        said = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in err + out)
        module.fail_json(msg=said.strip() or f"{program} exited with status {code}", said=[], answer={})
    if isinstance(answer, list):
        module.exit_json(changed=False, said=[], answer={"rows": answer})
    said = answer.pop("said", [])
    changed = bool(answer.pop("changed", False))
    if code or answer.pop("failed", False):
        reason = answer.get("reason", err.strip())
        if module.params["advice"] and MISFIT.search(reason):
            reason = f"{reason}\n{module.params['advice']}"
        module.fail_json(msg=reason, changed=changed, said=said, answer=answer)
    module.exit_json(changed=changed, said=said, answer=answer)


if __name__ == "__main__":
    main()
