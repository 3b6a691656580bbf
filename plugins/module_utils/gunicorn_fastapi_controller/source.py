"""The application's source: which of its files belong in a release."""

from __future__ import annotations

import fnmatch
import os
from pathlib import Path

from .problem import InputError


def source_files(source: Path, exclude: list[str]) -> dict[str, Path]:
    """The files and symbolic links below `source`, by their path relative to it."""
    if not source.is_dir():
        raise InputError(
            f"gunicorn_fastapi_app_source: {source} is not a directory on the controller. "
            "Give the directory that holds the application's source and its list of requirements."
        )

    def wanted(names: list[str]) -> list[str]:
        return sorted(n for n in names if not any(fnmatch.fnmatchcase(n, p) for p in exclude))

    found: dict[str, Path] = {}
    for here, directories, names in os.walk(source):
        directories[:] = wanted(directories)
        linked = [d for d in directories if (Path(here) / d).is_symlink()]
        for name in wanted(names) + linked:
            path = Path(here) / name
            if path.is_symlink() and not path.resolve().is_relative_to(source.resolve()):
                raise InputError(
                    f"gunicorn_fastapi_app_source: {path} points out of the source, to {path.readlink()}, "
                    "which would not be there on the host. Copy it in, or add its name to gunicorn_fastapi_exclude."
                )
            if not path.is_symlink() and not path.is_file():
                raise InputError(
                    f"gunicorn_fastapi_app_source: {path} is neither a file nor a directory. "
                    "Add its name to gunicorn_fastapi_exclude."
                )
            found[str(path.relative_to(source))] = path
    return found
