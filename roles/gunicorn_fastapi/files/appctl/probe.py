"""Asking an instance whether it works."""

import contextlib
import os
import re
import select
import signal
import socket
import time
from pathlib import Path

from appctl.process import CtlError
from appctl.systemd import children

DEATHS = 3
"""Workers that may die before the first answer; one may have bad luck, three have a reason."""

REPLACED = 1.0
"""Seconds within which gunicorn has replaced a dead worker. Otherwise it has given up, and waits only for
the others to leave, for as long as their graceful timeout allows."""


def ask(address: Path, path: str) -> socket.socket:
    """A connection on which the health path has been asked for. It waits in the queue until a worker takes it."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(address))
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: health\r\nConnection: close\r\n\r\n"
    connection.sendall(request.encode())
    return connection


def status_of(connection: socket.socket) -> int:
    """The status code of the answer that has arrived, 0 when the worker left without one."""
    # Without http.client, which takes longer to import than all the rest of this.
    with contextlib.suppress(OSError), connection.makefile("rb") as answer:
        match = re.match(rb"HTTP/1\.[01] (\d{3})\b", answer.readline(1024))
        return int(match.group(1)) if match else 0
    return 0


def recycle(pid: int, timeout: float) -> None:
    """Have gunicorn replace its workers, and wait until the former ones have left, or gunicorn has.

    Raises CtlError when that takes longer than `timeout` seconds; then they still may leave later.
    """
    former = children(pid)
    os.kill(pid, signal.SIGHUP)
    deadline = time.monotonic() + timeout
    while former & children(pid):
        if time.monotonic() >= deadline:
            raise CtlError(f"{len(former & children(pid))} of the former workers did not leave within {timeout:g} s")
        time.sleep(0.1)


def probe(address: Path, path: str, timeout: float, pid: int, kill: bool = True) -> str:
    """Wait until an instance answers its health path with 2xx, and say how that went.

    503 is "not yet"; any other answer is final. Raises CtlError as soon as that is certain: on such an
    answer, when the main process `pid` is gone or has given up, when workers die one after the other, or
    after `timeout` seconds. An instance that answered nothing at all is killed, because it would not heed
    a request to stop either, unless `kill` is false.
    """
    begin = time.monotonic()
    seen: set[int] = set()
    most = 0
    complete_at = begin
    last = "no answer"
    with contextlib.ExitStack() as opened:
        try:
            main = os.pidfd_open(pid)
        except ProcessLookupError:
            raise CtlError(f"gunicorn ended before {path} was answered") from None
        opened.callback(os.close, main)
        connection = opened.enter_context(ask(address, path))
        while (left := begin + timeout - time.monotonic()) > 0:
            ready, _, _ = select.select([main, connection.fileno()], [], [], min(left, 0.1))
            if main in ready:
                raise CtlError(f"gunicorn ended before {path} was answered")
            if connection.fileno() in ready:
                status = status_of(connection)
                connection.close()
                if 200 <= status < 300:
                    return f"{path} answered {status} after {time.monotonic() - begin:.1f} s"
                if status not in (0, 503):
                    if status >= 500:
                        time.sleep(0.5)  # the exception behind it is logged after the answer
                    raise CtlError(f"GET {path} answered {status}, and only 2xx counts as healthy")
                last = f"last answer {status}" if status else "the connection was closed without an answer"
                time.sleep(min(left, 0.2))
                connection = opened.enter_context(ask(address, path))
            alive = children(pid)
            seen |= alive
            dead = len(seen - alive)
            most = max(most, len(alive))
            if len(alive) == most:
                complete_at = time.monotonic()
            if dead >= DEATHS:
                failure = f"{dead} workers died one after the other before {path} was answered"
                break
            if dead and time.monotonic() - complete_at > REPLACED:
                failure = f"a worker ended before {path} was answered, and gunicorn gave up"
                break
        else:
            failure = f"{path} did not answer 2xx within {timeout:g} s ({last})"
    if kill:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    raise CtlError(failure)
