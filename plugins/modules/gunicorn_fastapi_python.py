#!/usr/bin/python
"""The documentation of an action: it runs on the controller, so nothing of it is sent to a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gunicorn_fastapi_python
short_description: Have a build of Python on the controller
description:
  - Fetches the archive of a build that stands alone, compares its digest, and refuses what is no Python for the
    machine. Executes nothing of it, and changes nothing but O(cache).
options:
  build: {type: dict, required: true, description: The build that a host lacks.}
  cache: {type: path, required: true, description: Where archives are kept on the controller.}
author: the gunicorn_fastapi maintainers (@gunicorn-fastapi)
"""

EXAMPLES = r"""
- name: Have the Python that the host lacks
  gunicorn_fastapi.systemd.gunicorn_fastapi_python:
    build: "{{ host.python_build }}"
    cache: /home/me/.cache/gunicorn_fastapi
"""

RETURN = r"""
archive: {type: str, returned: success, description: Path of the verified archive on the controller.}
"""
