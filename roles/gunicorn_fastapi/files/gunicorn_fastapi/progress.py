"""Whether a client takes what it is sent, and whether it is there, as the kernel knows."""

import asyncio
import select
import socket
import struct

TCP_INFO_SIZE = 128
BYTES_ACKED = 120
"""Where struct tcp_info has tcpi_bytes_acked."""


class Progress:
    """When something was taken last, as far as it was looked at. Times of the loop, in seconds.

    What waits in the process is not enough: the kernel has some hundred KB more, and asks for the next piece when a
    third of it has gone. A client of 10 KB a second takes a minute for that.
    """

    __slots__ = ("_seen", "_transport", "since")

    def __init__(self, transport: asyncio.Transport, now: float) -> None:
        self._transport = transport
        self._seen: tuple[int, int] | None = None
        self.since = now

    def look(self, is_waited_for: bool, now: float) -> float:
        """Once a second: since when nothing has been taken."""
        seen = (self._transport.get_write_buffer_size(), self._acknowledged()) if is_waited_for else None
        if seen is None or seen != self._seen:
            self._seen, self.since = seen, now
        return self.since

    def _acknowledged(self) -> int:
        """Bytes that the client's kernel has taken; 0 for sockets that do not tell."""
        connection = self._transport.get_extra_info("socket")
        try:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_SIZE)
        except OSError:
            return 0
        return int(struct.unpack_from("=Q", info, BYTES_ACKED)[0]) if len(info) == TCP_INFO_SIZE else 0


def has_hung_up(transport: asyncio.BaseTransport) -> bool:
    """Whether the other end is gone, and not only silent: a unix socket is closed, a TCP connection was reset."""
    look = select.poll()
    look.register(transport.get_extra_info("socket").fileno(), 0)
    return any(event & select.POLLHUP for _, event in look.poll(0))
