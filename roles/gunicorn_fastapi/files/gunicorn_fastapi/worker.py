"""A gunicorn worker that loses no request when it stops, and whose clients are bounded. In ``gunicorn.conf.py``::

    from gunicorn_fastapi.hooks import Hooks
    from gunicorn_fastapi.worker import DrainingUvicornWorker

    DrainingUvicornWorker.drain_timeout = 5
    worker_class = "gunicorn_fastapi.worker.DrainingUvicornWorker"
    globals().update(Hooks("shop", release="0d6a72e61398").settings({}))

Keep gunicorn's ``keepalive`` at or below ``drain_timeout``: then a stop closes no connection
earlier than its own keep-alive timer would have.
"""

import asyncio
import functools
import logging
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uvicorn_worker import UvicornWorker  # type: ignore[import-untyped]

from gunicorn_fastapi import endings, peers, trial, upstream
from gunicorn_fastapi.allowed import Allowed
from gunicorn_fastapi.closed import Door
from gunicorn_fastapi.doing import Doing
from gunicorn_fastapi.guard import Guard
from gunicorn_fastapi.last_words import LastWords
from gunicorn_fastapi.log import Kept, RequestContext
from gunicorn_fastapi.protocol import GuardedProtocol
from gunicorn_fastapi.server import DrainingServer
from gunicorn_fastapi.shared import Shares

logger = logging.getLogger("uvicorn.error")


class DrainingUvicornWorker(UvicornWorker):  # type: ignore[misc]
    """``UvicornWorker`` with a :class:`DrainingServer`, under gunicorn's ``graceful_timeout``.

    Also under its ``limit_request_line``, ``limit_request_fields`` and ``worker_connections``, which the
    parent ignores.
    """

    drain_timeout: float = 5
    """Seconds that an open connection may be idle during a stop before it is closed."""

    header_max: int = 64 * 1024
    """Bytes that the headers of a request may have."""

    header_timeout: float = 10
    """Seconds that a client may take to send them."""

    body_max: int = 0
    """Bytes that the body of a request may have; 0 is unlimited."""

    stall_timeout: float = 300
    """Seconds that a client may send nothing of a body, or take nothing of an answer; 0 is unlimited."""

    websocket_message_max: int = 1024 * 1024
    """Bytes that a message of a WebSocket may have."""

    websocket_memory_max: int = 64 * 1024 * 1024
    """Bytes of messages that a worker keeps for all WebSockets together."""

    allowed: Mapping[str, Sequence[str]] = {}
    """Networks whose clients alone may ask for a path and what is below it, by these paths."""

    notice: Path | None = None
    """Where root says that maintenance is on for all but some."""

    shares = Shares()
    """Made when the master imports this."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        # gunicorn makes the worker before it forks, so both have this.
        self.last_words = LastWords(self.cfg.timeout, self.cfg.worker_tmp_dir, self.age)

    def notify(self) -> None:
        """Tell gunicorn that the worker is alive."""
        super().notify()
        self.last_words.renew()

    def init_signals(self) -> None:
        """As the parent's; what only gunicorn heeds, but is sent to all processes of a service, ends no worker."""
        super().init_signals()
        for number in (signal.SIGHUP, signal.SIGUSR2):
            signal.signal(number, lambda *_: None)
        self.doing = Doing()
        self.doing.listen()

    def load_wsgi(self) -> None:
        """Load the application, whatever it does to the loggers of the server. One that exits meanwhile has failed."""
        self.kept = Kept()
        ended: BaseException | None = None
        try:
            super().load_wsgi()
        except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
            ended = error
        finally:
            self.kept.put_back()
        if ended is not None:
            logger.error("The application has ended the worker while it was loaded", exc_info=ended)
            sys.exit(upstream.BOOT_ERROR)

    async def _serve(self) -> None:
        """Serve until told to stop; exit with gunicorn's boot error when the start failed.

        As the parent's, whose server class is fixed.
        """
        self.doing.loop = asyncio.get_running_loop()
        self.config.app = self.wsgi
        if not self.config.forwarded_allow_ips:
            self.config.proxy_headers = False  # it would read each client's address to find that nobody is trusted
        self.config.load()
        upstream.translate_forwarded(self.config.loaded_app, peers.unmapped)
        if self.allowed:
            self.config.loaded_app = upstream.behind_proxies(self.config.loaded_app, self._allow)
        self.config.loaded_app = RequestContext(
            self.config.loaded_app, self.shares.counts, self.kept.put_back, self.last_words
        )
        # uvicorn would leave at once; this worker waits for its successor.
        self.config.limit_max_requests = None
        guard = self._guard()
        self._take_protocol(guard)
        server = DrainingServer(
            self.config,
            self.drain_timeout,
            self.cfg.graceful_timeout,
            guard,
            self.shares,
            Door(self.config, self.notice, self.shares),
            self.max_requests,
            endings.end_process_within,
        )
        self.shares.join(self.age)
        # Plain sockets instead of gunicorn's wrappers: uvloop closes a wrapper's descriptor behind
        # its back, and the wrapper would later close whatever has the same number by then.
        await server.serve(sockets=[listener.sock for listener in self.sockets])
        if not server.started:
            sys.exit(upstream.BOOT_ERROR)

    def _allow(self, application: Any) -> Any:
        return Allowed(application, self.allowed)

    def _take_protocol(self, guard: Guard) -> None:
        """Have clients bounded, whatever uvicorn would choose by itself. Exits when the parser is not strict."""
        if self.config.http not in ("auto", "httptools"):
            logger.warning("uvicorn's option http is %r: nothing bounds what a client may take up", self.config.http)
            return
        try:
            trial.check(GuardedProtocol, self.config)
        except trial.UnfitParserError as error:
            # Its name begins the line that the control command shows as the reason.
            logger.error("This worker does not start", exc_info=error.with_traceback(None))
            sys.exit(upstream.BOOT_ERROR)
        self.config.http_protocol_class = functools.partial(GuardedProtocol, guard)

    def _guard(self) -> Guard:
        """The bounds. Half of the files that a process may open is the application's."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return Guard(
            target_max=self.cfg.limit_request_line or self.header_max,
            headers_max=self.cfg.limit_request_fields,
            header_max=self.header_max,
            header_timeout=self.header_timeout,
            body_max=self.body_max,
            stall_timeout=self.stall_timeout,
            message_max=self.websocket_message_max,
            messages_max=self.websocket_memory_max,
            trusted=self.cfg.forwarded_allow_ips,
            connections=min(self.cfg.worker_connections, files // 2),
            count=self.shares.counts.add,
            ended=self.shares.counts.end,
        )
