"""Records about clients, as many a second as an operator can read. The rest is a number."""

import asyncio
import logging
import time
from collections import Counter


class Bounded:
    """Records of one kind. Those beyond ``most`` in a second are told at its end in one, with the last of them."""

    def __init__(self, logger: logging.Logger, level: int, most: int) -> None:
        self._logger = logger
        self._level = level
        self._most = most
        self._begun = 0.0
        self._count = 0
        self._rest: Counter[str] = Counter()
        self._last = ""

    def log(self, host: str, message: str, *arguments: object) -> None:
        """Log what a client did, or count it."""
        now = time.monotonic()
        if now - self._begun >= 1:
            self.tell()
            self._begun, self._count = now, 0
        self._count += 1
        if self._count <= self._most:
            self._logger.log(self._level, message, *arguments)
            return
        if not self._rest:
            asyncio.get_running_loop().call_later(self._begun + 1 - now, self.tell)
        self._rest[host] += 1
        self._last = message % arguments

    def tell(self) -> None:
        """Log what was counted, with the client that it was most often."""
        if self._rest:
            host, count = self._rest.most_common(1)[0]
            text = "%d more within a second, %d of %s, the last: %s"
            self._logger.log(self._level, text, self._rest.total(), count, host, self._last)
            self._rest.clear()
