#!/usr/bin/python
"""The documentation of an action: it runs on the controller, so nothing of it is sent to a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gunicorn_fastapi_lock
short_description: Find an application's list of packages
description:
  - Looks in the application's directory, and upwards to the top of its source. Changes nothing.
  - Says what uv has to be asked on a host where the list has no hashes, or only uv reads it.
options:
  source: {type: path, required: true, description: The source's directory on the controller.}
  app_path: {type: str, default: "", description: The application's directory in it.}
  requirements: {type: str, required: true, description: "The list by its path from there, empty to find it."}
  extras: {type: list, elements: str, required: true, description: Extras that are installed too.}
  groups: {type: list, elements: str, required: true, description: Groups that are installed too.}
  upgrade: {type: list, elements: str, required: true, description: Packages that are taken newer than pinned.}
  python: {type: str, required: true, description: The version of the host's Python.}
  machine: {type: str, required: true, description: The host's architecture.}
  date: {type: str, required: true, description: "As of which day uv resolves, empty for today."}
author: the gunicorn_fastapi maintainers (@gunicorn-fastapi)
"""

EXAMPLES = r"""
- name: Find the list of packages
  gunicorn_fastapi.systemd.gunicorn_fastapi_lock:
    source: /home/me/shop
    requirements: ""
    extras: []
    groups: []
    upgrade: []
    python: "3.13.5"
    machine: x86_64
    date: ""
"""

RETURN = r"""
path: {type: str, returned: success, description: "The list that counts, from the top of the source."}
said: {type: str, returned: success, description: The same in words.}
dated: {type: bool, returned: success, description: Whether uv chooses versions that it does not pin.}
usual: {type: bool, returned: success, description: Whether it is a requirements.txt with hashes in that directory.}
key: {type: str, returned: success, description: "Under which name uv's answer is kept, empty when it is not asked."}
question: {type: dict, returned: success, description: "What uv is asked, empty when it is not."}
"""
