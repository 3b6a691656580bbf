"""Which paths of an application could be asked for its health. They are only told to who has asked in vain."""

import re
from collections.abc import Iterator
from typing import Any

HEALTH = re.compile(r"health|ready|live|alive|ping|status|heartbeat|/up$|version", re.IGNORECASE)
OWN = frozenset({"/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"})
"""FastAPI's, which answer whatever has become of the application."""

TOLD = 8
"""Paths that are told."""

DEPTH = 20
"""Applications within each other that are looked into."""


def askable(app: Any) -> list[str]:
    """Paths that take GET and no parameter, those first that are called like one for health. Never fails."""
    try:
        found = [path for path in dict.fromkeys(_paths(app, "", DEPTH)) if re.fullmatch(r"/[!-z|~]*", path)]
    except Exception:  # noqa: BLE001 (an application may be anything)
        return []
    return sorted((path for path in found if path not in OWN), key=lambda path: not HEALTH.search(path))[:TOLD]


def _paths(app: Any, before: str, depth: int) -> list[str]:
    """The paths of the routes of an application, or of the one that it is around."""
    if depth <= 0 or app is None:
        return []
    routes = getattr(app, "routes", None)
    if not isinstance(routes, (list, tuple)):
        return _paths(getattr(app, "app", None), before, depth - 1)
    found = []
    for route in _each(routes):
        path = str(getattr(route, "path", ""))
        if "GET" in (getattr(route, "methods", None) or ()):
            found.append(before + path)
        elif getattr(route, "routes", None):  # an application below a path
            found += _paths(route, before + path.rstrip("/"), depth - 1)
    return found


def _each(routes: Any) -> Iterator[Any]:
    """Routes one by one, also of routers that a newer FastAPI includes when it is asked for one of their paths."""
    for route in routes:
        included = getattr(route, "effective_route_contexts", None)
        if included is None:
            yield route
            continue
        for context in included():
            yield getattr(context, "starlette_route", None) or context
