"""What is wrong with the values of the role's variables, each check a function.

A check gets the variables in their types, without those that have none, and returns a sentence that has the thing,
the reason and the next step, or nothing. It looks at the controller at most, never at the host.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any

from . import (
    addresses,
    allowing,
    domains,
    health_checks,
    hooks,
    judging,
    location,
    processes,
    secret,
    settings,
    state,
    texts,
    timers,
)
from .environment import wrong
from .inputs import matches, shown
from .names import TAKEN

Inputs = Mapping[str, Any]

# The worker keeps 2 seconds of the whole for ending what has not ended by itself.
AFTER_DRAIN = 3

# The active release and the one to roll back to.
LEAST_RELEASES = 2

# Less would end what serves already: a main process and one worker of an application that does nothing take 50 MiB.
LEAST_MEMORY = 64 * 1024 * 1024

# Two generations of a main process and a worker with a thread, and the programs that start and ask them.
LEAST_TASKS = 16


def name(inputs: Inputs) -> str:
    """A hyphen would make units of another application of it (shop-probe.socket), or put it into another's limits."""
    value = inputs["gunicorn_fastapi_name"]
    if not matches(r"[a-z][a-z0-9_]{0,30}", value):
        other, hyphen, _ = value.partition("-")
        own = f" What follows a hyphen is a unit of an application {shown(other)}." if other and hyphen else ""
        return (
            f"gunicorn_fastapi_name: {shown(value)} names units, a directory and a user.{own} "
            "Use a lower-case letter, then up to 30 of a-z, 0-9 and _."
        )
    if value in TAKEN:
        return (
            f"gunicorn_fastapi_name: {shown(value)} is a name that the system uses for a user, a unit, a command or a "
            f"directory of its own. Choose another name, such as {value}_app."
        )
    return ""


def app_module(inputs: Inputs) -> str:
    value = inputs["gunicorn_fastapi_app_module"]
    if not value:  # it is found in the source
        return ""
    part = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
    if matches(rf"{part}:{part}(\(\))?", value):
        return ""
    return (
        f"gunicorn_fastapi_app_module: {shown(value)} is not of the form MODULE:ATTRIBUTE, such as main:app or "
        "package.main:create_app()."
    )


def health_path(inputs: Inputs) -> str:
    value = inputs["gunicorn_fastapi_health_path"]
    if matches(r"/[A-Za-z0-9._~/?&=+-]*", value):
        return ""
    return (
        f"gunicorn_fastapi_health_path: {shown(value)} is not a path. Give one that begins with a slash, such as "
        "/healthz, of letters, digits and ._~/?&=+-"
    )


def health_host(inputs: Inputs) -> str:
    value = inputs["gunicorn_fastapi_health_host"]
    if matches(r"(https://)?[A-Za-z0-9][A-Za-z0-9.-]{0,252}(:[0-9]{1,5})?", value):
        return ""
    return (
        f"gunicorn_fastapi_health_host: {shown(value)} is not the name of a host. Give one like shop.example.com, or "
        "https://shop.example.com where the application wants TLS."
    )


def workers(inputs: Inputs) -> str:
    value = inputs["gunicorn_fastapi_workers"]
    if matches("auto|[1-9][0-9]{0,2}", value):
        return ""
    return f'gunicorn_fastapi_workers: {shown(value)} is neither "auto" nor a whole number from 1 to 999.'


def environment(inputs: Inputs) -> str:
    """Names the variables, never their values."""
    return wrong("gunicorn_fastapi_environment", inputs["gunicorn_fastapi_environment"])


def build_environment(inputs: Inputs) -> str:
    """Names the variables, never their values."""
    values = inputs["gunicorn_fastapi_build_environment"]
    if values and not inputs["gunicorn_fastapi_build_command"]:
        return "gunicorn_fastapi_build_environment: there is no gunicorn_fastapi_build_command that gets it. Set that."
    return wrong("gunicorn_fastapi_build_environment", values)


def credentials(inputs: Inputs) -> str:
    """Names the credentials, never their values."""
    values = inputs["gunicorn_fastapi_credentials"]
    if bad := [key for key in values if not matches(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", key)]:
        return (
            f"gunicorn_fastapi_credentials: {', '.join(map(shown, bad))} is not a valid file name. "
            "Use letters, digits and _.-"
        )
    if secret.CREDENTIAL in values:
        return (
            f"gunicorn_fastapi_credentials: {secret.CREDENTIAL} is the name of the role's own, for the variables of "
            "gunicorn_fastapi_secret_environment. Choose another name."
        )
    if bad := [key for key, value in values.items() if not isinstance(value, str)]:
        return (
            f"gunicorn_fastapi_credentials: the value of {', '.join(map(shown, bad))} is not a string. "
            "Put quotes around it."
        )
    return ""


def release_command(inputs: Inputs) -> str:
    """Does not repeat what it refuses."""
    value = inputs["gunicorn_fastapi_release_command"]
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return (
            "gunicorn_fastapi_release_command: it is neither a text nor a list of texts. Write it as "
            '"alembic upgrade head" or as [alembic, upgrade, head].'
        )
    if any("\0" in word for word in words):
        return "gunicorn_fastapi_release_command: it has a zero byte, which no command can hold. Take it out."
    if value and not words[0].strip():
        return 'gunicorn_fastapi_release_command: it begins with nothing. Give a command, or "" for none.'
    return ""


def is_network(value: object) -> bool:
    """Whether IPAddressAllow= takes it."""
    if value in ("localhost", "link-local", "multicast"):
        return True
    try:
        ipaddress.ip_network(str(value), strict=False)
    except ValueError:
        return False
    return matches(r"[0-9a-fA-F:.]+(/[0-9]+)?", str(value))


def egress(inputs: Inputs) -> str:
    value = inputs["gunicorn_fastapi_egress"]
    wrong = value if not isinstance(value, (list, tuple)) else [part for part in value if not is_network(part)]
    if value == "any" or wrong == []:
        return ""
    return (
        f'gunicorn_fastapi_egress: {shown(wrong)} is neither "any" nor a list of addresses, networks (10.0.0.0/8) and '
        '"localhost". Host names are not supported.'
    )


def graceful_timeout(inputs: Inputs) -> str:
    value, drain = inputs["gunicorn_fastapi_graceful_timeout"], inputs["gunicorn_fastapi_drain_timeout"]
    if value >= drain + AFTER_DRAIN:
        return ""
    return (
        f"gunicorn_fastapi_graceful_timeout: {value} is too short after gunicorn_fastapi_drain_timeout. "
        f"Set it to at least {drain + AFTER_DRAIN}."
    )


def keep_releases(inputs: Inputs) -> str:
    value = inputs["gunicorn_fastapi_keep_releases"]
    if value >= LEAST_RELEASES:
        return ""
    return (
        f"gunicorn_fastapi_keep_releases: {value} must be at least {LEAST_RELEASES}: the active and the "
        "previous release are always kept."
    )


def not_negative(variable: str) -> Callable[[Inputs], str]:
    """The check of a number of which 0 is unlimited."""

    def check(inputs: Inputs) -> str:
        value = inputs[variable]
        return "" if value >= 0 else f"{variable}: {value} must not be negative. 0 is unlimited."

    return check


def websocket_memory_max(inputs: Inputs) -> str:
    value, message = inputs["gunicorn_fastapi_websocket_memory_max"], inputs["gunicorn_fastapi_websocket_message_max"]
    if value >= message:
        return ""
    return (
        f"gunicorn_fastapi_websocket_memory_max: {value} is too small for one message. "
        f"Set it to at least gunicorn_fastapi_websocket_message_max, {message}."
    )


def tasks_max(inputs: Inputs) -> str:
    value = inputs["gunicorn_fastapi_tasks_max"]
    if value >= LEAST_TASKS:
        return ""
    return (
        f"gunicorn_fastapi_tasks_max: {value} is too few for two generations of a worker. Give at least {LEAST_TASKS}."
    )


def above_zero(variable: str) -> Callable[[Inputs], str]:
    """The check of a number that has to be above 0."""

    def check(inputs: Inputs) -> str:
        value = inputs[variable]
        return "" if value > 0 else f"{variable}: {value} must be greater than 0."

    return check


def memory_max(inputs: Inputs) -> str:
    value = inputs["gunicorn_fastapi_memory_max"]
    if not matches("([1-9][0-9]*[KMGT]?|[1-9][0-9]?%|100%)?", value):
        return f"gunicorn_fastapi_memory_max: {shown(value)} must be an amount of memory, such as 512M or 2G."
    if not value or value.endswith("%"):
        return ""
    least, power = LEAST_MEMORY, "KMGT".find(value[-1]) + 1
    if int(value.rstrip("KMGT")) * 1024**power >= least:
        return ""
    what = shown(value) if power else f"{value} is bytes, and that"
    return f"gunicorn_fastapi_memory_max: {what} is less than one worker takes. Give at least 64M, such as 512M."


def cpu_quota(inputs: Inputs) -> str:
    value = inputs["gunicorn_fastapi_cpu_quota"]
    if matches("([1-9][0-9]*%)?", value):
        return ""
    return f"gunicorn_fastapi_cpu_quota: {shown(value)} must be a percentage of one CPU, such as 150%."


CHECKS: tuple[Callable[[Inputs], str], ...] = (
    name,
    location.app_source,
    location.app_path,
    location.app_version,
    app_module,
    texts.optional(texts.path("gunicorn_fastapi_requirements", "requirements.txt"), "gunicorn_fastapi_requirements"),
    texts.names("gunicorn_fastapi_extras"),
    texts.names("gunicorn_fastapi_upgrade"),
    texts.names("gunicorn_fastapi_groups"),
    texts.debian_packages,
    texts.lock_date,
    texts.optional(texts.path("gunicorn_fastapi_lock_file", "lock.txt"), "gunicorn_fastapi_lock_file"),
    texts.patterns("gunicorn_fastapi_exclude", texts.fits_no_name),
    texts.patterns("gunicorn_fastapi_include", texts.fits_no_path),
    state.paths,
    state.working_directory,
    texts.advisories,
    texts.log_quiet,
    texts.worker_class,
    texts.python,
    texts.python_mirror,
    health_path,
    health_host,
    health_checks.problem,
    workers,
    addresses.bind,
    domains.domains,
    domains.tls_file("gunicorn_fastapi_tls_certificate"),
    domains.tls_file("gunicorn_fastapi_tls_key"),
    domains.acme_directory,
    domains.acme_email,
    domains.acme_root,
    domains.drain_timeout,
    domains.bind,
    domains.forwarded_allow_ips,
    domains.hsts,
    domains.static,
    domains.page("gunicorn_fastapi_static_fallback"),
    domains.page("gunicorn_fastapi_unavailable_page"),
    domains.domain_redirects,
    addresses.metrics_bind,
    addresses.socket_mode,
    addresses.owner("gunicorn_fastapi_socket_user"),
    addresses.owner("gunicorn_fastapi_socket_group"),
    environment,
    texts.build_command,
    build_environment,
    above_zero("gunicorn_fastapi_build_timeout"),
    texts.prepare_command,
    above_zero("gunicorn_fastapi_prepare_timeout"),
    secret.secret_environment,
    secret.env_file,
    credentials,
    release_command,
    processes.processes,
    timers.timers,
    above_zero("gunicorn_fastapi_release_timeout"),
    egress,
    settings.gunicorn_settings,
    settings.uvicorn_settings,
    above_zero("gunicorn_fastapi_drain_timeout"),
    graceful_timeout,
    *judging.CHECKS,
    above_zero("gunicorn_fastapi_header_max"),
    above_zero("gunicorn_fastapi_header_timeout"),
    not_negative("gunicorn_fastapi_body_max"),
    allowing.allowed_clients,
    not_negative("gunicorn_fastapi_stall_timeout"),
    above_zero("gunicorn_fastapi_websocket_message_max"),
    websocket_memory_max,
    keep_releases,
    above_zero("gunicorn_fastapi_start_timeout"),
    above_zero("gunicorn_fastapi_lock_wait"),
    above_zero("gunicorn_fastapi_backlog"),
    tasks_max,
    above_zero("gunicorn_fastapi_worker_memory"),
    memory_max,
    cpu_quota,
    hooks.check,
    texts.index_url,
    texts.wheelhouse,
)


def problems(inputs: Inputs) -> list[str]:
    """All that is wrong. A check is left out where one of its variables has no value of its type."""
    found = []
    for check in CHECKS:
        try:
            found.append(check(inputs))
        except KeyError:  # told already
            continue
    return [problem for problem in found if problem]
