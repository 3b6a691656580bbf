"""How an application finds its secrets: each is a file that systemd makes for this application alone.

``gunicorn_fastapi_credentials: {database_password: "..."}`` is ``credential("database_password")`` here. On a
desk any directory will do: ``CREDENTIALS_DIRECTORY=~/.secrets python main.py``.
"""

import os
from pathlib import Path


def credential(name: str) -> str:
    """A secret, to its last character. Raises KeyError where there are none, FileNotFoundError without this one."""
    return (Path(os.environ["CREDENTIALS_DIRECTORY"]) / name).read_text()
