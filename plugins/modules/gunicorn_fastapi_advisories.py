#!/usr/bin/python
"""The documentation of an action: it runs on the controller, so nothing of it is sent to a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gunicorn_fastapi_advisories
short_description: Say which packages have known vulnerabilities
description:
  - Compares packages with advisories in the OSV format, which are files on the controller. Asks nobody else.
options:
  path: {type: path, required: true, description: "A file, or a directory of files that end in C(.json)."}
  packages: {type: list, elements: dict, required: true, description: "As the control command lists them."}
author: the gunicorn_fastapi maintainers (@gunicorn-fastapi)
"""

EXAMPLES = r"""
- name: Compare the packages with the advisories
  gunicorn_fastapi.systemd.gunicorn_fastapi_advisories:
    path: advisories
    packages: [{name: starlette, version: 1.3.0}]
"""

RETURN = r"""
vulnerable: {type: list, elements: str, returned: success, description: A sentence for each package.}
"""
