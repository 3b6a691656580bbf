"""The handshake of a WebSocket (RFC 6455, 4.2): what a client asks, and what it is told."""

import base64
import binascii
import hashlib
import logging
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, unquote

from uvicorn.protocols.utils import get_client_addr

from gunicorn_fastapi.framing import Refusal
from gunicorn_fastapi.log import words
from gunicorn_fastapi.log.bounded import Bounded
from gunicorn_fastapi.upstream import INVALID_IN_NAMES, INVALID_IN_VALUES, STATUS_LINE

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

MOST = 200
"""Handshakes of which a worker writes a record each in a second."""

UNANSWERED = 10
"""The same, of those that the application has left without an answer."""

_records = Bounded(logging.getLogger("uvicorn.error"), logging.INFO, MOST)
_unanswered = Bounded(logging.getLogger("uvicorn.error"), logging.ERROR, UNANSWERED)

Values = dict[bytes, list[bytes]]
Headers = Iterable[tuple[bytes, bytes]]


def check(headers: Headers) -> Values:
    """The values of a handshake's own headers; refuse one that is not valid."""
    values: Values = {}
    for name, value in headers:
        if name.startswith(b"sec-websocket-"):
            values.setdefault(name, []).append(value.strip())
    if values.get(b"sec-websocket-version") != [b"13"]:
        raise Refusal(426, "a version of WebSockets other than 13", [(b"sec-websocket-version", b"13")])
    keys = values.get(b"sec-websocket-key", [])
    try:
        is_valid = len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == 16
    except binascii.Error:
        is_valid = False
    if not is_valid:
        raise Refusal(400, "a handshake without a valid key")
    return values


def listed(values: Values, name: bytes) -> str:
    """All values of a header that is a list."""
    return b",".join(values.get(name, [])).decode("latin-1")


def scope(http: Any, values: Values) -> dict[str, Any]:
    """What the application is told, made from what it would have been told of a request."""
    raw_path, root_path = http.scope["raw_path"], http.root_path
    names = listed(values, b"sec-websocket-protocol").split(",")
    return {
        **http.scope,
        "type": "websocket",
        "asgi": {"version": http.config.asgi_version, "spec_version": "2.4"},
        "scheme": "wss" if http.scheme == "https" else "ws",
        "path": root_path + unquote(raw_path.decode("ascii")),
        "raw_path": root_path.encode("ascii") + raw_path,
        "subprotocols": [name.strip() for name in names if name.strip()],
        "extensions": {"websocket.http.response": {}},
    }


def accepted(values: Values, headers: Headers, extensions: str, subprotocol: str | None) -> bytes:
    """The answer that makes a WebSocket of the connection. ``headers``: the server's and the application's."""
    digest = hashlib.sha1(values[b"sec-websocket-key"][0] + MAGIC, usedforsecurity=False).digest()
    own = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade"), (b"sec-websocket-accept", base64.b64encode(digest))]
    if extensions:
        own.append((b"sec-websocket-extensions", extensions.encode()))
    if subprotocol:
        own.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
    others = [header for header in headers if header[0].lower() not in (b"connection", b"upgrade")]
    return head(101, [*own, *others])


def head(status: int, headers: Headers) -> bytes:
    """The head of an answer."""
    lines = [STATUS_LINE[status]]
    for name, value in headers:
        if INVALID_IN_NAMES.search(name) or INVALID_IN_VALUES.search(value):
            raise RuntimeError("Invalid HTTP header.")
        lines += [name, b": ", value, b"\r\n"]
    return b"".join([*lines, b"\r\n"])


def log(asked: Any, outcome: str) -> None:
    """Log how a handshake was answered, in uvicorn's words; of many in a second the rest as a number."""
    address, query = words.client(get_client_addr(asked)), asked["query_string"].decode("latin-1")
    target = quote(asked["path"]) + (f"?{query}" if query else "")
    _records.log(address.rpartition(":")[0] or "-", '%s - "WebSocket %s" %s', address, target, outcome)


def log_unanswered(asked: Any) -> None:
    """Log that the application has ended without an answer. It has its own reason, but a client that asks suffices."""
    address = words.client(get_client_addr(asked))
    text = "ASGI callable returned without completing handshake."
    _unanswered.log(address.rpartition(":")[0] or "-", text)
