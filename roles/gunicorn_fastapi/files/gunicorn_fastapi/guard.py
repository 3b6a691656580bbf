"""What clients may take up of one worker, all together, and who has to go when it is more.

What is here knows connections by what :class:`Connection` says. HTTP's and the WebSockets' are such.
"""

import contextlib
import heapq
import ipaddress
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from gunicorn_fastapi import counts, peers
from gunicorn_fastapi.log.bounded import Bounded

logger = logging.getLogger("uvicorn.error")

HELD = 64 * 1024 * 1024
"""Bytes of incomplete requests that a worker keeps for all clients together."""

PRIVATE = 64
"""Connections by the private address, beside those of the public ones."""

LINGER = 2
"""Seconds that a connection stays after its 503: to close with bytes unread would take the answer from the client."""

REFUSALS = 200
"""Refusals of which a worker writes a record each in a second."""

AWAITED, IDLE, SLOW, BUSY = range(4)
"""What a connection is: awaited are a request's headers; idle between two requests; slow with a body, a message or an
answer; busy is the application."""


class Connection(Protocol):
    """What the guard knows of one."""

    client: Any
    is_private: bool
    transport: Any
    connections: set[Any]

    def state(self) -> tuple[int, float]:
        """What it is, and since when."""

    def overdue(self, now: float) -> str:
        """Called once a second: why it has to go, or nothing."""

    def release(self) -> None:
        """Forget what was received."""


class Held:
    """Bytes that are kept for all clients together. Those who have kept theirs for longest come first."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.total = 0
        self._sizes: dict[Any, int] = {}

    def keep(self, connection: Any, size: int) -> None:
        """So many bytes are kept for a connection now."""
        self.total += size - self._sizes.get(connection, 0)
        if size:
            self._sizes[connection] = size
        else:
            self._sizes.pop(connection, None)

    def too_many(self) -> Iterator[Any]:
        """Those who have to go, until the rest is within the bound."""
        while self.total > self.bound:
            connection = next(iter(self._sizes), None)
            self.keep(connection, 0)
            yield connection


@dataclass
class Guard:
    """The bounds, and who had to go. Sizes in bytes, times in seconds.

    ``body_max``: 0 is unlimited. ``stall_timeout``: that long a client may send nothing of a body, or take nothing of
    an answer; any piece in time will do, for a slow client is no enemy. Proxies that are ``trusted``, and whoever comes
    by a unix socket, have no such bound: their client may have paused.
    """

    target_max: int = 8190
    headers_max: int = 100
    header_max: int = 64 * 1024
    header_timeout: float = 10
    stall_timeout: float = 300
    body_max: int = 0
    connections: int = 4096
    message_max: int = 1024 * 1024
    messages_max: int = 64 * 1024 * 1024
    trusted: str | list[str] = ""
    usual: list[tuple[bytes, bytes]] | None = None
    """What the last good request told about itself, if it was no more than its host. Saves a second look."""
    count: Callable[[int], None] = lambda _: None
    """Told of each refusal, and of each connection that a bound has closed, by its column in the table of counts."""
    ended: Callable[[float], None] = lambda _: None
    """Told of each answer that a client has got whole, with the seconds since its request."""
    websockets: set[Any] = field(default_factory=set)
    _by_private_address: set[Any] = field(default_factory=set)
    _refused: dict[Any, float] = field(default_factory=dict)
    _closed: Counter[tuple[str, str]] = field(default_factory=Counter)
    _next_look: float = 0
    refused: Bounded = field(default_factory=lambda: Bounded(logger, logging.WARNING, REFUSALS))

    def __post_init__(self) -> None:
        self.small = min(self.target_max, self.header_max)
        self.heads = Held(HELD)
        self.messages = Held(self.messages_max)
        names = self.trusted.split(",") if isinstance(self.trusted, str) else self.trusted
        self._trusted = [name.strip() for name in names]
        self._networks = _networks(self._trusted)

    # --- How many ---------------------------------------------------------------------------------

    def admit(self, newcomer: Connection, now: float) -> str:
        """Make room for a connection, or say why there is none.

        Those go who have kept the worker waiting for longest: an eighth of all at once, since to find them is a look
        at each. Who is told that there is no room stays for a moment, but in a room of its own, and is no reason to
        let another one in.
        """
        is_private = newcomer.is_private
        if is_private:
            self._by_private_address.add(newcomer)
            count, bound = len(self._by_private_address), PRIVATE
        else:
            count = len(newcomer.connections) - len(self._by_private_address) - len(self._refused)
            bound = self.connections
        if count <= bound:
            return ""
        reason = f"more than {bound} connections"
        waiting = [
            (state, connection)
            for connection in _guarded(newcomer.connections)
            if connection.is_private is is_private
            and connection is not newcomer
            and connection not in self._refused
            and (state := connection.state())[0] < BUSY
        ]
        for _, connection in heapq.nsmallest(1 + bound // 8, waiting, key=lambda pair: pair[0]):
            self.close(connection, reason)
        if waiting:
            return ""
        self._by_private_address.discard(newcomer)
        self._refused[newcomer] = now
        while len(self._refused) > max(8, bound // 64):
            self._drop(next(iter(self._refused)))
        return reason

    def admits_websocket(self) -> bool:
        """A quarter of the connections is for those who ask once: a WebSocket stays for as long as it likes."""
        return len(self.websockets) < max(self.connections * 3 // 4, 1)

    def forget(self, connection: Connection) -> None:
        """A connection has ended."""
        connection.release()
        if self.websockets:
            self.websockets.discard(connection)
        if connection.is_private:
            self._by_private_address.discard(connection)
        if self._refused:
            self._refused.pop(connection, None)

    # --- How long ---------------------------------------------------------------------------------

    def look(self, connections: Collection[Any], now: float) -> None:
        """Once a second, close who has kept the worker waiting for too long, and tell how many were closed."""
        late = now - self._next_look
        if late < 0:
            return
        self._next_look = now + 1
        if late > self.header_timeout / 2:
            return  # the application kept the loop busy: what clients have sent meanwhile is to be read first
        for connection in [connection for connection, since in self._refused.items() if now - since > LINGER]:
            self._drop(connection)
        for connection in _guarded(connections):
            if reason := connection.overdue(now):
                self.close(connection, reason)
        self._tell()

    def may_stall(self, client: Any) -> bool:
        """Whether a client may take nothing for as long as it likes."""
        return self.stall_timeout <= 0 or self.is_proxy(client)

    def is_proxy(self, client: Any) -> bool:
        """Whether a peer speaks for others, as far as that can be known."""
        if client in (None, peers.UNIX) or "*" in self._trusted:
            return True
        return any(_address(client[0]) in network for network in self._networks)

    # --- Who has to go ----------------------------------------------------------------------------

    def shed(self) -> None:
        """Close those who have kept parts of requests for longest, until the rest is within the bound."""
        for connection in self.heads.too_many():
            self.close(connection, f"incomplete requests of more than {self.heads.bound} bytes")

    def close(self, connection: Connection, reason: str) -> None:
        """Close a connection, and tell so with the next look."""
        self._closed[reason, _host(connection.client)] += 1
        self.count(counts.CLOSED)
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        connection.connections.discard(connection)
        self.forget(connection)
        connection.transport.abort()

    def warn(self, client: Any, words: str) -> None:
        """Tell what a client did wrong. Of many in a second the rest is told as a number."""
        host, port = client or ("-", "-")
        self.refused.log(str(host), "%s:%s - %.200s", host, port, words)

    def _tell(self) -> None:
        """One record for each reason, with the client whom it happened to most."""
        for reason in {reason for reason, _ in self._closed}:
            hosts = Counter({host: count for (why, host), count in self._closed.items() if why == reason})
            host, count = hosts.most_common(1)[0]
            logger.warning("Closed %d connection(s), %d of %s: %s", hosts.total(), count, host, reason)
        self._closed.clear()


def _guarded(connections: Collection[Any]) -> list[Connection]:
    """All but those of protocols that have no such bounds."""
    return [connection for connection in connections if hasattr(connection, "overdue")]


def _host(client: Any) -> str:
    return str(client[0]) if client else "-"


def _address(host: str) -> Any:
    """An address as networks have it: one of IPv4 that came by a socket of IPv6 is one of IPv4."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def _networks(names: list[str]) -> list[Any]:
    """The networks of gunicorn's ``forwarded_allow_ips``; uvicorn takes names besides, which no connection has."""
    found = []
    for name in names:
        with contextlib.suppress(ValueError):
            found.append(ipaddress.ip_network(name, strict=False))
    return found
