#!/usr/bin/python
"""The documentation of an action: it runs on the controller, so nothing of it is sent to a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gunicorn_fastapi_check
short_description: Refuse variables or a host that cannot be right
description:
  - Converts the variables of the role to their types and checks them; with O(found) it checks the host too.
  - Fails with a sentence for each thing that is wrong. Changes nothing.
options:
  specification: {type: path, required: true, description: The role's C(meta/argument_specs.yml).}
  found: {type: dict, description: What M(gunicorn_fastapi.systemd.gunicorn_fastapi_host) has found.}
  size: {type: int, description: Bytes of a release before its requirements. Then only the room for it is checked.}
  directory: {type: path, description: Where releases go.}
author: the gunicorn_fastapi maintainers (@gunicorn-fastapi)
"""

EXAMPLES = r"""
- name: Check the variables
  gunicorn_fastapi.systemd.gunicorn_fastapi_check:
    specification: "{{ role_path }}/meta/argument_specs.yml"
"""

RETURN = r"""
inputs:
  type: dict
  returned: success
  description: The variables in their types, but for environment and credentials.
pythons:
  type: dict
  returned: success
  description: What a version in C(gunicorn_fastapi_python) means on each machine; empty for an interpreter.
"""
