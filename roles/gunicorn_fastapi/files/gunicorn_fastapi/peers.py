"""Who is at the other end of a connection, as logs, the application and ``forwarded_allow_ips`` have it."""

import socket
from typing import Any

UNIX = ("unix", 0)
"""Whoever comes by a unix socket: such a peer has no address."""

MAPPED = "::ffff:"
"""How the kernel writes an address of IPv4 that came by a socket of IPv6."""


def named(client: Any, transport: Any) -> Any:
    """The host and port of a peer. None where the kernel cannot tell any more, which is believed nothing."""
    if client is None:
        endpoint = transport.get_extra_info("socket")
        return UNIX if endpoint is not None and endpoint.family == socket.AF_UNIX else None
    host, port = client
    return (host[len(MAPPED) :], port) if host.startswith(MAPPED) and "." in host else client
