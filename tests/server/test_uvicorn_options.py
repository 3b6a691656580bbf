"""Options of uvicorn that an operator sets, with real workers."""

from contextlib import closing

import pytest
from gunicorn_fastapi import upstream
from gunicorn_fastapi.hooks import Hooks
from gunicorn_fastapi.worker import DrainingUvicornWorker
from services import Service

# Answers as frameworks do: by what is left of the path behind root_path.
ROUTED = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    root, path = scope["root_path"], scope["path"]
    status = 200 if path.removeprefix(root) in ("/healthz", "/orders") else 404
    body = f"{root} {path} {scope['raw_path'].decode()}".encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture(autouse=True)
def _options_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DrainingUvicornWorker, "CONFIG_KWARGS", upstream.WORKER_OPTIONS)


def test_an_option_that_the_releases_uvicorn_does_not_have_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"_uvicorn_settings: uvicorn \S+ has no option named rot_path"):
        Hooks("shop", "r").uvicorn({"rot_path": "/x", "date_header": False})
    assert DrainingUvicornWorker.CONFIG_KWARGS == upstream.WORKER_OPTIONS


def test_options_of_a_former_configuration_are_gone_after_a_reload() -> None:
    Hooks("shop", "r").uvicorn({"root_path": "/x"})
    Hooks("shop", "r").uvicorn({"date_header": False})
    assert DrainingUvicornWorker.CONFIG_KWARGS == {**upstream.WORKER_OPTIONS, "date_header": False}


def test_root_path_works_behind_a_prefix(service: Service) -> None:
    server = service.start(ROUTED, workers=1, options={"root_path": "/shop"})
    server.wait_for("Started server")
    assert service.get("/orders") == (200, b"/shop /shop/orders /shop/orders")
    assert service.get("/other")[0] == 404
    assert service.workers() == "1/1"
    server.stop()


def test_headers_of_the_server_are_as_the_operator_says(service: Service) -> None:
    options = {"server_header": False, "date_header": False, "headers": [["X-Served-By", "shop"]]}
    server = service.start(ROUTED, workers=1, options=options)
    server.wait_for("Started server")
    with closing(service.connection()) as connection:
        connection.request("GET", "/orders")
        names = {name.lower(): value for name, value in connection.getresponse().getheaders()}
    assert names["x-served-by"] == "shop"
    assert not names.keys() & {"server", "date"}
    server.stop()


def test_websockets_can_be_switched_off(service: Service) -> None:
    server = service.start(ROUTED, workers=1, options={"ws": "none"})
    server.wait_for("Started server")
    handshake = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }  # fmt: skip
    with closing(service.connection()) as connection:
        connection.request("GET", "/orders", headers=handshake)
        assert connection.getresponse().status == 200
    server.stop()
