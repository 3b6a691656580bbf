"""What an instance has to answer beside its health path, as an operator writes it and as a release has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .inputs import matches, shown, to_int

KEYS = ("path", "status", "host", "contains", "headers")
PATH = r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*"
HOST = r"(https://)?[A-Za-z0-9][A-Za-z0-9.-]{0,252}(:[0-9]{1,5})?"
# What decides how a request is read, and what the question has already.
OURS = frozenset({"host", "connection", "content-length", "transfer-encoding", "upgrade", "expect", "user-agent"})
MOST = 50


def wrong(check: Mapping[str, Any]) -> str:
    """What is wrong with one check, as the rest of a sentence; empty when nothing is. Tells no header's value."""
    if unknown := [key for key in check if key not in KEYS]:
        return f"has {', '.join(map(shown, unknown))}, and a check has {', '.join(KEYS)}"
    if not isinstance(path := check.get("path"), str) or not matches(PATH, path):
        return (
            f"has the path {shown(path)}. Give one that begins with a slash, such as /api/items, with %20 for a blank"
        )
    try:
        if not 200 <= to_int(check.get("status", 200)) <= 599:
            raise ValueError
    except ValueError:
        return f"has the status {shown(check['status'])}. Give a number from 200 to 599, or none for any of 2xx"
    host = check.get("host", "localhost")
    if not isinstance(host, str) or not matches(HOST, host):
        return f"has the host {shown(host)}. Give one like shop.example.com or https://shop.example.com"
    contains = check.get("contains", "x")
    if not isinstance(contains, str) or not contains:
        return f"has to contain {shown(contains)}. Give a text, in quotes"
    headers = check.get("headers", {})
    if not isinstance(headers, Mapping):
        return "has headers that are no mapping. Write them as {Accept: text/html}"
    for name, value in headers.items():
        if not matches(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", str(name)) or str(name).lower() in OURS:
            return f"has the header {shown(name)}, which it cannot send. Remove it; the host is a key of its own"
        if not isinstance(value, str) or not matches(r"[!-~]([ -~]*[!-~])?", value):
            return f"has a header {name} whose value is no text that a header can have. Put quotes around it"
    return ""


def problem(inputs: Mapping[str, Any]) -> str:
    """The check of the variable."""
    checks = inputs["gunicorn_fastapi_checks"]
    for number, check in enumerate(checks, 1):
        if why := wrong(check):
            return f"gunicorn_fastapi_checks: check {number} {why}."
    if len(checks) > MOST:
        return f"gunicorn_fastapi_checks: {len(checks)} checks are more than {MOST}. Each start waits for all of them."
    return ""


def rendered(checks: list[dict[str, Any]]) -> str:
    """The file of a release that the control command reads."""
    whole = [
        {
            "path": check["path"],
            "status": to_int(check.get("status", 0)),
            "host": check.get("host", ""),
            "contains": check.get("contains", ""),
            "headers": dict(check.get("headers", {})),
        }
        for check in checks
    ]
    return json.dumps(whole, indent=1, sort_keys=True) + "\n"
