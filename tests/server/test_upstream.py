"""What is borrowed from gunicorn and uvicorn is there, in the form in which it is used."""

import inspect
from typing import Any

from gunicorn import systemd  # type: ignore[import-untyped]
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from gunicorn_fastapi import upstream


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_status_of_a_failed_start() -> None:
    assert upstream.BOOT_ERROR == 3


def test_settings_have_a_name_a_section_and_a_validator() -> None:
    settings = upstream.settings()
    assert {"bind", "max_requests", "post_fork"} <= settings.keys()
    assert settings["max_requests"].validator("7") == 7


def test_the_options_that_the_worker_class_gives_uvicorn_are_options() -> None:
    assert {"loop", "http"} == upstream.WORKER_OPTIONS.keys() <= upstream.options()


def test_hooks_are_told_from_other_settings() -> None:
    assert upstream.is_hook("child_exit")
    assert not upstream.is_hook("max_requests")


def test_the_master_has_its_sockets_in_listeners() -> None:
    assert Arbiter.LISTENERS == []


def test_systemd_is_told() -> None:
    assert parameters(systemd.sd_notify)[:2] == ["state", "logger"]


def test_who_has_left_is_an_error_of_the_connection() -> None:
    assert upstream.CLIENT_DISCONNECTED.__module__ == "uvicorn.protocols.utils"
    assert issubclass(upstream.CLIENT_DISCONNECTED, OSError)
