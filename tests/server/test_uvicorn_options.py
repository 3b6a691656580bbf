"""Options of uvicorn that an operator sets, with real workers."""

from contextlib import closing, nullcontext
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from gunicorn.workers.sync import SyncWorker  # type: ignore[import-untyped]
from gunicorn_fastapi import upstream
from gunicorn_fastapi.hooks import Hooks
from gunicorn_fastapi.worker import DrainingUvicornWorker
from services import Service
from uvicorn_worker import UvicornWorker  # type: ignore[import-untyped]
from websockets.sync.client import connect

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


class Takes(DrainingUvicornWorker):
    """One whose class was made after the options were known."""


class Extends(DrainingUvicornWorker):
    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {"date_header": False, "root_path": "/x"}


class Replaces(DrainingUvicornWorker):
    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {"root_path": "/y"}


@pytest.mark.parametrize(
    ("worker_class", "said"),
    [
        (DrainingUvicornWorker, ""), (Takes, ""), (Extends, ""),
        (Replaces, "Replaces takes none of them: date_header, root_path."),
        (UvicornWorker, "UvicornWorker takes none of them: date_header, root_path."),
        (SyncWorker, "SyncWorker takes none of them: date_header, root_path."),
    ],
)  # fmt: skip
def test_a_worker_class_that_ignores_the_options_is_refused(
    worker_class: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setattr("gunicorn_fastapi.hooks.Departures", lambda *_: None)
    hooks = Hooks("shop", "r")
    hooks.uvicorn({"root_path": "/x", "date_header": False})
    with pytest.raises(SystemExit) if said else nullcontext() as refused:
        hooks.on_starting(SimpleNamespace(worker_class=worker_class, log=None))
    assert refused is None or f"gunicorn_fastapi_uvicorn_settings: the worker class {said}" in str(refused.value)
    Hooks("shop", "r").on_starting(SimpleNamespace(worker_class=worker_class, log=None))


def test_root_path_works_behind_a_prefix(service: Service) -> None:
    server = service.start(ROUTED, workers=1, options={"root_path": "/shop"})
    server.wait_for("Started server")
    assert service.get("/orders") == (200, b"/shop /shop/orders /shop/orders")
    assert service.get("/other")[0] == 404
    assert service.workers() == "1/1"
    server.stop()


FRAMEWORK = """
from fastapi import FastAPI, Request, WebSocket

app, mounted = FastAPI(), FastAPI()
app.mount("/sub", mounted)


@app.get("/healthz")
async def healthz():
    pass


@mounted.get("/orders/")
async def orders(request: Request):
    return str(request.url_for("orders"))


@mounted.websocket("/ws")
async def ws(websocket: WebSocket):
    await websocket.accept()
    async for _ in websocket.iter_text():
        await websocket.send_text(websocket.url.path)
"""


def test_a_framework_finds_and_names_its_paths_behind_the_prefix(service: Service) -> None:
    """Those of what is mounted too, its redirects, its documentation, and WebSockets."""
    server = service.start(FRAMEWORK, workers=1, options={"root_path": "/shop"})
    server.wait_for("Application startup complete.")
    host, port = service.public.getsockname()
    assert service.get("/sub/orders/") == (200, f'"http://{host}:{port}/shop/sub/orders/"'.encode())
    with closing(service.connection()) as connection:
        connection.request("GET", "/sub/orders")
        assert connection.getresponse().getheader("location") == f"http://{host}:{port}/shop/sub/orders/"
    assert b"'/shop/openapi.json'" in service.get("/docs")[1]
    with connect(f"ws://{host}:{port}/sub/ws") as websocket:
        websocket.send("where?")
        assert websocket.recv() == "/shop/sub/ws"
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
