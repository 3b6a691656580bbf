"""Clients that mean harm, in a process of their own: ``attacks.py KIND SECONDS``. Prints how many connections it had.

Each kind goes on for those seconds, and opens a new connection for each that the service has closed.
"""

import itertools
import socket
import struct
import sys
import time
import zlib
from collections.abc import Callable

ADDRESS = ("127.0.0.1", 80)

PATIENCE = 20
"""Seconds after which an answer that should be there is not."""

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
)

TURNS = 100
"""How often a WebSocket sends before it is another one."""

MIB = 1024 * 1024

FIN, TEXT, PING, COMPRESSED = 128, 1, 9, 64


def frame(first: int, payload: bytes) -> bytes:
    """A frame, with a mask that changes nothing."""
    size = len(payload)
    if size < 126:
        return bytes((first, 128 | size, 0, 0, 0, 0)) + payload
    return struct.pack(">BBQ", first, 255, size) + bytes(4) + payload


def bomb(size: int) -> bytes:
    """A compressed message of so many bytes, a thousandth of it on the wire."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = compressor.compress(b"a" * size) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return frame(FIN | COMPRESSED | TEXT, data[:-4])


class Crowd:
    """The connections of one attack."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.count = 0

    def is_over(self) -> bool:
        """Whether the time is."""
        return time.monotonic() >= self.end

    def connect(self, data: bytes) -> socket.socket:
        """A connection on which that was sent."""
        self.count += 1
        connection = socket.create_connection(ADDRESS, timeout=PATIENCE)
        connection.sendall(data)
        return connection

    def websocket(self) -> socket.socket:
        """One that was accepted."""
        connection = self.connect(HANDSHAKE + b"\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 101 ")
        connection.setblocking(False)
        return connection

    def send(self, number: int, data: Callable[[int], bytes]) -> None:
        """So many WebSockets send as much as is taken of them, and never read. Each is another one after a while."""
        sockets = [self.websocket() for _ in range(number)]
        for turn in itertools.count():
            for at, connection in enumerate(sockets):
                if self.is_over():
                    return
                try:
                    connection.send(data(at))
                except BlockingIOError:
                    pass
                except OSError:
                    self.replace(sockets, at)
                if turn % TURNS == at % TURNS > 0:
                    self.replace(sockets, at)
            time.sleep(0.01)

    def replace(self, sockets: list[socket.socket], at: int) -> None:
        """Have a new WebSocket in the place of one."""
        sockets[at].close()
        sockets[at] = self.websocket()

    def leave(self, rate: int, data: Callable[[int], bytes]) -> None:
        """So many clients a second come, send that, and leave at once by a reset. More would be a lack of CPU."""
        begin = time.monotonic()
        while not self.is_over():
            time.sleep(max(0.0, begin + self.count / rate - time.monotonic()))
            connection = self.connect(data(self.count))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()


def handshakes(crowd: Crowd) -> None:
    """Handshakes that do not end."""
    held = [crowd.connect(HANDSHAKE) for _ in range(1000)]
    while not crowd.is_over():
        time.sleep(0.1)
    del held


def deaf(crowd: Crowd) -> None:
    """WebSockets that send messages and take no answer."""
    message = frame(FIN | TEXT, b"a" * 60_000)
    crowd.send(300, lambda _: message)


def chatter(crowd: Crowd) -> None:
    """Pings, messages of a byte, and pieces of nothing, without end."""
    kinds = (
        frame(FIN | PING, b"") * 300,
        frame(FIN | TEXT, b"a") * 300,
        frame(TEXT, b"") + frame(0, b"") * 300,
    )
    crowd.send(60, lambda number: kinds[number % len(kinds)])


def unfinished(crowd: Crowd) -> None:
    """Messages of 1 MiB that lack the last byte, and messages of 15 KB that become 16 MiB."""
    kinds = (frame(FIN | TEXT, b"a" * MIB)[:-1], bomb(16 * MIB))
    held = []
    for number in itertools.count():
        if crowd.is_over():
            return
        connection = crowd.websocket()
        connection.settimeout(PATIENCE)
        try:
            connection.sendall(kinds[number % 2])
        except OSError:  # refused in the middle of it
            connection.close()
        held.append(connection)
        if len(held) > 400:
            held.pop(0).close()


def leavers(crowd: Crowd) -> None:
    """Clients that leave after nothing, half a request, a whole one, or a handshake."""
    request = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n"
    kinds = (b"", request[:20], request, HANDSHAKE + b"\r\n")
    crowd.leave(500, lambda number: kinds[number % len(kinds)])


def bodies(crowd: Crowd) -> None:
    """Clients that leave in the middle of a body, and while they are being answered."""
    kinds = (
        b"POST /body HTTP/1.1\r\nHost: shop\r\nContent-Length: 1000\r\n\r\n" + b"a" * 500,
        b"POST /body HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5\r\naaaaa\r\n",
        b"GET /wait HTTP/1.1\r\nHost: shop\r\n\r\n",
    )
    crowd.leave(100, lambda number: kinds[number % len(kinds)])


KINDS: dict[str, Callable[[Crowd], None]] = {
    kind.__name__: kind for kind in (handshakes, deaf, chatter, unfinished, leavers, bodies)
}


if __name__ == "__main__":
    attackers = Crowd(float(sys.argv[2]))
    KINDS[sys.argv[1]](attackers)
    print(attackers.count)
