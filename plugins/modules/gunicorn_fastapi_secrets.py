#!/usr/bin/python
"""The documentation of an action: it runs on the controller, so nothing of it is sent to a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gunicorn_fastapi_secrets
short_description: Collect what a host is to keep encrypted for an application
description:
  - Takes the variables C(gunicorn_fastapi_credentials), C(gunicorn_fastapi_secret_environment) and
    C(gunicorn_fastapi_env_file), so that they are no arguments, which are shown. Its task needs C(no_log).
options: {}
author: the gunicorn_fastapi maintainers (@gunicorn-fastapi)
"""

EXAMPLES = r"""
- name: Read the secrets
  gunicorn_fastapi.systemd.gunicorn_fastapi_secrets:
  register: secrets
  no_log: true
"""

RETURN = r"""
credentials: {type: dict, returned: success, description: The content of each by its name.}
"""
