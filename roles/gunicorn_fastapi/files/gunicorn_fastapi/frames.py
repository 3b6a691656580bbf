"""The frames of WebSockets (RFC 6455, RFC 7692), as far as a server needs them, in bounded memory.

Written here because the parsers that uvicorn has take whole reads of frames at once, each of which compression may
make a thousand times as large, and keep each fragment as an object of its own.
"""

import struct
import sys
import zlib

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
CONTINUED = 0

FRAGMENTS = 10_000
"""Pieces that a message may come in: empty ones take no memory, but time."""

HEAD = 14
"""Bytes that the head of a frame may have."""

WINDOW = 12
"""Bits of the window of what is sent: 2^12 bytes."""

TAIL = b"\x00\x00\xff\xff"


class FrameError(Exception):
    """What a client must not send; with the code for the close frame."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Deflate:
    """Compression of messages, both ways. Takes memory from the first compressed message on."""

    def __init__(self, *, forgets: bool, bits: int) -> None:
        self.forgets = forgets
        self._bits = bits
        self._out: zlib._Compress | None = None
        self._in: zlib._Decompress | None = None

    @classmethod
    def agree(cls, offers: str) -> "tuple[Deflate, str] | None":
        """What is agreed on with a client that offers this, and how to tell it; None: no compression."""
        for offer in offers.split(","):
            name, *parameters = (part.strip() for part in offer.split(";"))
            said = dict(parameter.replace('"', "").partition("=")[::2] for parameter in parameters)
            bits = said.pop("server_max_window_bits", str(WINDOW))
            forgets = said.pop("server_no_context_takeover", None) is not None
            said.pop("client_no_context_takeover", None)
            said.pop("client_max_window_bits", None)
            # zlib cannot make windows of 2^8 bytes.
            if name != "permessage-deflate" or said or bits not in {str(number) for number in range(9, 16)}:
                continue
            least = min(int(bits), WINDOW)
            answer = f"permessage-deflate; server_max_window_bits={least}"
            return cls(forgets=forgets, bits=least), answer + "; server_no_context_takeover" * forgets
        return None

    def compress(self, data: bytes) -> bytes:
        """A whole message."""
        if self._out is None or self.forgets:
            self._out = zlib.compressobj(wbits=-self._bits, memLevel=5)
        return (self._out.compress(data) + self._out.flush(zlib.Z_SYNC_FLUSH))[: -len(TAIL)]

    def expand(self, data: bytes, is_last: bool, bound: int) -> bytes:
        """A piece of a message that must not become larger than that."""
        if self._in is None:
            self._in = zlib.decompressobj(wbits=-15)
        try:
            made = self._in.decompress(data + TAIL if is_last else data, bound + 1)
        except zlib.error as error:
            raise FrameError(1007, "a message that cannot be decompressed") from error
        if len(made) > bound or self._in.unconsumed_tail:
            raise FrameError(1009, "")
        if self._in.eof:  # the client has ended its stream, as it may with each message
            self._in = None
        return made


class Frames:
    """What a client sends, taken apart. ``bound``: bytes that a message may have."""

    def __init__(self, bound: int, deflate: Deflate | None) -> None:
        self._bound = bound
        self._deflate = deflate
        self._buffer = bytearray()
        self._message = bytearray()
        self._opcode = CONTINUED  # of the message that is being read
        self._is_compressed = False
        self._pieces = 0

    @property
    def held(self) -> int:
        """Bytes that are kept."""
        return len(self._buffer) + len(self._message)

    @property
    def is_unfinished(self) -> bool:
        """Whether the rest of a message or of a frame is awaited."""
        return bool(self._buffer or self._opcode)

    def feed(self, data: bytes) -> None:
        """Add what was received."""
        self._buffer += data

    def next(self) -> tuple[int, bytes] | None:
        """The next whole message or control frame, or None when there is none yet."""
        while (frame := self._frame()) is not None:
            opcode, is_last, payload = frame
            if opcode >= CLOSE:
                return opcode, payload
            self._message += payload
            self._pieces += 1
            if self._pieces > FRAGMENTS:
                raise FrameError(1008, f"a message in more than {FRAGMENTS} pieces")
            if is_last:
                opcode, message = self._opcode, bytes(self._message)
                self._message = bytearray()
                self._opcode, self._pieces = CONTINUED, 0
                return opcode, message
        return None

    def _frame(self) -> tuple[int, bool, bytes] | None:
        """The next whole frame, without its mask and its compression."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        opcode, is_last, is_compressed = buffer[0] & 15, bool(buffer[0] & 128), bool(buffer[0] & 64)
        self._check(opcode, is_last, is_compressed)
        start, length = 2, buffer[1] & 127
        if length > 125:
            start, form = (4, ">H") if length == 126 else (10, ">Q")
            if len(buffer) < start:
                return None
            (length,) = struct.unpack_from(form, buffer, 2)
        if opcode < CLOSE and length + len(self._message) > self._bound:
            raise self._too_big()
        end = start + 4 + length
        if len(buffer) < end:
            return None
        payload = unmask(bytes(buffer[start + 4 : end]), bytes(buffer[start : start + 4]))
        del buffer[:end]
        if opcode >= CLOSE:
            return opcode, is_last, payload
        if opcode != CONTINUED:
            self._opcode, self._is_compressed = opcode, is_compressed
        if self._is_compressed and self._deflate is not None:
            payload = self._expand(payload, is_last)
        return opcode, is_last, payload

    def _expand(self, payload: bytes, is_last: bool) -> bytes:
        assert self._deflate is not None
        try:
            return self._deflate.expand(payload, is_last, self._bound - len(self._message))
        except FrameError as error:
            raise self._too_big() if error.code == 1009 else error from error

    def _too_big(self) -> FrameError:
        return FrameError(1009, f"a message of more than {self._bound} bytes")

    def _check(self, opcode: int, is_last: bool, is_compressed: bool) -> None:
        """Refuse what no frame may be, before any of it is kept."""
        head, second = self._buffer[0], self._buffer[1]
        if head & 48 or (is_compressed and (self._deflate is None or opcode not in (TEXT, BINARY))):
            raise FrameError(1002, "a frame with bits that were not agreed on")
        if not second & 128:
            raise FrameError(1002, "a frame without a mask")
        if opcode in (CLOSE, PING, PONG):
            if not is_last or second & 127 > 125:
                raise FrameError(1002, "a control frame that is too long or in pieces")
        elif opcode not in (CONTINUED, TEXT, BINARY):
            raise FrameError(1002, "a frame of an unknown kind")
        elif (opcode == CONTINUED) != bool(self._opcode):
            raise FrameError(1002, "a piece of a message out of its place")


def unmask(data: bytes, key: bytes) -> bytes:
    """Undo the mask that a client has to put on its frames."""
    size = len(data)
    mask = (key * (size // 4 + 1))[:size]
    order = sys.byteorder
    return (int.from_bytes(data, order) ^ int.from_bytes(mask, order)).to_bytes(size, order)


def build(opcode: int, payload: bytes, *, is_compressed: bool = False) -> bytes:
    """A whole frame of a server."""
    first, size = 128 | 64 * is_compressed | opcode, len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return struct.pack(">BBH", first, 126, size) + payload
    return struct.pack(">BBQ", first, 127, size) + payload


def build_close(code: int, reason: str) -> bytes:
    """A close frame. 1005 and 1006 are said by no frame."""
    if code in (1005, 1006):
        return build(CLOSE, b"")
    return build(CLOSE, struct.pack(">H", code) + reason.encode()[:123].decode(errors="ignore").encode())


def read_close(payload: bytes) -> tuple[int, str]:
    """The code and the reason of a client's close frame."""
    if not payload:
        return 1005, ""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or not ((1000 <= code < 1015 and code not in (1004, 1005, 1006)) or 3000 <= code < 5000):
        raise FrameError(1002, "a close frame without a valid code")
    return code, decode(payload[2:])


def decode(data: bytes) -> str:
    """The text of a message."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FrameError(1007, "a text that is no UTF-8") from error
