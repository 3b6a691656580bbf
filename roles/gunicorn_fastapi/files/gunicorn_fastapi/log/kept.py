"""The application's own configuration of logging, which must not silence the server, nor have anything told twice.

``dictConfig`` disables every logger that it does not name, and those that people name are the server's. So what the
server's loggers are set to is noted before the application is loaded, and put back after that, and again when it has
started; the same is done around each hook of the operator's. What the application then still prints goes by the
journal's handler, in its own words: with its priority, and in one record.
"""

import contextlib
import logging
import logging.handlers
import mmap
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from gunicorn_fastapi.log.handler import JournalHandler
from gunicorn_fastapi.log.journal import copy_for, writes_to_journal

GUNICORN = ("gunicorn.error", "gunicorn.access")

NAMES = (*GUNICORN, "uvicorn.error", "uvicorn.access")
"""The loggers that tell of requests, exceptions and workers."""

ELSEWHERE = (
    logging.FileHandler,
    logging.handlers.HTTPHandler,
    logging.handlers.SMTPHandler,
    logging.handlers.SocketHandler,
    logging.handlers.SysLogHandler,
)
"""Handlers that certainly do not print what they are given."""

STREAMS = range(3)
"""Standard input, output and error. Whoever got the number of a closed one would get what is printed; libuv aborts the
process when that is a connection."""

is_told = mmap.mmap(-1, 1)
"""Whether a worker of this gunicorn has told already: the others would say the same."""


class MasterLog(Logger):  # type: ignore[misc]
    """gunicorn's own log, for an application that gunicorn loads itself, before anybody else is asked."""

    def setup(self, cfg: Any) -> None:
        """Configure logging, and note how."""
        super().setup(cfg)
        self.kept = Kept(GUNICORN)


class _State(NamedTuple):
    handlers: list[logging.Handler]
    propagate: bool
    level: int


class Kept:
    """What loggers of the server are set to when this is made."""

    def __init__(self, names: Sequence[str] = NAMES) -> None:
        self._states = {name: _of(logging.getLogger(name)) for name in names}
        self._enabled = [logger for logger in _loggers() if not logger.disabled]
        self._disabled_below = logging.root.manager.disable
        self._streams = {number: copy_for(self, number) for number in STREAMS if _is_open(number)}

    def __enter__(self) -> Self:
        """What is done meanwhile may be anything."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Put it back, whatever was raised."""
        self.put_back()

    def put_back(self) -> None:
        """Set them to it again, but for their levels; have nothing told twice, and the rest with its priority."""
        for number, copy in self._streams.items():
            if not _is_open(number):
                os.dup2(copy, number)
        for logger in self._enabled:
            logger.disabled = False
        for name, state in self._states.items():
            logger = logging.getLogger(name)
            logger.handlers = state.handlers + [
                h for h in logger.handlers if _is_worth_keeping(h, state.handlers, logger)
            ]
            logger.propagate = state.propagate
            # So dictConfig leaves a logger whose parent it names.
            if logger.level == logging.NOTSET:
                logger.setLevel(state.level)
        ours = self._states["gunicorn.error"].handlers
        carrier = next((handler for handler in ours if isinstance(handler, JournalHandler)), None)
        if carrier is not None:
            _lead(carrier)
        self._tell()

    def _tell(self) -> None:
        """Log once what the application hides."""
        hidden = [
            f"{name} (its level is {logging.getLevelName(logging.getLogger(name).level)})"
            for name, state in self._states.items()
            if logging.getLogger(name).level > max(state.level, logging.INFO)
        ]
        disabled = logging.root.manager.disable
        if disabled > max(self._disabled_below, logging.DEBUG):
            hidden.append(f"all loggers (logging.disable({logging.getLevelName(disabled)}))")
        if not hidden or is_told[0]:
            return
        is_told[0] = 1
        text = (
            f"The application's logging configuration hides records of {', '.join(hidden)}. "
            "Set no level there to have them; gunicorn_fastapi_log_level and gunicorn_fastapi_log_quiet show fewer"
        )
        server = logging.getLogger("gunicorn.error")
        # Whatever level has been set.
        server.handle(server.makeRecord(server.name, logging.WARNING, __file__, 0, text, (), None))


def _is_open(number: int) -> bool:
    with contextlib.suppress(OSError):
        os.fstat(number)
        return True
    return False


def _of(logger: logging.Logger) -> _State:
    return _State(list(logger.handlers), logger.propagate, logger.level)


def _loggers() -> Iterator[logging.Logger]:
    """All that there are."""
    yield logging.root
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            yield logger


def _is_worth_keeping(handler: logging.Handler, ours: list[logging.Handler], logger: logging.Logger) -> bool:
    """Whether a handler that the application has given to one of our loggers stays beside ours.

    One that it has put in their place may print, by whatever way, what ours say again.
    """
    if handler in ours or _prints(handler):
        return False
    is_added = all(own in logger.handlers for own in ours)
    return is_added or isinstance(handler, ELSEWHERE)


def _prints(handler: logging.Handler) -> bool:
    """Whether a handler writes to standard output or standard error."""
    streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    return isinstance(handler, logging.StreamHandler) and any(handler.stream is stream for stream in streams if stream)


def _lead(carrier: JournalHandler) -> None:
    """Take what handlers would print out of the journal's standard output, and have them print nothing twice."""
    for logger in _loggers():
        for handler in list(logger.handlers):
            if _prints(handler) and _reaches_ours(logger):
                logger.removeHandler(handler)
    if not writes_to_journal():
        return
    # All that there are: one behind a queue or a buffer belongs to no logger.
    for reference in list(logging._handlerList):  # type: ignore[attr-defined]  # noqa: SLF001
        printing = reference()
        if printing is not None and _prints(printing) and type(printing).emit is logging.StreamHandler.emit:
            carrier.carry(printing)


def _reaches_ours(logger: logging.Logger | None) -> bool:
    """Whether a record of this logger comes to a handler of ours."""
    while logger is not None:
        if any(isinstance(handler, JournalHandler) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False
