"""What is wrong with the domains, and with where their certificates come from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .addresses import listening_address
from .inputs import matches, shown

Inputs = Mapping[str, Any]

LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
"""One part of a name, as the edge's configuration looks it up."""

KEPT_IDLE = 2
"""Seconds for which the edge keeps an idle connection to the application (files/edge/Caddyfile)."""

EDGE_PORTS = (80, 443)


def wrong_with_name(name: str, tls: str) -> str:
    """Why a text is no domain that can be served, with the next step. Empty when it is one."""
    if "://" in name or "/" in name:
        return "is more than a name. Give the name alone, such as shop.example.com."
    if not name.isascii():
        with contextlib.suppress(UnicodeError):
            return f"has letters beyond ASCII. Give it as {name.lower().encode('idna').decode()}."
    lower = name.lower().rstrip(".")
    bare = lower.removeprefix("*.")
    labels = bare.split(".")
    fits = len(labels) > 1 and len(bare) <= 253 and all(matches(LABEL, label) for label in labels)
    if not fits or labels[-1].isdigit():
        return "is not the full name of a host. Give one like shop.example.com, without a port."
    if lower != name:
        return f"is not written as browsers send it. Give it as {lower}."
    if bare != lower and tls != "files":
        return (
            "is a wildcard, which takes a certificate of your own. Set gunicorn_fastapi_tls: files, or name each host."
        )
    return ""


def domains(inputs: Inputs) -> str:
    seen = set()
    for name in inputs["gunicorn_fastapi_domains"]:
        why = wrong_with_name(name, inputs.get("gunicorn_fastapi_tls", ""))
        if not why and name in seen:
            why = "is there twice. Give it once."
        if why:
            return f"gunicorn_fastapi_domains: {shown(name)} {why}"
        seen.add(name)
    return ""


def domain_redirects(inputs: Inputs) -> str:
    variable, known = "gunicorn_fastapi_domain_redirects", inputs["gunicorn_fastapi_domains"]
    for name, target in inputs[variable].items():
        why = wrong_with_name(name, inputs.get("gunicorn_fastapi_tls", ""))
        if not why and name.startswith("*"):
            why = "is a wildcard. Name each host."
        if not why and name in known:
            why = "is one of gunicorn_fastapi_domains. Remove it there, or here."
        if not why and target not in known:
            why = f"leads to {shown(target)}, which is none of gunicorn_fastapi_domains. Name one of those."
        if why:
            return f"{variable}: {shown(name)} {why}"
    return ""


def tls_file(variable: str) -> Callable[[Inputs], str]:
    """The check of a file that certificates of one's own are made of."""

    def check(inputs: Inputs) -> str:
        value = inputs[variable]
        needed = inputs["gunicorn_fastapi_domains"] and inputs["gunicorn_fastapi_tls"] == "files"
        if (value or needed) and not is_file(value):
            return f"{variable}: {shown(value)} is not a file on the controller."
        if value and inputs["gunicorn_fastapi_domains"] and not needed:
            return f"{variable}: it is used with gunicorn_fastapi_tls: files alone. Set that, or remove it."
        return ""

    return check


def is_file(path: str) -> bool:
    """Whether there is such a file."""
    with contextlib.suppress(OSError, ValueError):
        return bool(path) and Path(path).expanduser().is_file()
    return False


def acme_directory(inputs: Inputs) -> str:
    value = inputs["gunicorn_fastapi_acme_directory"]
    if matches(r"(https://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/?&=%+-]*)?)?", value):
        return ""
    return (
        f"gunicorn_fastapi_acme_directory: {shown(value)} is not the https:// address of an ACME directory, such as "
        "https://acme-staging-v02.api.letsencrypt.org/directory."
    )


def acme_email(inputs: Inputs) -> str:
    value = inputs["gunicorn_fastapi_acme_email"]
    if matches(r"([A-Za-z0-9._+-]+@[A-Za-z0-9.-]+)?", value):
        return ""
    return f"gunicorn_fastapi_acme_email: {shown(value)} is not an address such as ops@example.com."


def acme_root(inputs: Inputs) -> str:
    value = inputs["gunicorn_fastapi_acme_root"]
    if not value or is_file(value):
        return ""
    return f"gunicorn_fastapi_acme_root: {shown(value)} is not a file on the controller."


def drain_timeout(inputs: Inputs) -> str:
    """A request that is sent while the application closes an idle connection would be lost."""
    value = inputs["gunicorn_fastapi_drain_timeout"]
    if not inputs["gunicorn_fastapi_domains"] or value > KEPT_IDLE:
        return ""
    return (
        f"gunicorn_fastapi_drain_timeout: {value} is too short with gunicorn_fastapi_domains: Caddy keeps idle "
        f"connections for {KEPT_IDLE} s and has to close them first. Set it to at least {KEPT_IDLE + 1}."
    )


def bind(inputs: Inputs) -> str:
    """Beside the edge there may be further addresses, none of which is the edge's or could be taken for its socket."""
    values, default = inputs["gunicorn_fastapi_bind"], ["0.0.0.0:80"]
    if not inputs["gunicorn_fastapi_domains"] or values == default:
        return ""
    for value in values:
        if value.startswith("/"):
            return (
                f"gunicorn_fastapi_bind: {shown(value)} is a unix socket, and with gunicorn_fastapi_domains the role "
                "makes the one that Caddy uses. Remove it, or remove the domains where another proxy uses it."
            )
        with contextlib.suppress(ValueError):  # told by the check of all addresses
            port = int(listening_address(value).rpartition(":")[2])
            if port in EDGE_PORTS:
                return (
                    f"gunicorn_fastapi_bind: {shown(value)}: with gunicorn_fastapi_domains, Caddy has the ports 80 and "
                    "443. Remove it."
                )
    return ""


def forwarded_allow_ips(inputs: Inputs) -> str:
    given = inputs["gunicorn_fastapi_gunicorn_settings"].get("forwarded_allow_ips")
    if not inputs["gunicorn_fastapi_domains"] or given is None:
        return ""
    trusted = [part.strip() for part in given.split(",")] if isinstance(given, str) else []
    if "unix" in trusted or "*" in trusted:
        return ""
    return (
        f"gunicorn_fastapi_gunicorn_settings: forwarded_allow_ips {shown(given)} is without Caddy, so every client "
        'would be called unix. Add "unix" to it, or leave it out.'
    )


def hsts(inputs: Inputs) -> str:
    value = inputs["gunicorn_fastapi_hsts"]
    return "" if value >= 0 else f"gunicorn_fastapi_hsts: {value} must not be negative. 0 says nothing to browsers."


def inside_the_source(path: object) -> bool:
    """Whether it is a plain path below the source's directory."""
    return isinstance(path, str) and matches(r"[\w.@~+-]+(/[\w.@~+-]+)*", path) and ".." not in path.split("/")


def static(inputs: Inputs) -> str:
    for prefix, source in inputs["gunicorn_fastapi_static"].items():
        if not matches(r"/|(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+", prefix):
            return (
                f"gunicorn_fastapi_static: {shown(prefix)} is not a path of the application. Give one that begins with "
                "a slash and ends without one, such as /static."
            )
        if not inside_the_source(source):
            return (
                f"gunicorn_fastapi_static: {shown(source)} is not a directory of the source. Give its path in the "
                "source, such as static or front/dist."
            )
    if inputs["gunicorn_fastapi_static"] and not inputs["gunicorn_fastapi_domains"]:
        return "gunicorn_fastapi_static: Caddy serves it, which takes gunicorn_fastapi_domains. Set that, or remove it."
    return ""


def page(variable: str) -> Callable[[Inputs], str]:
    """The check of a page that the edge has from the release."""

    def check(inputs: Inputs) -> str:
        value = inputs[variable]
        if value and not inside_the_source(value):
            return (
                f"{variable}: {shown(value)} is not a file of the source. Give its path there, such as dist/index.html."
            )
        if value and not inputs["gunicorn_fastapi_domains"]:
            return f"{variable}: Caddy serves it, which takes gunicorn_fastapi_domains. Set that, or remove it."
        return ""

    return check
