"""Words that clients choose, in a form and of a length that no terminal, no parser and no disk suffers from."""

import functools
import re
from urllib.parse import quote

HOST = 64
"""Characters of a client's name. An address has 45 at most; what a proxy forwards may be anything."""

TARGET = 1024
"""Characters of a path with its query, percent-encoded, or of any other word of a client."""

USUAL = 256
"""Characters of a path with its query that are always kept."""

ALLOWANCE = 64 * 1024
"""Characters of paths longer than that which a worker logs in a second. After them, only ``USUAL`` are kept."""

# All but the newline and the tab: terminals obey them, or show what follows in another order, and journalctl shows
# no message that has them.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb]")


def printable(text: str) -> str:
    """The text with its control characters, but newline and tab, written as ``\\u001b``, which JSON knows too."""
    if text.isprintable():
        return text
    return _CONTROL.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def cut(text: str, most: int) -> str:
    """The text, or its beginning and how many characters more there were."""
    return text if len(text) <= most else f"{text[:most]}...+{len(text) - most}"


@functools.lru_cache(1024)
def _encoded(name: str) -> str:
    return quote(name, safe=":[]%", errors="backslashreplace")


def host(name: str) -> str:
    """A client's address, or whatever a proxy forwards for it: without spaces and quotes, encoded as paths are."""
    return _encoded(name) if len(name) <= HOST else f"{_encoded(name[:HOST])}...+{len(name) - HOST}"


def client(address: str) -> str:
    """The same, of an address with its port."""
    name, colon, port = address.rpartition(":")
    return f"{host(name)}{colon}{port}"


class Targets:
    """Paths with their queries, cut where it helps nobody. One for all that a worker logs."""

    def __init__(self) -> None:
        self._second = 0
        self._left = ALLOWANCE

    def cut(self, target: str, now: float) -> str:
        """The target as it is logged at a time (``time.time()``)."""
        if len(target) <= USUAL:
            return target
        if self._second != int(now):
            self._second, self._left = int(now), ALLOWANCE
        most = TARGET if self._left > 0 else USUAL
        self._left -= min(len(target), most)
        return cut(target, most)
