#!/usr/bin/python
"""The documentation of an action: it runs on the controller, so nothing of it is sent to a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gunicorn_fastapi_source
short_description: Have an application's source on the controller
description:
  - Takes the variable C(gunicorn_fastapi_app_source), fetches a commit or unpacks an archive into O(cache), and finds
    the application in it. All hosts of a run get the same commit of a branch.
  - Executes nothing of the source, and changes nothing but O(cache).
options:
  cache: {type: path, required: true, description: Where clones and unpacked archives are kept on the controller.}
  path: {type: str, required: true, description: The application's directory in the source.}
  version: {type: str, required: true, description: The operator's own name of the version.}
  module: {type: str, required: true, description: "The application; it is looked for when this is empty."}
author: the gunicorn_fastapi maintainers (@gunicorn-fastapi)
"""

EXAMPLES = r"""
- name: Find the source
  gunicorn_fastapi.systemd.gunicorn_fastapi_source:
    cache: /home/me/.cache/gunicorn_fastapi
    path: backend
    version: ""
    module: ""
"""

RETURN = r"""
directory: {type: str, returned: success, description: Directory with the source.}
origin: {type: dict, returned: success, description: "What people are shown of it, such as its commit."}
app_module: {type: str, returned: success, description: "The application, MODULE:ATTRIBUTE."}
said: {type: str, returned: success, description: "What was found and where; empty when it was given."}
"""
