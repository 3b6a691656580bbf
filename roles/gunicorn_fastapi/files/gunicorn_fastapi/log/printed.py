"""What an application prints with a level of its own keeps it, as far as one can tell from how the text begins.

Loggers that print for themselves, such as loguru and structlog, write a record in one piece that ends with a newline.
"""

import io
import json
import logging
import re
import sys
from typing import TextIO

from gunicorn_fastapi.log.handler import LINE, JournalHandler
from gunicorn_fastapi.log.journal import priority, writes_to_journal

LEVELS = {
    "TRACE": logging.DEBUG,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "NOTICE": logging.INFO,
    "SUCCESS": logging.INFO,
    "WARN": logging.WARNING,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
    "CRITICAL": logging.CRITICAL,
    "FATAL": logging.CRITICAL,
}
"""The words for levels."""

KEYS = ("level", "levelname", "severity", "log.level")
"""Where JSON has them."""

LONGEST = 256 * 1024
"""Characters of JSON that are looked at."""

_WORD = f"({'|'.join(LEVELS)})"
_COLOUR = re.compile(r"\x1b\[[0-9;]{0,16}m")
_DATE = r"\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?: ?(?:[+-]\d\d:?\d\d|Z))?\]?"
_BEGINNINGS = re.compile(
    # "ERROR: ", "[ERROR] ", "ERROR - ", with a date and a logger before it, and with a date alone "ERROR ", too.
    rf"(?:{_DATE}(?: \[\d{{1,10}}\])?(?: - | \| | ))?(?:[\w.-]{{1,60}} - )?\[?{_WORD} {{0,12}}(?:[\]:|]| - )"
    rf"|{_DATE} {_WORD} "
    rf"|(?:{_DATE} )?\[((?i:{_WORD})) {{0,12}}\]"
    rf"|(?:(?:ts|time|timestamp)=\"?[^\" ]{{1,40}}\"? )?(?:level|lvl|severity)=\"?((?i:{_WORD}))\b",
    re.ASCII,
)


_streams: list[TextIO] = []
"""Never given up: with the last reference to a stream its buffer is closed, which others may have taken over."""


def level_of(text: str) -> int | None:
    """The level that a printed text begins with, as ``logging`` has it; None when it has none in a usual form."""
    if text.startswith("{"):
        return _level_in_json(text) if len(text) <= LONGEST else None
    if "\x1b" in text[:LINE]:
        text = _COLOUR.sub("", text[:LINE])
    found = _BEGINNINGS.match(text)
    word = next(filter(None, found.groups())) if found else ""
    return LEVELS.get(word.upper())


def _level_in_json(text: str) -> int | None:
    try:
        record = json.loads(text)
        word = next((record[key] for key in KEYS if key in record), "")
        if not word:
            word = record["record"]["level"]["name"]  # loguru's
        return LEVELS.get(word.upper())
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None


class Printed(io.TextIOWrapper):
    """Standard output or standard error, whose records keep their priority in the journal, and are whole."""

    def __init__(self, stream: TextIO, handler: JournalHandler) -> None:
        # Line by line: between the pieces of a line, as of print(), another thread's record would come.
        super().__init__(stream.buffer, encoding=stream.encoding, errors=stream.errors, line_buffering=True)
        self._handler = handler
        self._begins = True
        self._is_whole = False

    def write(self, text: str, /) -> int:
        """Write a text; with a level, by way of the journal's handler, or of the prefix that the journal knows.

        print() writes the newline by itself, to which nothing is left to say of a record that has gone whole.
        """
        begins, self._begins = self._begins, text.endswith("\n")
        was_whole, self._is_whole = self._is_whole, False
        if was_whole and text == "\n":
            return 1
        level = level_of(text) if begins else None
        if level is None:
            return super().write(text)
        if self._begins or "\n" in text or len(text) > LINE:
            self._is_whole = not self._begins
            self._begins = True
            # Nobody has said which logger it was.
            said = {"name": "", "funcName": "", "levelno": level, "msg": text.removesuffix("\n")}
            self._handler.handle(logging.makeLogRecord(said))
        else:
            super().write(f"<{priority(level)}>{text}")
        return len(text)


def log_printed(identifier: str) -> None:
    """Have what is printed from now on in the journal with its priority, where it tells one.

    gunicorn asks for it again at each reload, which changes nothing.
    """
    handler = JournalHandler(identifier)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, Printed) or not writes_to_journal(stream.fileno()):
            continue
        stream.flush()
        _streams.append(Printed(stream, handler))
        setattr(sys, name, _streams[-1])
