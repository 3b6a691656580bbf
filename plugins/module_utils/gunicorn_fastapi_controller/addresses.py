"""What is wrong with the public addresses, and with who may connect to those that are unix sockets."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

from .inputs import matches, shown

Inputs = Mapping[str, Any]

# Bytes of sun_path, without the zero at its end.
UNIX_PATH_MAX = 107


def listening_address(value: str) -> str:
    """An address of a socket unit in its one form, so that two ways to write it are equal. Raises ValueError."""
    if value.startswith("/"):
        path_matches = matches(r"(/[\w.-]+)+", value) and not {".", ".."} & set(value.split("/"))
        if not path_matches or len(value.encode()) > UNIX_PATH_MAX:
            raise ValueError(value)
        return value
    form = re.fullmatch(r"(?:([0-9.]+)|\[([0-9a-fA-F:.]+)\]):([0-9]{1,5})", value, re.ASCII)
    if not form or not 1 <= int(form[3]) <= 65535:
        raise ValueError(value)
    host = ipaddress.IPv4Address(form[1]) if form[1] else ipaddress.IPv6Address(form[2])
    return f"{host}:{int(form[3])}"


def bind(inputs: Inputs) -> str:
    values = inputs["gunicorn_fastapi_bind"]
    seen: dict[str, str] = {}
    for value in values:
        try:
            address = listening_address(value)
        except ValueError:
            return (
                f"gunicorn_fastapi_bind: {shown(value)} is not ADDRESS:PORT, [ADDRESS]:PORT or /path/of/a/socket, with "
                f"an IP address, a port from 1 to 65535, or a path of {UNIX_PATH_MAX} bytes at most. "
                "Host names are not supported."
            )
        if address in seen:
            return (
                f"gunicorn_fastapi_bind: {shown(seen[address])} and {shown(value)} are the same address. Give it once."
            )
        if value.startswith("/") and (why := wrong_with_path(value, inputs.get("gunicorn_fastapi_name", ""))):
            return f"gunicorn_fastapi_bind: {shown(value)}: {why}"
        seen[address] = value
    for address, value in seen.items():
        host, _, port = address.rpartition(":")
        every = f"{'::' if ':' in host else '0.0.0.0'}:{port}"
        if address != every and every in seen and not address.startswith("/"):
            return f"gunicorn_fastapi_bind: {shown(seen[every])} includes {shown(value)}. Remove one of them."
    return "" if values else "gunicorn_fastapi_bind: [] has no address. Give at least one, such as 0.0.0.0:80."


def metrics_bind(inputs: Inputs) -> str:
    value = inputs["gunicorn_fastapi_metrics_bind"]
    if not value:
        return ""
    try:
        address = listening_address(value)
    except ValueError:
        return (
            f"gunicorn_fastapi_metrics_bind: {shown(value)} is not ADDRESS:PORT, [ADDRESS]:PORT or /path/of/a/socket. "
            "Give one such as 127.0.0.1:9464, or nothing."
        )
    for other in inputs["gunicorn_fastapi_bind"]:
        # Not its form, which has a check of its own.
        if other == value or (not value.startswith("/") and other.rpartition(":")[2] == address.rpartition(":")[2]):
            return (
                f"gunicorn_fastapi_metrics_bind: {shown(value)} is an address, or has the port, of "
                "gunicorn_fastapi_bind. Choose another port, such as 9464."
            )
    if value.startswith("/") and (why := wrong_with_path(value, inputs.get("gunicorn_fastapi_name", ""))):
        return f"gunicorn_fastapi_metrics_bind: {shown(value)}: {why}"
    return ""


def wrong_with_path(path: str, application: str) -> str:
    """What keeps a path from being a unix socket of root's."""
    # Whoever can write there could have root follow a link.
    for place in (f"/var/lib/{application}/", "/tmp/", "/var/tmp/", "/dev/shm/"):
        if path.startswith(place):
            return f"others than root can write to {place}. Choose a path such as /run/{application}.sock."
    if path.startswith(f"/run/{application}/"):
        return f"/run/{application} is for the private addresses. Choose a path such as /run/{application}.sock."
    name = path.rpartition("/")[2]
    if name in ("main.sock", "candidate.sock", "preflight.sock"):
        return f"{name} is the name of a private address. Choose a path such as /run/{application}.sock."
    return ""


def socket_mode(inputs: Inputs) -> str:
    value = inputs["gunicorn_fastapi_socket_mode"]
    if isinstance(value, str) and matches("0?[0-7]{3}", value):
        return ""
    why = "is a number, and 0660 without quotes is another one to YAML" if isinstance(value, int) else "is not a mode"
    return f'gunicorn_fastapi_socket_mode: {shown(value)} {why}. Give three octal digits in quotes, such as "0660".'


def owner(variable: str) -> Callable[[Inputs], str]:
    """The check of a name of a user or a group."""

    def check(inputs: Inputs) -> str:
        value = inputs[variable]
        if matches("[a-z_][a-z0-9_-]{0,30}", value):
            return ""
        return f"{variable}: {shown(value)} is not a name of a user or a group. Give one of the host, such as www-data."

    return check
