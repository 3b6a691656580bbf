"""Log records as the journal should have them: whole, in order, with their true priority, and cheap.

``logging.conf`` names what is here; nothing else configures it::

    [handler_journal]
    class=gunicorn_fastapi.log.JournalHandler
    formatter=line
    args=("fastapi",)
    kwargs={"quiet": ["/healthz"]}

    [formatter_line]
    class=gunicorn_fastapi.log.Formatter
    format=%(asctime)s - %(levelname)s - %(name)s - %(message)s

The journal takes records in two ways. What is written to standard output is cheapest, many lines in one
system call, but it ends a record at each newline. Its own protocol takes any record with any fields, one
per system call. So lines go the first way, and tracebacks the second; with fields all do.

There are as many access lines as requests. So they take a short cut wherever the result is the same: they are
taken before uvicorn puts them into words, no LogRecord is made, and they are formatted when they are written, many
at once. That costs a fraction of what each would cost between two pieces of work that have nothing to do with it.
"""

from gunicorn_fastapi.log.context import RequestContext
from gunicorn_fastapi.log.formats import Formatter, JsonFormatter
from gunicorn_fastapi.log.handler import JournalHandler
from gunicorn_fastapi.log.kept import Kept, MasterLog
from gunicorn_fastapi.log.printed import log_printed
from gunicorn_fastapi.log.request import Request, current
from gunicorn_fastapi.log.uncaught import log_uncaught

__all__ = [
    "Formatter",
    "JournalHandler",
    "JsonFormatter",
    "Kept",
    "MasterLog",
    "Request",
    "RequestContext",
    "current",
    "log_printed",
    "log_uncaught",
]
