#!/usr/bin/python
"""The documentation of an action: it runs on the controller, so nothing of it is sent to a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gunicorn_fastapi_source
short_description: Have an application's source on the controller
description:
  - Takes the variable C(gunicorn_fastapi_app_source), fetches a commit or unpacks an archive into O(cache), and finds
    the application in it. All hosts of a run get the same commit of a branch.
  - Executes nothing of the source but O(build_command), which gets C(gunicorn_fastapi_build_environment), and changes
    nothing but O(cache). In check mode it executes nothing.
options:
  cache: {type: path, required: true, description: Where clones and unpacked archives are kept on the controller.}
  path: {type: str, required: true, description: The application's directory in the source.}
  version: {type: str, required: true, description: The operator's own name of the version.}
  module: {type: str, required: true, description: "The application; it is looked for when this is empty."}
  exclude: {type: list, elements: str, default: [], description: Shell patterns of names to leave out.}
  include: {type: list, elements: str, default: [], description: Patterns as in .gitignore of what it left out.}
  build_command: {type: str, default: "", description: What is run in a clean copy of the source.}
  build_timeout: {type: int, default: 900, description: Seconds that it may take.}
  rebuild: {type: bool, default: false, description: Whether it runs again for what an earlier run has built.}
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
built: {type: bool, returned: success, description: "Whether it is what a build has left."}
said: {type: list, elements: str, returned: success, description: "What was found and where, and of the build."}
"""
