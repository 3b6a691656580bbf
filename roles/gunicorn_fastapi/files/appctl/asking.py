"""What a playbook asks of a command by standard input."""

import argparse
import json
import sys
from typing import Any

from appctl import lock
from appctl.process import CtlError

MOST = 64 * 1024 * 1024
"""Characters of a request."""


def read_request(word: str) -> Any:
    """The request of the command `word`. Raises CtlError for what is no JSON."""
    try:
        return json.loads(sys.stdin.read(MOST))
    except (ValueError, RecursionError):
        raise CtlError(f"{word}: the request on standard input is not valid JSON") from None


def seconds(text: str) -> float:
    """A time on the command line. Raises ValueError for what would never be over, or is none."""
    value = float(text)
    if not 0 <= value < 2**31:
        raise ValueError(text)
    return value


def add_lock_wait(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--lock-wait", type=seconds, default=lock.WAIT, metavar="SECONDS", help="how long to wait for another change"
    )
