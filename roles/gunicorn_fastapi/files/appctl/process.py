"""Starting programs of the host."""

import subprocess
from collections.abc import Mapping


class CtlError(Exception):
    """What failed, why, and what to do next; for the operator, as it stands."""


ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
"""All that a program inherits from us."""


def run(
    *command: str,
    check: bool = True,
    timeout: float = 30.0,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """What a command prints. Raises CtlError with its own words when it fails and `check` is set.

    It has `timeout` seconds, and only those variables that are named in `environment`, beside a PATH of ours.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            check=False,
            timeout=timeout,
            encoding="utf-8",
            errors="replace",
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            env=ENVIRONMENT | dict(environment or {}),
        )
    except subprocess.TimeoutExpired:
        raise CtlError(f"{' '.join(command)}: it did not end within {timeout:g} s, so it was killed") from None
    if check and done.returncode:
        raise CtlError(f"{' '.join(command)}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return done.stdout
