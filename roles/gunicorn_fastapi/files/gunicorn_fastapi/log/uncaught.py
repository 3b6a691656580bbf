"""What nobody catches: exceptions that end the process or a thread, those that Python can raise to nobody, as in
``__del__`` or at exit, and crashes of the interpreter."""

import faulthandler
import logging
import sys
import threading
from types import TracebackType
from typing import Any

from gunicorn.errors import HaltServer  # type: ignore[import-untyped]

from gunicorn_fastapi.log.handler import JournalHandler
from gunicorn_fastapi.log.journal import error_stream, writes_to_journal


def log_uncaught(identifier: str) -> None:
    """Have what ends the process or a thread in the journal as an error, also before logging is set up.

    An exception is one record. A crash of the interpreter is told line by line, by what is left of it.
    """
    if writes_to_journal():
        # Never closed: the descriptor belongs to the handler of a signal.
        faulthandler.enable(error_stream(identifier).detach())
    logging.lastResort = JournalHandler(identifier)
    logging.lastResort.setLevel(logging.WARNING)

    def report(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        # HaltServer ends gunicorn, which has logged why.
        if error is not None and not isinstance(error, (HaltServer, KeyboardInterrupt)):
            logging.getLogger().critical("Uncaught exception", exc_info=(kind, error, trace))

    def report_ignored(ignored: Any) -> None:
        """Of what Python goes on without: it would be printed line by line, as no error."""
        text = f"{ignored.err_msg or 'Exception ignored in'}: {ignored.object!r}"
        error = (ignored.exc_type, ignored.exc_value, ignored.exc_traceback)
        logging.getLogger().error(text, exc_info=error)

    sys.excepthook = report
    sys.unraisablehook = report_ignored
    threading.excepthook = lambda args: report(args.exc_type, args.exc_value, args.exc_traceback)
