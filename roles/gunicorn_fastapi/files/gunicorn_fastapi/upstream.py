"""What is borrowed from gunicorn and uvicorn without their promise to keep it: each name here, and once.

``tests/test_upstream.py`` asserts that each exists in the form in which it is used.
"""

from typing import Any

from gunicorn import systemd  # type: ignore[import-untyped]
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from gunicorn.config import KNOWN_SETTINGS  # type: ignore[import-untyped]

BOOT_ERROR: int = Arbiter.WORKER_BOOT_ERROR
"""The status of a worker whose application did not start: gunicorn ends instead of trying again."""

# --- gunicorn's settings ----------------------------------------------------------------------------


def settings() -> dict[str, Any]:
    """gunicorn's settings by their names."""
    return {setting.name: setting for setting in KNOWN_SETTINGS}


def is_hook(name: str) -> bool:
    """Whether a setting is a function that gunicorn calls."""
    return settings()[name].section in ("Server Hooks", "Dirty Arbiter Hooks")


# --- gunicorn's master ------------------------------------------------------------------------------


def is_stopping(server: Any) -> bool:
    """Whether gunicorn has given its sockets up, and lets its workers go without replacing them."""
    return not server.LISTENERS


def notify(state: str, log: Any) -> None:
    """Tell systemd."""
    systemd.sd_notify(state, log)
