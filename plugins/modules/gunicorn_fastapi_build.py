#!/usr/bin/python
"""The documentation of an action: it sends a file, and runs M(gunicorn_fastapi_ctl) on the host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gunicorn_fastapi_build
short_description: Have a release built on a host
description:
  - Sends an archive to the host, and asks the application's control command to build the release in it.
options:
  name: {type: str, required: true, description: Name of the application.}
  archive: {type: path, required: true, description: The archive on the controller.}
  command:
    type: list
    elements: str
    required: true
    description: The command that builds it, and its arguments.
  request:
    type: str
    required: true
    description: What it reads from standard input, as JSON; the archive's path on the host is added.
author: the gunicorn_fastapi maintainers (@gunicorn-fastapi)
"""

EXAMPLES = r"""
- name: Install its packages
  gunicorn_fastapi_build:
    name: fastapi
    archive: /home/me/.cache/gunicorn_fastapi/release.tar.gz
    command: [build]
    request: "{{ {'release': release, 'virtualenv': virtualenv, 'python': '/usr/bin/python3'} | to_json }}"
"""

RETURN = r"""
said: {type: list, elements: str, returned: always, description: What it told the operator.}
answer: {type: dict, returned: always, description: "The release, if it is there."}
"""
