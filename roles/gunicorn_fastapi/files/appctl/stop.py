"""The end of a service has a time of root's own, whatever the application asks systemd for."""

import argparse
import contextlib
import os
import select
import signal
import time

from appctl import releases, systemd, talk
from appctl.app import INSTANCES, App
from appctl.asking import seconds

KILLING = 5.0
"""Seconds in which processes that were killed are gone, unless the kernel itself holds them."""


def end(unit: str, timeout: float) -> bool:
    """Ask the main process of a unit to end, and wait; False when it has not ended within `timeout` seconds."""
    with contextlib.suppress(ProcessLookupError), systemd.main_process(unit) as main:
        main.signal(signal.SIGTERM)
        return bool(select.select([main.descriptor], [], [], timeout)[0])
    return True


def kill(unit: str) -> None:
    """Kill all processes of a unit but this one, until none is left."""
    group = systemd.show(unit, "ControlGroup")["ControlGroup"]
    deadline = time.monotonic() + KILLING
    while (others := systemd.processes(unit) - {os.getpid()}) and time.monotonic() < deadline:
        for pid in others:
            with contextlib.suppress(ProcessLookupError), systemd.process(pid, group) as other:
                other.signal(signal.SIGKILL)
        time.sleep(0.05)


def command_stop(app: App, arguments: argparse.Namespace) -> None:
    """Tell the main process to end, and kill what has not ended in time. systemd asks this at each stop.

    Without it the application could prolong its own stop by EXTEND_TIMEOUT_USEC=, as often as it likes.
    """
    unit = app.instance_service(arguments.instance)
    if end(unit, arguments.timeout):
        return
    current = releases.current(app)
    talk.tell(app, f"{unit} did not stop within {arguments.timeout:g} s and is killed", current, error=True)
    kill(unit)


def add_stop(command: argparse.ArgumentParser) -> None:
    command.add_argument("instance", choices=INSTANCES)
    command.add_argument("--timeout", type=seconds, default=60, metavar="SECONDS")
