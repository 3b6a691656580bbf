"""What of gunicorn's and uvicorn's settings is refused, and why."""

import datetime
import inspect
from typing import Any

import pytest
import uvicorn
import variables
from gunicorn.config import KNOWN_SETTINGS  # type: ignore[import-untyped]
from gunicorn_fastapi_controller import settings
from test_checks import problems, refused

OTHER_CLASS = "shop.workers.Own"

ALLOWED = {
    "max_requests": 1000, "max_requests_jitter": 100, "timeout": 60, "preload_app": True, "worker_connections": 100,
    "limit_request_line": 0, "limit_request_fields": 50, "forwarded_allow_ips": "10.0.0.1", "worker_tmp_dir": "/run/x",
    "logconfig": "logging.conf", "logconfig_dict": {}, "logger_class": "shop.log.Logger", "statsd_host": "a:1",
    "keyfile": "/x", "certfile": "/y", "on_starting": "a.b", "post_fork": "a.b", "child_exit": "a.b",
    "post_worker_init": "a.b", "logconfig_json": "logging.json", "statsd_prefix": "shop", "dogstatsd_tags": "a:b",
    "enable_backlog_metric": True, "ssl_version": 2, "cert_reqs": 1, "ca_certs": "/z", "ciphers": "HIGH",
    "on_reload": "a.b", "when_ready": "a.b", "pre_fork": "a.b", "worker_exit": "a.b",
    "nworkers_changed": "a.b", "on_exit": "a.b", "dirty_apps": ["a:b"], "dirty_workers": 1, "dirty_timeout": 5,
    "dirty_threads": 1, "dirty_graceful_timeout": 5, "on_dirty_starting": "a.b", "dirty_post_fork": "a.b",
    "dirty_worker_init": "a.b", "dirty_worker_exit": "a.b",
}  # fmt: skip


def test_each_reason_belongs_to_a_setting_that_gunicorn_has() -> None:
    # Those of the newest gunicorn that is tested; older ones have fewer.
    known = {setting.name for setting in KNOWN_SETTINGS}
    assert settings.GUNICORN.keys() | settings.WORKER.keys() <= known
    assert not settings.GUNICORN.keys() & settings.WORKER.keys()


def test_each_variable_that_is_named_exists() -> None:
    for reason in (*settings.GUNICORN.values(), *settings.WORKER.values(), *settings.UVICORN.values()):
        for word in reason.replace(":", " ").replace(",", " ").split():
            assert not word.startswith("gunicorn_fastapi_") or word in variables.options(), word


def test_the_worker_class_of_the_reasons_is_the_default() -> None:
    assert variables.options()["gunicorn_fastapi_worker_class"]["default"] == settings.WORKER_CLASS


@pytest.mark.parametrize("name", settings.GUNICORN)
def test_what_the_role_decides_is_refused_for_every_worker_class(name: str) -> None:
    said = refused(gunicorn_settings={"max_requests": 5, name: "x"})
    assert said == f'gunicorn_fastapi_gunicorn_settings: "{name}": {settings.GUNICORN[name]}.'
    assert len(problems(worker_class=OTHER_CLASS, gunicorn_settings={name: "x"})) == 1


@pytest.mark.parametrize("name", settings.WORKER)
def test_what_does_nothing_is_refused_under_the_worker_class_that_does_nothing_with_it(name: str) -> None:
    said = refused(gunicorn_settings={name: "x"})
    assert said == f'gunicorn_fastapi_gunicorn_settings: "{name}": {settings.WORKER[name]}.'
    assert problems(worker_class=OTHER_CLASS, gunicorn_settings={name: "x"}) == []


@pytest.mark.parametrize("name", ["gunicorn_settings", "uvicorn_settings"])
@pytest.mark.parametrize(
    "value", [datetime.date(2024, 1, 2), b"x", [b"x"], {"a": {datetime.date(2024, 1, 2)}}, float("inf")]
)
def test_what_has_no_form_in_the_configuration_is_refused(name: str, value: object) -> None:
    assert 'the value of "statsd_prefix" is neither a text' in refused(**{name: {"statsd_prefix": value}})


def test_settings_with_variables_of_their_own_name_them() -> None:
    said = refused(gunicorn_settings={"bind": "0.0.0.0:8000", "workers": 4, "keepalive": 2, "loglevel": "debug"})
    for name in ("bind", "workers", "drain_timeout", "log_level"):
        assert f"set gunicorn_fastapi_{name} instead" in said


@pytest.mark.parametrize("name", settings.ZEROS)
@pytest.mark.parametrize("zero", [0, "0"])
def test_what_would_leave_no_client_is_refused(name: str, zero: object) -> None:
    """The preflight would pass: who asks there has room of its own."""
    assert f'"{name}": 0 would refuse every client' in refused(gunicorn_settings={name: zero})


def test_all_others_are_allowed() -> None:
    """None of gunicorn's settings is ignored without a word because nobody has thought of it."""
    assert problems(gunicorn_settings=ALLOWED) == []
    known = {setting.name for setting in KNOWN_SETTINGS}
    assert known == ALLOWED.keys() | settings.GUNICORN.keys() | settings.WORKER.keys()


# --- uvicorn ----------------------------------------------------------------------------------------


def test_each_reason_belongs_to_an_option_that_uvicorn_has() -> None:
    options = inspect.signature(uvicorn.Config).parameters.keys()
    assert {*settings.UVICORN, *settings.VALUES, *settings.SWITCHES, *settings.SECONDS} <= options


@pytest.mark.parametrize("name", settings.UVICORN)
def test_what_the_role_decides_for_uvicorn_is_refused(name: str) -> None:
    said = refused(uvicorn_settings={"date_header": False, name: "x"})
    assert said == f'gunicorn_fastapi_uvicorn_settings: "{name}": {settings.UVICORN[name]}.'


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"http": "h11"}, '"http": "h11" must be one of auto, httptools'),
        ({"lifespan": False}, '"lifespan": false must be one of auto, on, off, in quotes'),
        ({"lifespan": "maybe"}, '"lifespan": "maybe" must be one of auto, on, off.'),
        ({"interface": "cgi"}, "must be one of auto, asgi3, asgi2, wsgi"),
        ({"server_header": "no"}, '"server_header": "no" must be true or false'),
        ({"date_header": 0}, "must be true or false"),
        ({"ws_per_message_deflate": "false"}, "must be true or false"),
        ({"reset_contextvars": None}, "must be true or false"),
        ({"ws_ping_interval": "20"}, '"ws_ping_interval": "20" must be a number of seconds above 0, or null'),
        ({"ws_ping_interval": 0}, "must be a number of seconds above 0"),
        ({"ws_ping_timeout": -1}, "must be a number of seconds above 0"),
        ({"ws_ping_timeout": True}, "must be a number of seconds above 0"),
        ({"loop": 3}, '"loop": 3 must be a name'),
        ({"headers": "x-a: b"}, "must be a list of pairs"),
        ({"headers": {"x-a": "b"}}, "must be a list of pairs"),
        ({"headers": [["x-a", 1]]}, "must be a list of pairs"),
        ({"headers": [["x a", "b"]]}, "must be a list of pairs"),
        ({"headers": [["x-a", "b\r\nx-c: d"]]}, "must be a list of pairs"),
        ({"headers": [["Content-Length", "5"]]}, "the server sets connection, content-length"),
        ({"ws": "wsproto"}, '"ws": "wsproto" must be one of auto, none'),
        ({"ws": None}, '"ws": null must be one of auto, none'),
        ({"root_path": "shop"}, '"root_path": "shop" is not a path prefix'),
        ({"root_path": "/shop/"}, "ends without one, such as /shop"),
        ({"root_path": "/shop\n"}, "is not a path prefix"),
        ({"root_path": "/*"}, "is not a path prefix"),
        ({"root_path": None}, "is not a path prefix"),
        ({"Root-Path": "/x"}, '"Root-Path" is not a uvicorn option'),
    ],
)
def test_an_option_of_uvicorn_with_a_value_that_cannot_be(option: dict[str, Any], said: str) -> None:
    assert said in refused(uvicorn_settings=option)


def test_all_other_options_of_uvicorn_are_allowed() -> None:
    given: dict[str, Any] = {
        "root_path": "/shop/v1.2", "ws_ping_interval": None, "ws_ping_timeout": 5, "ws_per_message_deflate": False,
        "ws": "none", "loop": "asyncio", "http": "httptools", "lifespan": "off", "interface": "asgi3",
        "server_header": False, "date_header": False, "headers": [["x-a", "b"]], "reset_contextvars": True,
    }  # fmt: skip
    assert problems(uvicorn_settings=given) == []
    assert set(given) | settings.UVICORN.keys() == set(inspect.signature(uvicorn.Config).parameters)
