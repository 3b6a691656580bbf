"""What the operator is told: on the terminal, in the journal, or collected for who asked in JSON."""

import contextlib
import sys

from appctl import journal
from appctl.app import App
from appctl.text import visible

MOST = 16384
"""Characters of one text that are shown."""

said: list[str] = []
"""What this command has said so far."""

quiet = False
"""Whether it is collected only, because the caller gets JSON."""


def out(text: str, error: bool = False) -> None:
    """Tell whoever waits."""
    shown = visible(text, MOST)
    said.append(shown)
    if not quiet:
        with contextlib.suppress(OSError):  # nobody waits any more, and what was begun goes on
            print(shown, file=sys.stderr if error else sys.stdout, flush=True)


def say(app: App, text: str, release: str, error: bool = False) -> None:
    """Tell whoever waits, and the journal of the application's own unit."""
    out(text, error)
    tell(app, text, release, error)


def tell(app: App, text: str, release: str, error: bool = False) -> None:
    """Tell the journal alone. Never fails: what is told decides nothing."""
    with contextlib.suppress(OSError):
        journal.tell(app.name, visible(text, MOST), release, error)
