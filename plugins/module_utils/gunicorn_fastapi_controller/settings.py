"""Settings of gunicorn and of uvicorn that cannot be passed through to them, each with what is to be done instead."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .inputs import PREFIX, shown

WORKER_CLASS = "gunicorn_fastapi.worker.DrainingUvicornWorker"


def _variable(name: str) -> str:
    return f"set {PREFIX}{name} instead"


def _other(variable: str, settings: str) -> str:
    return f"set {PREFIX}{variable}: {{{settings}}} instead"


SYSTEMD = "systemd does that, in the unit. Remove it"
RELEASES = "a release never changes; deploy again instead. Remove it"
LISTENS = "systemd listens, and passes its sockets to gunicorn. Remove it"
LOGS = "logging is configured by a file, which wins over it. Set logconfig to one of your own instead"
STRICT = "this worker has rules of its own for what a request may look like. Remove it"
PROXY = "this worker only speaks HTTP, and knows a proxy by its address. Set forwarded_allow_ips instead"
UNUSED = "this worker does not use it. Remove it"
UNHEARD = "this worker never calls it. Remove it"

GUNICORN: Mapping[str, str] = {
    "bind": _variable("bind"),
    "workers": _variable("workers"),
    "worker_class": _variable("worker_class"),
    "keepalive": _variable("drain_timeout"),
    "graceful_timeout": _variable("graceful_timeout"),
    "backlog": _variable("backlog"),
    "loglevel": _variable("log_level"),
    "access_log_format": _variable("log_format"),
    "wsgi_app": _variable("app_module"),
    "raw_env": _variable("environment"),
    "proc_name": _variable("name"),
    "default_proc_name": _variable("name"),
    "reuse_port": LISTENS,
    "daemon": SYSTEMD,
    "pidfile": SYSTEMD,
    "user": SYSTEMD,
    "group": SYSTEMD,
    "initgroups": SYSTEMD,
    "umask": SYSTEMD,
    "chdir": "the application runs in its source. Remove it",
    "pythonpath": "the application's modules are in its source or its requirements. Remove it",
    "config": "this is the only configuration of gunicorn. Put what is in the file here",
    "check_config": "gunicorn would exit instead of serving. Remove it",
    "print_config": "gunicorn would print its configuration at each start. Remove it",
    "reload": RELEASES,
    "reload_engine": RELEASES,
    "reload_extra_files": RELEASES,
    "pre_exec": "gunicorn is never executed anew. Remove it",
    "spew": "it prints each line of Python that runs. Remove it",
    "paste": _variable("app_module"),
    "raw_paste_global_conf": _variable("app_module"),
    "control_socket": "systemd and the control command do what it is for. Remove it",
    "control_socket_mode": "there is no control socket. Remove it",
    "control_socket_disable": "there is no control socket. Remove it",
    "accesslog": LOGS,
    "errorlog": LOGS,
    "capture_output": LOGS,
    "syslog": LOGS,
    "syslog_addr": LOGS,
    "syslog_prefix": LOGS,
    "syslog_facility": LOGS,
    "disable_redirect_access_to_syslog": LOGS,
    "enable_stdio_inheritance": "the journal has all that is printed. Remove it",
}
"""What the role decides, whatever the worker class."""

WORKER: Mapping[str, str] = {
    "threads": "this worker has one event loop. Set the number of processes, gunicorn_fastapi_workers, instead",
    "limit_request_field_size": _variable("header_max"),
    "websocket_max_message_size": _variable("websocket_message_max"),
    "root_path": _other("uvicorn_settings", "root_path: ..."),
    "asgi_loop": _other("uvicorn_settings", "loop: ..."),
    "asgi_lifespan": _other("uvicorn_settings", "lifespan: ..."),
    "asgi_disconnect_grace_period": UNUSED,
    "http_parser": STRICT,
    "http_protocols": STRICT,
    "http2_cleartext": STRICT,
    "http2_max_concurrent_streams": STRICT,
    "http2_initial_window_size": STRICT,
    "http2_max_frame_size": STRICT,
    "http2_max_header_list_size": STRICT,
    "permit_obsolete_folding": STRICT,
    "permit_unconventional_http_method": STRICT,
    "permit_unconventional_http_version": STRICT,
    "strip_header_spaces": STRICT,
    "casefold_http_method": STRICT,
    "header_map": STRICT,
    "forwarder_headers": PROXY,
    "secure_scheme_headers": PROXY,
    "proxy_protocol": PROXY,
    "proxy_allow_ips": PROXY,
    "protocol": PROXY,
    "uwsgi_allow_ips": PROXY,
    "sendfile": UNUSED,
    "tmp_upload_dir": UNUSED,
    "suppress_ragged_eofs": UNUSED,
    "do_handshake_on_connect": UNUSED,
    "ssl_context": UNHEARD,
    "pre_request": UNHEARD,
    "post_request": UNHEARD,
    "worker_int": UNHEARD,
    "worker_abort": UNHEARD,
}
"""What does nothing under the role's own worker class."""


UVICORN: Mapping[str, str] = {
    "app": _variable("app_module"),
    "factory": _variable("app_module"),
    "host": _variable("bind"),
    "port": _variable("bind"),
    "uds": _variable("bind"),
    "fd": LISTENS,
    "backlog": _variable("backlog"),
    "workers": _variable("workers"),
    "env_file": _variable("environment"),
    "log_config": _other("gunicorn_settings", "logconfig: ..."),
    "log_level": _variable("log_level"),
    "access_log": _variable("log_quiet"),
    "use_colors": _variable("log_format"),
    "reload": RELEASES,
    "reload_dirs": RELEASES,
    "reload_delay": RELEASES,
    "reload_includes": RELEASES,
    "reload_excludes": RELEASES,
    "http2": STRICT,
    "h11_max_incomplete_event_size": _variable("header_max"),
    "ws_max_size": _variable("websocket_message_max"),
    "ws_max_queue": _variable("websocket_memory_max"),
    "proxy_headers": _other("gunicorn_settings", "forwarded_allow_ips: ..."),
    "forwarded_allow_ips": _other("gunicorn_settings", "forwarded_allow_ips: ..."),
    "limit_concurrency": _other("gunicorn_settings", "worker_connections: ..."),
    "limit_max_requests": _other("gunicorn_settings", "max_requests: ..."),
    "limit_max_requests_jitter": _other("gunicorn_settings", "max_requests_jitter: ..."),
    "timeout_graceful_shutdown": _variable("graceful_timeout"),
    "timeout_keep_alive": _variable("drain_timeout"),
    "timeout_notify": _other("gunicorn_settings", "timeout: ..."),
    "timeout_worker_healthcheck": _other("gunicorn_settings", "timeout: ..."),
    "callback_notify": UNUSED,
    "ssl_keyfile": _other("gunicorn_settings", "keyfile: ..."),
    "ssl_certfile": _other("gunicorn_settings", "certfile: ..."),
    "ssl_keyfile_password": "gunicorn has no such setting. Use a key without a password",
    "ssl_version": _other("gunicorn_settings", "ssl_version: ..."),
    "ssl_cert_reqs": _other("gunicorn_settings", "cert_reqs: ..."),
    "ssl_ca_certs": _other("gunicorn_settings", "ca_certs: ..."),
    "ssl_ciphers": _other("gunicorn_settings", "ciphers: ..."),
    "ssl_context_factory": UNUSED,
}
"""What the role, or gunicorn, decides for uvicorn."""

VALUES: Mapping[str, tuple[str, ...]] = {
    "http": ("auto", "httptools"),
    "ws": ("auto", "none"),
    "lifespan": ("auto", "on", "off"),
    "interface": ("auto", "asgi3", "asgi2", "wsgi"),
}
"""Options of uvicorn with the values that they may have: of http and ws those that have the role's bounds."""

SWITCHES = ("server_header", "date_header", "ws_per_message_deflate", "reset_contextvars")
"""Options of uvicorn that are true or false. It would take any text for true."""

SECONDS = ("ws_ping_interval", "ws_ping_timeout")
"""Options of uvicorn that are a time, or null for none. A wrong one would only fail with the first WebSocket."""

FRAMING = ("connection", "content-length", "transfer-encoding", "upgrade")
"""Headers of an answer that the server alone sets."""

ZEROS = ("worker_connections", "limit_request_fields")
"""Settings of gunicorn that would leave no client, or no request, when they are 0."""


def gunicorn_settings(inputs: Mapping[str, Any]) -> str:
    """The check of settings for gunicorn."""
    variable = f"{PREFIX}gunicorn_settings"
    given = inputs[variable]
    if wrong := [name for name in given if not _is_name(name)]:
        return (
            f"{variable}: {', '.join(map(shown, wrong))} is not a gunicorn setting. Use the names of gunicorn.conf.py, "
            "such as max_requests."
        )
    if refused := _unwritable(variable, given):
        return refused
    is_own = inputs[f"{PREFIX}worker_class"] == WORKER_CLASS
    if refused := _refusals(variable, given, {**GUNICORN, **(WORKER if is_own else {})}):
        return refused
    for name in ZEROS:
        if str(given.get(name, 1)).strip() == "0":
            return f'{variable}: "{name}": 0 would refuse every client. Give the number that is allowed.'
    return ""


def uvicorn_settings(inputs: Mapping[str, Any]) -> str:
    """The check of options for uvicorn."""
    variable = f"{PREFIX}uvicorn_settings"
    given = inputs[variable]
    if wrong := [name for name in given if not _is_name(name)]:
        return f"{variable}: {', '.join(map(shown, wrong))} is not a uvicorn option. Use the names of uvicorn.Config."
    if refused := _unwritable(variable, given) or _refusals(variable, given, UVICORN):
        return refused
    problems = (_problem(name, option) for name, option in given.items())
    return next((f'{variable}: "{name}": {shown(given[name])} {words}.' for name, words in problems if words), "")


def _problem(name: str, option: Any) -> tuple[str, str]:
    """An option of uvicorn's, and what is wrong with its value."""
    if name in VALUES and option not in VALUES[name]:
        quotes = ", in quotes: without, on and off are true and false" if isinstance(option, bool) else ""
        return name, f"must be one of {', '.join(VALUES[name])}{quotes}"
    if name in SWITCHES and not isinstance(option, bool):
        return name, "must be true or false"
    if name in SECONDS and not (option is None or (type(option) in (int, float) and option > 0)):
        return name, "must be a number of seconds above 0, or null for none"
    if name == "loop" and not isinstance(option, str):
        return name, "must be a name, such as auto, asyncio or uvloop"
    if name == "headers" and not (isinstance(option, list) and all(map(_is_header, option))):
        unset = ", ".join(FRAMING)
        return name, f"must be a list of pairs, such as [[x-served-by, shop]], and the server sets {unset} itself"
    if name == "root_path" and not (isinstance(option, str) and re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", option)):
        return name, ("is not a path prefix. Give one that begins with a slash and ends without one, such as /shop")
    return name, ""


def _is_header(pair: object) -> bool:
    """Whether this is a header's name and value, as an answer may have them."""
    if not (isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
        return False
    name, text = pair
    is_valid = re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) and re.fullmatch(r"[\t\x20-\x7e\xa0-\xff]*", text)
    return bool(is_valid) and name.lower() not in FRAMING


def _is_name(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch("[a-z][a-z0-9_]*", name) is not None


def _unwritable(variable: str, settings: Mapping[str, Any]) -> str:
    """A sentence with the settings whose value is a date or the like of YAML, which has no form in gunicorn's file."""
    wrong = [name for name, given in settings.items() if not _is_plain(given)]
    if not wrong:
        return ""
    return (
        f"{variable}: the value of {', '.join(map(shown, wrong))} is neither a text, a number, a list nor a mapping. "
        "Put quotes around it."
    )


def _is_plain(given: object) -> bool:
    if isinstance(given, Mapping):
        return all(_is_plain(part) for pair in given.items() for part in pair)
    if isinstance(given, (list, tuple)):
        return all(map(_is_plain, given))
    return given is None or isinstance(given, (str, int)) or (isinstance(given, float) and math.isfinite(given))


def _refusals(variable: str, settings: Iterable[str], reasons: Mapping[str, str]) -> str:
    """A sentence with those of the settings that have a reason; empty when none has."""
    refused = "; ".join(f"{shown(name)}: {reasons[name]}" for name in settings if name in reasons)
    return f"{variable}: {refused}." if refused else ""
