"""The files by which prometheus_client adds up the metrics of several processes, kept as true as it needs them.

It counts what is in the directory, whoever has left it there. So each instance gets one of its own below the one that
the variable names, empty at gunicorn's start, and what a dead worker said of itself goes with it.
"""

import functools
import importlib
import os
import sys
from pathlib import Path
from typing import Any

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's own."""


@functools.cache  # a reload comes here again, and counts on
def begin(instance: str) -> None:
    """Give this instance an empty directory, before anything imports prometheus_client. Exits when there can be none.

    Nothing is done unless the operator has set the variable.
    """
    if not os.environ.get(VARIABLE):
        return
    directory = Path(os.environ[VARIABLE], instance)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for left in directory.glob("*.db"):
            left.unlink()
    except OSError as error:
        sys.exit(
            f"gunicorn_fastapi_environment: {VARIABLE}: {error}. Name a directory that the application can write to, "
            "such as /dev/shm/prometheus"
        )
    os.environ[VARIABLE] = str(directory)


def forget(pid: int, log: Any) -> None:
    """Have what only holds for living processes (``livesum`` and others of a gauge) count no more for a dead one."""
    if not os.environ.get(VARIABLE):
        return
    try:
        importlib.import_module("prometheus_client.multiprocess").mark_process_dead(pid)
    except ImportError:
        pass  # the application writes such files in its own way, or not at all
    except Exception:
        log.exception("prometheus_client: the dead worker %d counts on", pid)
