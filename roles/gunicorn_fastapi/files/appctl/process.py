"""Starting programs of the host, with an environment, an end and an error message of ours."""

import contextlib
import errno
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
"""All that a program inherits from us."""

TRANSIENT = re.compile(
    r"Failed to connect to (system scope )?bus|Connection reset by peer|Transport endpoint is not connected"
    r"|Message recipient disconnected|Connection terminated|Failed to activate service 'org\.freedesktop\.systemd1'"
)
"""What systemd's programs say while the service manager executes itself again, as its upgrade has it do."""

PATIENCE = 30.0
"""Seconds for which a service manager that cannot be reached is asked again."""


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

    Raises CtlError in any case when it cannot be started or has not ended after `timeout` seconds. It gets only
    the variables of `environment`, beside a PATH of ours. systemctl is asked again while systemd restarts itself.
    """
    deadline = time.monotonic() + PATIENCE
    said = False
    while True:
        status, output, errors = finish(command, timeout, stdin, environment)
        again = status and Path(command[0]).name == "systemctl" and TRANSIENT.search(errors[-4096:])
        if not again or time.monotonic() >= deadline:
            break
        if not said:
            said = True
            print(f"systemd cannot be reached just now, asking again for {PATIENCE:g} s", file=sys.stderr, flush=True)
        time.sleep(0.5)
    if check and status:
        raise CtlError(f"{' '.join(command)}: {errors.strip() or how_it_ended(status)}")
    return output


def finish(
    command: tuple[str, ...], timeout: float, stdin: str | None = None, environment: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """Run a command to its end: its status, output and errors. Raises LateError when there is no end."""
    with started(command, environment, stdin is not None) as process:
        try:
            output, errors = process.communicate(None if stdin is None else stdin.encode(), timeout=timeout)
        except subprocess.TimeoutExpired:
            raise LateError(
                f"{' '.join(command)}: no end within {timeout:g} s, so it was killed. Is the host overloaded?"
            ) from None
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
            piece = os.read(pipe, min(most, 65536))
            if not piece:
                return
            most -= len(piece)
            yield piece


@contextlib.contextmanager
def started(
    command: tuple[str, ...],
    environment: Mapping[str, str] | None = None,
    stdin: bool = False,
    errors: int = subprocess.PIPE,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process for as long as the block lasts; what is left of it then is killed, and not waited for for ever."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
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
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()


def how_it_ended(status: int) -> str:
    """An exit status in words; below 0 it is the number of a signal."""
    return f"killed by signal {-status}" if status < 0 else f"exit status {status}"
