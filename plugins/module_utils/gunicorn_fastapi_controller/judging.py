"""How a release is compared with the one in service: its canary and its watch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .inputs import shown

LEAST = {"failed": 0.0, "crashed": 0.0, "slower": 1.0, "memory": 1.0, "requests": 1.0}
"""What bounds there are, and what none may be below."""

MOST_SHARE = 90
# An hour: the run waits, and nobody else can deploy.
MOST_SECONDS = 3600


def canary(inputs: Mapping[str, Any]) -> str:
    """The check of the share and its time."""
    share, seconds = inputs["gunicorn_fastapi_canary_share"], inputs["gunicorn_fastapi_canary_seconds"]
    if not 0 <= share <= MOST_SHARE:
        return f"gunicorn_fastapi_canary_share: {share} must be percents up to {MOST_SHARE}, or 0 for no canary."
    if not 1 <= seconds <= MOST_SECONDS:
        return f"gunicorn_fastapi_canary_seconds: {seconds} must be from 1 to {MOST_SECONDS}; the run waits so long."
    if share and inputs["gunicorn_fastapi_handover"] == "stop_first":
        return (
            "gunicorn_fastapi_canary_share: a canary serves beside the release in service, and "
            "gunicorn_fastapi_handover: stop_first does not allow that. Use gunicorn_fastapi_watch_seconds instead."
        )
    return ""


def watch(inputs: Mapping[str, Any]) -> str:
    """The check of the watch's time."""
    seconds = inputs["gunicorn_fastapi_watch_seconds"]
    if 0 <= seconds <= MOST_SECONDS:
        return ""
    return f"gunicorn_fastapi_watch_seconds: {seconds} must be from 1 to {MOST_SECONDS}, or 0 for no watch."


def bounds(inputs: Mapping[str, Any]) -> str:
    """The check of the bounds."""
    for key, value in inputs["gunicorn_fastapi_canary_bounds"].items():
        if key not in LEAST:
            return f"gunicorn_fastapi_canary_bounds: unknown bound {shown(key)}. There are {', '.join(LEAST)}."
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or value < LEAST[key]:
            return f"gunicorn_fastapi_canary_bounds: {key}: {shown(value)} must be a number from {LEAST[key]:g} on."
        if key in ("failed", "crashed") and value >= 100:
            return f"gunicorn_fastapi_canary_bounds: {key}: {shown(value)} must be percents below 100."
        if key == "requests" and value != int(value):
            return f"gunicorn_fastapi_canary_bounds: {key}: {shown(value)} must be a whole number."
    return ""


CHECKS = (canary, watch, bounds)
