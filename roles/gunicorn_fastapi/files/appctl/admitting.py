"""Maintenance for all but some networks: what may be asked for, which releases can, and that all workers have heard.

The workers do it themselves (gunicorn_fastapi/closed.py): a program before them would hide who their clients are.
"""

import ipaddress
import time

from appctl import behind, counting, systemd
from appctl.app import MAIN, App
from appctl.process import CtlError
from appctl.releases import short

PATIENCE = 30.0
"""Seconds that the workers have to heed it. They look ten times a second."""

LOOK = 0.1

HEADER = "x-maintenance"
"""By which an answer at the private address says which word all workers heed."""

HEARS = "lib/gunicorn_fastapi/closed.py"
"""What releases have whose workers know of it."""


def network(text: str) -> str:
    """An address or a network, as it is noted. Raises ValueError for anything else."""
    found = ipaddress.ip_network(text)
    if isinstance(found, ipaddress.IPv6Network) and found.prefixlen >= 96:
        first = found.network_address.ipv4_mapped
        if first is not None:  # a peer is told as of IPv4, by whatever socket it came
            found = ipaddress.ip_network((first, found.prefixlen - 96))
    return str(found)


def turn() -> int:
    """By which the workers tell which word they heed. Another one each time, and the same for all of them."""
    return time.time_ns() // 1_000_000


def check(app: App, release: str) -> None:
    """Raises CtlError for a release whose workers would let everybody in."""
    if not (app.release(release) / HEARS).exists():
        raise CtlError(
            f"maintenance --allow: release {short(release)} was built by a version of the role whose workers let "
            "everybody in, and nothing has changed. Deploy the application again, or turn it on for all: "
            f"{app.name}ctl maintenance on"
        )


def check_behind(app: App, release: str) -> None:
    """The same of one that comes into service, where all but some are kept out."""
    if behind.state(app).get("allow"):
        check(app, release)


def check_now(app: App) -> None:
    """The same of those that serve, whose class may be the operator's own."""
    answers = counting.answers(app, MAIN)
    if answers and HEADER not in answers[0].headers:
        raise CtlError(
            f"maintenance --allow: the workers of {app.service} are of a class of your own, which would let everybody "
            f"in, and nothing has changed. Turn it on for all: {app.name}ctl maintenance on"
        )


def wait(app: App, wanted: int) -> None:
    """Wait until all workers heed it. Raises CtlError when one does not."""
    if not systemd.active(app.service):
        return  # it reads the note when it starts
    deadline = time.monotonic() + PATIENCE
    heeded: str | None = ""
    while heeded != str(wanted):
        if time.monotonic() > deadline:
            raise CtlError(
                f"maintenance is {behind.words(app) or 'off'}, but not all workers of {app.service} have heard of it "
                f"within {PATIENCE:g} s, which look ten times a second: one is stuck ({app.name}ctl tasks)"
            )
        time.sleep(LOOK)
        answers = counting.answers(app, MAIN)
        heeded = answers[0].headers.get(HEADER) if answers else None
