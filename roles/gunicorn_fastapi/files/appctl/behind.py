"""Whether an application is in maintenance, and what its units say then: its service has no public address, and the
responder has all of them. For all but some networks the service keeps them, and its workers read the same note
(gunicorn_fastapi/closed.py). What is noted outlasts reboots, deploys and this command.
"""

import json
import re
from typing import Any

from appctl import disk
from appctl.app import App

PAGE_MAX = 1024 * 1024
"""Bytes of a page."""


def state(app: App) -> dict[str, Any]:
    """Since when, by whom, and what was asked for. Empty when the application is not in maintenance."""
    try:
        found = json.loads(disk.read_bounded(app.maintenance / "state.json", 65536))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and found.get("on") is True else {}


def words(app: App) -> str:
    """The same for an operator. Empty when it is not."""
    return told(state(app))


def told(noted: dict[str, Any]) -> str:
    """A state in words. Empty for none."""
    some = f", for all but {', '.join(map(str, noted['allow']))}" if noted.get("allow") else ""
    return f"on since {noted.get('since')} by {noted.get('by')}{some}" if noted else ""


def is_alone(app: App) -> bool:
    """Whether nobody reaches the application by its public addresses."""
    noted = state(app)
    return bool(noted) and not noted.get("allow")


def owner(app: App) -> str:
    """The unit that gets the public addresses."""
    return app.responder if is_alone(app) else app.service


def closed(app: App, text: str) -> str:
    """The text of a unit of the application's without the public addresses."""
    return re.sub(
        r"^(Requires|After|Sockets)=(.*)$",
        lambda line: f"{line[1]}={' '.join(word for word in line[2].split() if word != app.socket)}",
        text,
        flags=re.MULTILINE,
    )


def owned(text: str, unit: str) -> str:
    """The text of a socket's unit, with another service."""
    return re.sub(r"^Service=.*$", f"Service={unit}", text, flags=re.MULTILINE)
