"""What is wrong with the paths that only some clients may ask for."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from .inputs import matches, shown

VARIABLE = "gunicorn_fastapi_allowed_clients"


def is_network(value: object) -> bool:
    """Whether it is an address, or a network by its first address."""
    try:
        return isinstance(value, str) and bool(ipaddress.ip_network(value))
    except ValueError:
        return False


def allowed_clients(inputs: Mapping[str, Any]) -> str:
    """Which path or network cannot be right. Static files are Caddy's, which would not ask."""
    for path, networks in inputs[VARIABLE].items():
        if not matches(r"/|(/[A-Za-z0-9._~+@:-]+)+", path) or "/../" in f"{path}/" or "/./" in f"{path}/":
            return (
                f"{VARIABLE}: {shown(path)} is not a path of the application. Give one that begins with a slash and "
                "ends without one, such as /admin."
            )
        if not isinstance(networks, (list, tuple)) or not networks:
            return f"{VARIABLE}: {path} has no list of networks. Give one, such as [192.0.2.0/24, 2001:db8::/32]."
        if wrong := [network for network in networks if not is_network(network)]:
            return (
                f"{VARIABLE}: {shown(wrong)} of {path} are neither addresses nor networks. Give them as 192.0.2.7 or "
                "192.0.2.0/24; names are not looked up."
            )
        for prefix in inputs["gunicorn_fastapi_static"]:
            if f"{prefix}/".startswith(path.rstrip("/") + "/") or f"{path}/".startswith(f"{prefix}/"):
                return (
                    f"{VARIABLE}: {path} has to do with {prefix} of gunicorn_fastapi_static, which Caddy serves to "
                    "everybody. Name other paths, or have the application serve these files."
                )
    return ""
