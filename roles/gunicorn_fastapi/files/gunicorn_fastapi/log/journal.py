"""The journal's two ways to take records: lines of a stream, and its own protocol."""

import contextlib
import errno
import fcntl
import logging
import os
import socket
import struct
import termios
import time
import weakref
from collections.abc import Iterator

ADDRESS = "/run/systemd/journal/socket"

STREAMS = "/run/systemd/journal/stdout"

STDOUT = 1

BATCH = 32 * 1024
"""Bytes written in one go. The kernel keeps as much in one piece, whatever other processes write to the
same socket, and the journal takes longer lines for several records."""

PATIENCE = 1.0
"""Seconds to wait until the journal has read something."""


def priority(level: int) -> int:
    """The journal's priority for a level of ``logging``."""
    for least, number in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if level >= least:
            return number
    return 7


def field(name: str, value: object) -> bytes:
    """One field as the journal's protocol has it: with its length when the value has a newline."""
    data = str(value).encode("utf-8", "backslashreplace")
    if b"\n" in data:
        return b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(data)), data)
    return b"%s=%s\n" % (name.encode(), data)


def writes_to_journal(descriptor: int | None = None) -> bool:
    """Whether a descriptor, or else standard output, is the stream to the journal that systemd made."""
    with contextlib.suppress(OSError):
        stream = os.fstat(STDOUT if descriptor is None else descriptor)
        return os.environ.get("JOURNAL_STREAM") == f"{stream.st_dev}:{stream.st_ino}"
    return False


def copy_for(owner: object, descriptor: int) -> int:
    """A copy of a descriptor, for as long as its owner lives: an application may close the number, and a client's
    connection or a file of the application's gets it."""
    copy = os.dup(descriptor)
    weakref.finalize(owner, os.close, copy).atexit = False
    return copy


def write(descriptor: int, data: bytes) -> None:
    """Write all of it."""
    while data:
        data = data[os.write(descriptor, data) :]


def batches(lines: list[bytes]) -> Iterator[bytes]:
    """The lines in as few pieces as there can be."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if size + len(line) > BATCH:
            yield b"".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    yield b"".join(piece)


def wait_until_read(descriptor: int) -> None:
    """Wait until the journal has read what was sent through a socket, at most for ``PATIENCE``."""
    deadline = time.monotonic() + PATIENCE
    while any(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4))) and time.monotonic() < deadline:
        time.sleep(0.0002)


class Journal:
    """The journal's own protocol."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def _connect(self) -> None:
        """Look the address up once instead of for each record."""
        self._socket.close()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.connect(ADDRESS)

    def send(self, entry: bytes) -> None:
        """Send one record, of any size. Waits while the journal's queue is full.

        Also after close(): logging.config closes every handler there is before it makes its own, and when
        that fails, the handler of last resort has to tell. And after the journal's socket was made anew.
        """
        try:
            self._send(entry)
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.ENOTCONN, errno.ECONNREFUSED, errno.ECONNRESET):
                raise
            self._connect()
            self._send(entry)

    def _send(self, entry: bytes) -> None:
        try:
            self._socket.send(entry)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            self._send_file(entry)

    def _send_file(self, entry: bytes) -> None:
        """Send what is too long for a datagram, in memory that nobody can change any more."""
        descriptor = os.memfd_create("journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            file.write(entry)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))
            self._socket.sendmsg([], [rights])

    def wait(self) -> None:
        """Return when the journal has read what was sent."""
        wait_until_read(self._socket.fileno())

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()


def error_stream(identifier: str) -> socket.socket:
    """A stream to the journal whose lines are records of priority err, as systemd makes them for standard error."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.connect(STREAMS)
    # Identifier, unit (the journal knows it), priority, whether lines begin with one, and three ways to forward them.
    stream.sendall(f"{identifier}\n\n3\n0\n0\n0\n0\n".encode())
    return stream
