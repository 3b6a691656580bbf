"""The application leaves the edge of the host in the handover that gives it addresses of its own."""

import contextlib
from collections.abc import Iterator
from typing import Any

from appctl import bounded, releases, talk
from appctl.app import App
from appctl.edge import UNIT, Edge, leave
from appctl.process import CtlError


def leaves(edge: Edge, wanted: dict[str, Any] | None) -> bool:
    """Whether the edge's way to the application is none of the addresses that it is to have."""
    way = edge.own / "app.sock"
    return bool(wanted and edge.settings() and way.is_symlink()) and str(way.readlink()) not in (wanted or {})["bind"]


@contextlib.contextmanager
def departure(app: App, wanted: dict[str, Any] | None) -> Iterator[None]:
    """Leave when the block has succeeded. Its ports are free within it if nobody else needs the edge, which comes back
    when the block fails.
    """
    edge = Edge(app)
    if not leaves(edge, wanted):
        yield
        return
    last = set(edge.links().values()) == {app.name}
    if last:
        bounded.change("stop", UNIT)
    try:
        yield
    except BaseException:
        if last:
            bounded.change("start", UNIT, check=False)
            talk.say(app, f"{UNIT}, the edge, was started again", releases.current(app))
        raise
    # What is left of it, the command that the playbook runs next takes away, and says why it could not.
    with contextlib.suppress(CtlError, OSError):
        leave(edge)
