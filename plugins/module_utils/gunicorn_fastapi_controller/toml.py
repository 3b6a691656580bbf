"""TOML files of projects: read with a sentence for what cannot be."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from .problem import InputError, visible


def load(path: Path, remedy: str) -> dict[str, Any]:
    """The content of a file. Raises InputError, which ends with the remedy, for one that Python's reader refuses.

    That reader knows TOML 1.0, and a newer tool may write 1.1.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(
            f"gunicorn_fastapi_requirements: {path} cannot be read: {visible(str(error))}. {remedy}"
        ) from error


def table(value: object) -> dict[str, Any]:
    """A table, an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def rows(value: object) -> list[dict[str, Any]]:
    """The tables of an array, none in place of anything else."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def texts(value: object) -> list[str]:
    """The texts of an array, none in place of anything else."""
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
