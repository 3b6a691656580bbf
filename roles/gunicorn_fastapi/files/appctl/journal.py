"""Reading the journal, whatever is in it, and writing to it.

An application may write any record: of any size, in any number, with any bytes, with fields of ours, and in the
name of others. Nothing here fails for that, and no more is kept than the bounds say. Only fields that begin with
an underscore are journald's own; by them alone it is decided who speaks.
"""

import contextlib
import socket
import sys
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from appctl.process import CtlError, chunks, run

Record: TypeAlias = dict[str, str]

FIELDS = {"MESSAGE": 64 * 1024, "PRIORITY": 16, "LOGGER": 256, "UNIT": 256, "_UID": 16, "__REALTIME_TIMESTAMP": 32}
"""The fields that are read, and the bytes that are kept of each."""

KEPT = 4 * 1024 * 1024
READ = 256 * 1024 * 1024
"""Bytes of all records together that are kept, and that are read to get them."""

SECONDS = 10.0
SYNCHRONIZED = 5.0
"""How long journalctl may take to read, and to have journald write what it holds."""


def entries(*matches: str, lines: int = 200, since: float = 0) -> list[Record]:
    """The latest records that match FIELD=VALUE, the oldest first; those that the caller may read.

    Of at most `lines` records, since a time of the epoch. Where that is too much to read in time, the latest ones.
    """
    synchronize()
    command = ("journalctl", "--quiet", "--output=export", f"--output-fields={','.join(FIELDS)}", "--reverse")
    found = []
    kept = 0
    with contextlib.suppress(CtlError):
        pieces = chunks(*command, f"--lines={lines}", f"--since=@{since:.6f}", *matches, timeout=SECONDS, most=READ)
        with contextlib.closing(pieces):
            for record in records(pieces, FIELDS):
                found.append(record)
                kept += sum(map(len, record.values()))
                if kept > KEPT or len(found) >= lines:
                    break
    return found[::-1]


def synchronize() -> None:
    """Have journald write what it holds. Without root the last moments may be missing."""
    try:
        run("journalctl", "--sync", check=False, timeout=SYNCHRONIZED)
    except CtlError:
        print("journald does not answer, so its latest records may be missing here", file=sys.stderr)


def records(pieces: Iterator[bytes], fields: Mapping[str, int]) -> Iterator[Record]:
    """The records of journalctl's export format, in pieces of any size. Of a field that comes twice, the first.

    ``fields``: those that are wanted, and how many bytes each may have.

    https://systemd.io/JOURNAL_EXPORT_FORMATS: lines of NAME=VALUE or, where a value is not plain text, NAME, then
    its length in eight bytes, then the value. An empty line ends a record. One that is cut off is left out.
    """
    source = Source(pieces)
    record: Record = {}
    while True:
        line = source.line(max(fields.values()) + 64)
        if line is None:
            return
        if not line:
            if record:
                yield record
            record = {}
            continue
        head, equals, value = line.partition(b"=")
        name = head.decode("ascii", errors="replace")
        most = fields.get(name, 0)
        if not equals:
            size = source.take(8, 8)
            whole = None if size is None else source.take(int.from_bytes(size, "little"), most)
            if whole is None or source.take(1, 0) is None:
                return
            value = whole
        if most and name not in record:
            record[name] = (value[:most] if equals else value).decode(errors="replace")


class Source:
    """Bytes that come in pieces, taken by the line or by their number; more is never kept than was asked for."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces = pieces
        self.piece = b""
        self.at = 0

    def more(self) -> bool:
        """Go on to the next piece when this one is used up. False at the end."""
        while self.at == len(self.piece):
            following = next(self.pieces, None)
            if following is None:
                return False
            self.piece, self.at = following, 0
        return True

    def line(self, most: int) -> bytes | None:
        """The first `most` bytes of a line, which is passed whole. None when its end does not come."""
        kept = bytearray()
        while self.more():
            end = self.piece.find(b"\n", self.at)
            stop = len(self.piece) if end < 0 else end
            kept += self.piece[self.at : min(stop, self.at + most - len(kept))]
            self.at = stop if end < 0 else end + 1
            if end >= 0:
                return bytes(kept)
        return None

    def take(self, size: int, most: int) -> bytes | None:
        """So many bytes; of more than `most` the beginning and the end. None when they do not come."""
        half = size if size <= most else most // 2
        first, last = bytearray(), bytearray()
        done = 0
        while done < size:
            if not self.more():
                return None
            part = self.piece[self.at : self.at + size - done]
            first += part[: max(0, half - done)]
            last += part[max(0, size - half - done) :]
            done += len(part)
            self.at += len(part)
        return bytes(first) if size <= most else bytes(first + b"\n...\n" + last)


def tell(name: str, text: str, release: str, error: bool = False) -> None:
    """Tell the journal, where it is found under the application's own unit; a deaf one is no error."""
    fields = {
        "MESSAGE": text,
        "PRIORITY": "3" if error else "5",
        "SYSLOG_IDENTIFIER": f"{name}ctl",
        "OBJECT_SYSTEMD_UNIT": f"{name}.service",
        "RELEASE": release,
    }
    # The native protocol, with the length before each value: a reason may have many lines, in one record.
    packed = [(key.encode(), value.encode(errors="replace")) for key, value in fields.items()]
    datagram = b"".join(key + b"\n" + len(value).to_bytes(8, "little") + value + b"\n" for key, value in packed)
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.settimeout(2)
        journal.sendto(datagram, "/run/systemd/journal/socket")
