"""What is borrowed from gunicorn and uvicorn is there, in the form in which it is used."""

import asyncio
import inspect
import socket
from contextlib import closing
from typing import Any

from gunicorn import systemd  # type: ignore[import-untyped]
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from gunicorn_fastapi import upstream
from gunicorn_fastapi.guard import Guard
from gunicorn_fastapi.protocol import GuardedProtocol
from uvicorn.config import Config
from uvicorn.server import ServerState
from wires import Witness


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


def test_a_connection_is_made_as_uvicorn_makes_it() -> None:
    """What another uvicorn sets besides would be missing."""
    state = ServerState()

    def made(how: Any) -> tuple[Any, dict[str, Any]]:
        protocol = upstream.HttpToolsProtocol(Config(Witness(), log_config=None, lifespan="off"), state, {})
        before = dict(vars(protocol))
        how(protocol)
        return protocol, {name: value for name, value in vars(protocol).items() if value is not before.get(name)}

    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
            accepted, peer = listener.accept()
            with closing(accepted):
                transport = asyncio.Transport({"socket": accepted})
                theirs, expected = made(lambda protocol: protocol.connection_made(transport))
                ours, found = made(lambda protocol: upstream.connect(protocol, transport, peer))
        assert type(found.pop("flow")) is type(expected.pop("flow"))
        assert found == expected
        assert expected["client"] == peer
        assert state.connections == {theirs, ours}

    asyncio.run(run())


def test_no_connection_has_a_dictionary_of_attributes() -> None:
    async def run() -> dict[str, Any]:
        protocol = GuardedProtocol(
            Guard(), config=Config(Witness(), log_config=None, lifespan="off"), server_state=ServerState(), app_state={}
        )
        protocol.on_message_begin()
        return vars(protocol)

    assert asyncio.run(run()) == {}
