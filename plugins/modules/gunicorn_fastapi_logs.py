#!/usr/bin/python
"""The documentation of an action: it runs on the controller, so nothing of it is sent to a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gunicorn_fastapi_logs
short_description: Show log records of all hosts in order of time
description:
  - With O(command), tells how the controller runs it on the host; all else is for a task that runs once.
  - Prints the records that O(hosts) has, or with O(follow) those that its commands print, until they end.
options:
  command: {type: list, elements: str, description: "The control command, with its arguments."}
  hosts: {type: dict, description: "The records of each host, or with O(follow) the words of its command."}
  follow: {type: bool, default: false, description: Whether to go on.}
  json: {type: bool, default: false, description: Whether to print a JSON object a line.}
author: the gunicorn_fastapi maintainers (@gunicorn-fastapi)
"""

EXAMPLES = r"""
- name: Show records
  gunicorn_fastapi.systemd.gunicorn_fastapi_logs:
    hosts: {web1: [{time: "2026-11-30T14:00:00.000000+00:00", unit: shop.service, priority: 6, message: started}]}
  run_once: true
"""

RETURN = r"""
words: {type: list, elements: str, returned: with a command, description: "What runs it, word by word."}
"""
