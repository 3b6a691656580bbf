"""Which clients may ask for which paths: the application is not asked by others.

It is done here and not by a proxy, since a proxy would have to be reloaded for it. So it holds for each address of the
application, and changes with the release.
"""

import ipaddress
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gunicorn_fastapi import peers
from gunicorn_fastapi.protocol import REST

EXEMPT = "gunicorn_fastapi.exempt"
"""Key of the scope of what root asks by the private address."""

ANSWER = b"403 Forbidden\n"


class Allowed:
    """An ASGI application around another one. ``paths``: networks by the path that they, and what is below, is for.

    Of several paths that fit the longest decides. It is inside of what finds the client behind a trusted proxy.
    """

    def __init__(self, app: Any, paths: Mapping[str, Sequence[str]]) -> None:
        self.app = app
        networks = {path.rstrip("/"): [ipaddress.ip_network(name) for name in names] for path, names in paths.items()}
        self._paths = sorted(networks.items(), key=lambda item: len(item[0]), reverse=True)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" or EXEMPT in scope or self._admits(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # 403 before it is accepted
        elif await is_read(scope, receive):
            headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(ANSWER))]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": ANSWER})

    def _admits(self, scope: Any) -> bool:
        """Whether the client may have the path as it came, and as an application might tidy it up."""
        path = scope["path"]
        root = scope.get("root_path", "")
        if root and path.startswith(f"{root}/"):
            path = path[len(root) :]
        tidy = posixpath.normpath(f"/{path.lstrip('/')}")
        return all(self._may_have(each, scope.get("client")) for each in (path, tidy))

    def _may_have(self, path: str, client: Any) -> bool:
        for prefix, networks in self._paths:
            if path == prefix or path.startswith(f"{prefix}/"):
                return lets_in(networks, client)
        return True


async def is_read(scope: Any, receive: Any) -> bool:
    """Read a body that a client is sending, so that it sees the answer behind a proxy, too (protocol.REST). False when
    the client has left."""
    rest, more = REST, (b"expect", b"100-continue") not in scope["headers"]
    while more and rest > 0:
        message = await receive()
        if message["type"] == "http.disconnect":
            return False
        rest -= len(message.get("body", b""))
        more = message.get("more_body", False)
    return True


def lets_in(networks: Iterable[Any], client: Any) -> bool:
    """Whether a client is in one of the networks. One without an address is not, such as an unknown proxy's on a unix
    socket."""
    try:
        address = ipaddress.ip_address(peers.unmapped(client[0]).partition("%")[0])
    except (TypeError, ValueError):
        return False
    return any(address in network for network in networks)
