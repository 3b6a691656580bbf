"""What is wrong with texts that have hardly a form: they would pass as they are, and fail late or do nothing."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import pythons
from .inputs import matches, shown

Inputs = Mapping[str, Any]

# gunicorn's own names of worker classes that know no ASGI.
WSGI_WORKERS = ("sync", "gthread", "gevent", "gevent_wsgi", "gevent_pywsgi", "eventlet", "tornado")


def is_clean(value: str) -> bool:
    """Whether a text is there, without spaces around it and without characters that nobody sees."""
    return bool(value) and value == value.strip() and value.isprintable()


def path(variable: str, example: str) -> Callable[[Inputs], str]:
    """The check of a path on the controller."""

    def check(inputs: Inputs) -> str:
        value = inputs[variable]
        return "" if is_clean(value) else f"{variable}: {shown(value)} is not a path. Give one such as {example}."

    return check


def optional(check: Callable[[Inputs], str], variable: str) -> Callable[[Inputs], str]:
    """A check that an empty text passes."""
    return lambda inputs: check(inputs) if inputs[variable] else ""


def names(variable: str) -> Callable[[Inputs], str]:
    """The check of a list of names as Python's packages give them to their extras and groups."""

    def check(inputs: Inputs) -> str:
        wrong = [value for value in inputs[variable] if not matches(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", value)]
        return (
            f"{variable}: {shown(wrong[0])} is not a name of letters, digits and ._- alone. Correct it."
            if wrong
            else ""
        )

    return check


def debian_packages(inputs: Inputs) -> str:
    variable = "gunicorn_fastapi_packages"
    wrong = [value for value in inputs[variable] if not matches(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?", value)]
    return f"{variable}: {shown(wrong[0])} is not the name of a Debian package. Correct it." if wrong else ""


def lock_date(inputs: Inputs) -> str:
    value = inputs["gunicorn_fastapi_lock_date"]
    try:
        if value:
            datetime.date.fromisoformat(value if matches(r"[0-9-]{10}", value) else "")
    except ValueError:
        return f'gunicorn_fastapi_lock_date: {shown(value)} is not a day. Write it as "2023-06-30", in quotes.'
    return ""


def build_command(inputs: Inputs) -> str:
    value = inputs["gunicorn_fastapi_build_command"]
    if not value or (value.strip() and "\0" not in value):
        return ""
    return f"gunicorn_fastapi_build_command: {shown(value)} is no command. Give one such as npm ci && npm run build."


def prepare_command(inputs: Inputs) -> str:
    value = inputs["gunicorn_fastapi_prepare_command"]
    if not value or (value.strip() and "\0" not in value):
        return ""
    return f"gunicorn_fastapi_prepare_command: {shown(value)} is no command. Give one such as python -m shop.assets."


def worker_class(inputs: Inputs) -> str:
    value = inputs["gunicorn_fastapi_worker_class"]
    if value in WSGI_WORKERS:
        return (
            f"gunicorn_fastapi_worker_class: {shown(value)} is for WSGI, and an ASGI application needs a worker class "
            "for ASGI. Remove the variable for the role's own."
        )
    part = r"[A-Za-z_]\w*"
    if matches(rf"asgi|egg:[\w.#-]+|{part}(\.{part})+", value):
        return ""
    return (
        f"gunicorn_fastapi_worker_class: {shown(value)} is not of the form MODULE.CLASS, such as "
        "my_worker.MyWorker. Remove the variable for the role's own."
    )


def python(inputs: Inputs) -> str:
    value = inputs[pythons.VARIABLE]
    if pythons.VERSION.fullmatch(value) or (is_clean(value) and matches(r"[A-Za-z][\w.+-]*|(/[^/]+)+", value)):
        return ""
    return (
        f"{pythons.VARIABLE}: {shown(value)} is neither a version, the name of a program nor an absolute path. Give "
        'one such as "3.13", python3.13 or /usr/local/bin/python3.13.'
    )


def python_mirror(inputs: Inputs) -> str:
    value = inputs[pythons.MIRROR]
    if "@" in value.partition("//")[2].partition("/")[0]:
        return f"{pythons.MIRROR}: it contains a user or a password, which this role does not use. Give a directory."
    if not value or (pythons.is_url(value) and is_clean(value)) or Path(value).expanduser().is_dir():
        return ""
    return f"{pythons.MIRROR}: {shown(value)} is neither a URL (https://...) nor a directory on the controller."


def patterns(variable: str, reason: Callable[[str], str]) -> Callable[[Inputs], str]:
    """The check of a list of patterns. `reason` says why a pattern can fit nothing."""

    def check(inputs: Inputs) -> str:
        for value in inputs[variable]:
            if not is_clean(value):
                return (
                    f"{variable}: {shown(value)} is no pattern: it is empty, or has a space or what nobody sees in it."
                )
            if why := reason(value):
                return f"{variable}: {shown(value)} {why}."
        return ""

    return check


def fits_no_name(pattern: str) -> str:
    """Patterns of `exclude` are compared with the names of files and directories."""
    if "/" not in pattern:
        return ""
    return "has a slash, and what is compared with it is a name. Give a name alone, or put the path into .dockerignore"


def fits_no_path(pattern: str) -> str:
    """Patterns of `include` are compared with paths from the top of the source."""
    of_path = pattern.removeprefix("!")
    if of_path.startswith(("./", "../")) or of_path in (".", "..", "/", ""):
        return "fits no path, which begins at the top of the source. Write it as in static/dist"
    return ""


def log_quiet(inputs: Inputs) -> str:
    variable = "gunicorn_fastapi_log_quiet"

    def fits_no_request(pattern: str) -> str:
        if pattern.startswith(("/", "*", "?", "[")) or pattern == inputs["gunicorn_fastapi_health_path"]:
            return ""
        return "fits no request, because a path begins with a slash. Put one before it"

    return patterns(variable, fits_no_request)(inputs)


def index_url(inputs: Inputs) -> str:
    """Does not repeat what it refuses."""
    value = inputs["gunicorn_fastapi_index_url"]
    if re.search(r"//[^/]*@", value):
        return (
            "gunicorn_fastapi_index_url: it contains a user or a password, which every user of the host would see "
            "while packages are installed. Put them into the host's netrc."
        )
    if not matches(r"([a-z][a-z0-9+.-]*://\S+)?", value):
        return f"gunicorn_fastapi_index_url: {shown(value)} is not a URL, such as https://packages.example.com/simple."
    return ""


def wheelhouse(inputs: Inputs) -> str:
    value = inputs["gunicorn_fastapi_wheelhouse"]
    with contextlib.suppress(OSError):  # such as a name that is too long
        if not value or Path(value).expanduser().is_dir():
            return ""
    return f"gunicorn_fastapi_wheelhouse: {shown(value)} is not a directory on the controller."


def advisories(inputs: Inputs) -> str:
    value = inputs["gunicorn_fastapi_advisories"]
    with contextlib.suppress(OSError, ValueError):  # of what can be no path
        if not value or (value == value.strip() and Path(value).expanduser().exists()):
            return ""
    return f"gunicorn_fastapi_advisories: {shown(value)} is neither a file nor a directory on the controller."
