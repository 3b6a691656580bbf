#!/usr/bin/python
"""The documentation of an action: it runs on the controller, so nothing of it is sent to a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gunicorn_fastapi_hook
short_description: Say that a run is about to change an application
description:
  - Runs the hook C(before_deploy) of C(gunicorn_fastapi_hooks) on the controller, once in a run, and fails with it.
  - The callback C(gunicorn_fastapi_hooks) runs the others when the run is over.
  - Does nothing in check mode, and where no host is going to change.
options:
  application: {type: str, required: true, description: Name of the application.}
  action: {type: str, required: true, choices: [deploy, rollback], description: What the run does.}
  hosts:
    type: list
    elements: dict
    required: true
    description: The hosts, each with its C(name), the releases C(from) and C(to), and whether it C(changes).
  commit: {type: str, description: "The commit of the source, where it is known."}
author: the gunicorn_fastapi maintainers (@gunicorn-fastapi)
"""

EXAMPLES = r"""
- name: Run before_deploy
  gunicorn_fastapi.systemd.gunicorn_fastapi_hook:
    application: shop
    action: deploy
    hosts: [{name: web1, from: "", to: 0d6a72e61398, changes: true}]
"""

RETURN = r"""
about: {type: dict, returned: when something is going to change, description: What hooks are told of the run.}
"""
