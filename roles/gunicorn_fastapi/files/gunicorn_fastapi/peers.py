"""Who is at the other end of a connection, as logs, the application and ``forwarded_allow_ips`` have it."""

import re
import socket
from typing import Any

UNIX = ("unix", 0)
"""Whoever comes by a unix socket: such a peer has no address."""

MAPPED = re.compile(r"(?<![0-9a-f:])::ffff:(?=\d{1,3}(\.\d{1,3}){3}(?![\d.]))", re.IGNORECASE | re.ASCII)
"""How the kernel, and proxies after it, write an address of IPv4 that came by a socket of IPv6."""


def unmapped(text: str) -> str:
    """A text with its addresses of IPv4 as such: an address, or a list of them as proxies forward it."""
    return MAPPED.sub("", text)


def named(client: Any, transport: Any) -> Any:
    """The host and port of a peer. None where the kernel cannot tell any more, which is believed nothing."""
    if client is None:
        endpoint = transport.get_extra_info("socket")
        return UNIX if endpoint is not None and endpoint.family == socket.AF_UNIX else None
    host, port = client
    return (unmapped(host), port) if ":" in host else client
