"""Starting programs of the host, with an environment, an end and an error message of ours."""

import contextlib
import errno
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
"""All that a program inherits from us."""

TRANSIENT = re.compile(
    r"Failed to connect to (system scope )?bus|Connection reset by peer|Transport endpoint is not connected"
    r"|Message recipient disconnected|Connection terminated|Failed to activate service 'org\.freedesktop\.systemd1'"
)
"""What systemd's programs say while the service manager executes itself again, as its upgrade has it do."""

PIECE = 65536
"""Bytes that are read at once."""

PATIENCE = 30.0
"""Seconds for which a service manager that cannot be reached is asked again."""


MOST = 16 * 1024 * 1024
"""Bytes that a program may print. What answers us prints a few KiB; an index decides how much uv has to complain of."""


class CtlError(Exception):
    """What failed, why, and what to do next; for the operator, as it stands."""


class LateError(CtlError):
    """A program that was killed because it did not end in time."""


def run(
    *command: str,
    check: bool = True,
    timeout: float = 30.0,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """What a command prints. Raises CtlError with its own words when it fails and `check` is set.

    Raises CtlError in any case when it cannot be started, has not ended after `timeout` seconds, or prints without
    an end. It gets only the variables of `environment`, beside a PATH of ours. systemctl is asked again while systemd
    restarts itself.
    """
    deadline = 0.0  # from the first failure on: what is waited for may have taken longer
    while True:
        status, output, errors = finish(command, timeout, stdin, environment)
        again = status and Path(command[0]).name == "systemctl" and TRANSIENT.search(errors[-4096:])
        if not again or (deadline and time.monotonic() >= deadline):
            break
        if not deadline:
            deadline = time.monotonic() + PATIENCE
            print(f"systemd cannot be reached, retrying for {PATIENCE:g} s", file=sys.stderr, flush=True)
        time.sleep(0.5)
    if check and status:
        raise CtlError(f"{' '.join(command)}: {errors.strip() or how_it_ended(status)}")
    return output


def finish(
    command: tuple[str, ...],
    timeout: float,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    watch: Callable[[], None] = lambda: None,
) -> tuple[int, str, str]:
    """Run a command to its end: its status, output and errors.

    Raises LateError when there is no end, and CtlError when it prints more than MOST bytes; it is killed then, and when
    `watch`, which is called about once a second meanwhile, raises an error.
    """
    deadline = time.monotonic() + timeout
    with started(command, environment, stdin) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        printed = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
        output, errors = printed.values()
        while printed and (left := deadline - time.monotonic()) > 0:
            watch()
            for pipe in select.select([*printed], [], [], min(left, 1.0))[0]:
                piece = os.read(pipe, PIECE)
                printed[pipe] += piece
                if not piece:
                    del printed[pipe]
            if len(output) + len(errors) > MOST:
                raise CtlError(f"{' '.join(command)}: it printed more than {MOST // 2**20} MiB, so it was killed")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        if printed or process.returncode is None:
            raise LateError(
                f"{' '.join(command)}: timed out after {timeout:g} s and was killed. Is the host overloaded?"
            )
    return process.returncode, output.decode(errors="replace"), errors.decode(errors="replace")


def chunks(*command: str, timeout: float, most: int) -> Generator[bytes, None, None]:
    """What a command prints, piece by piece, until its end, `timeout` seconds, or `most` bytes; then it is killed.

    Never has more than one piece in memory. Raises CtlError when the command cannot be started.
    """
    deadline = time.monotonic() + timeout
    with started(command, errors=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        while most > 0 and (left := deadline - time.monotonic()) > 0:
            if not select.select([pipe], [], [], left)[0]:
                return
            piece = os.read(pipe, min(most, PIECE))
            if not piece:
                return
            most -= len(piece)
            yield piece


@contextlib.contextmanager
def started(
    command: tuple[str, ...],
    environment: Mapping[str, str] | None = None,
    stdin: str | None = None,
    errors: int | None = subprocess.PIPE,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process for as long as the block lasts; what is left of it then is killed, and not waited for for ever."""
    try:
        with _input(stdin) as given:
            process = subprocess.Popen(
                command,
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=ENVIRONMENT | dict(environment or {}),
            )
    except OSError as error:
        missing = error.errno == errno.ENOENT
        reason = "it is not installed on this host" if missing else os.strerror(error.errno or 0)
        raise CtlError(f"{command[0]}: {reason}, and {' '.join(command)} is needed") from None
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # the kernel cannot end it either
            process.wait(5)
        for pipe in (process.stdout, process.stderr):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()


@contextlib.contextmanager
def _input(text: str | None) -> Iterator[int]:
    """What a program reads, for as long as the block lasts: in memory, where nobody waits until it is read."""
    if text is None:
        yield subprocess.DEVNULL
        return
    with os.fdopen(os.memfd_create("stdin"), "w+b") as file:
        file.write(text.encode())
        file.seek(0)
        yield file.fileno()


def how_it_ended(status: int) -> str:
    """An exit status in words; below 0 it is the number of a signal."""
    return f"killed by signal {-status}" if status < 0 else f"exit status {status}"
