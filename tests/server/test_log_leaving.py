"""Clients that leave: few words about them, and none of an application's own are lost."""

import asyncio
import re
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from gunicorn_fastapi.log import leaving
from journals import serve
from servers import PATIENCE, ServerProcess
from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocketDisconnect

APPLICATION = """
import asyncio

from fastapi import Body, FastAPI, Request, WebSocket
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import StreamingResponse

app = FastAPI()
around = FastAPI()
app.mount("/around", around)
app.mount("/raw", lambda *arguments: raw(*arguments))


class Around(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        return await call_next(request)


around.add_middleware(Around)


async def left(request):
    while not await request.is_disconnected():
        await asyncio.sleep(0.01)


@app.post("/stream")
@around.post("/stream")
async def stream(request: Request):
    async for _ in request.stream():
        pass
    return 1


@app.post("/json")
async def json(body: dict = Body()):
    return body


@app.post("/group")
async def group(request: Request):
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(request.body())


@around.get("/nap")
async def nap():
    await asyncio.sleep(0.3)
    return 1


@app.get("/wait")
async def wait(request: Request):
    await left(request)
    return 1


@app.get("/cancelled")
async def cancelled(request: Request):
    await left(request)
    raise asyncio.CancelledError


@app.get("/own")
async def own(request: Request):
    await left(request)
    raise LookupError("its own")


@app.post("/other")
async def other(request: Request):
    try:
        await request.body()
    except Exception as error:
        raise LookupError("another") from error


@app.post("/answering")
async def answering(request: Request):
    async def answer():
        yield b"begun"
        async for _ in request.stream():
            pass
    return StreamingResponse(answer())


@app.websocket("/ws")
async def ws(websocket: WebSocket):
    await websocket.accept()
    while True:
        await websocket.send_text(await websocket.receive_text())


async def raw(scope, receive, send):
    while (await receive())["type"] != "http.disconnect":
        pass
"""

HALF = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\nab"
CHUNKED = b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"
GET = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n"


class Shop:
    """The application, and clients that leave it."""

    def __init__(self, server: ServerProcess, port: int) -> None:
        self.server = server
        self.port = port

    def leave(self, data: bytes, answer: bytes = b"") -> tuple[str, str]:
        """Send this, wait for so much of an answer, and leave; the client's address, and what is logged from then on.

        The next request is answered by the same worker, after the one that was left: it marks the end.
        """
        before = len(self.server.output)
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
            address = "{}:{}".format(*connection.getsockname())
            connection.sendall(data)
            while answer and answer not in connection.recv(65536):
                pass
            if not answer:
                time.sleep(0.1)  # the request is begun before its client leaves: anything else is another case
            if data.startswith(b"GET"):  # who has said all and only closes its half may still read the answer
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        path = data.split()[1].decode()
        self.server.wait_for(f"{path} HTTP/1.1")
        time.sleep(0.2)
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as client:
            client.request("GET", f"/after{path}")
            client.getresponse().read()
        self.server.wait_for(f"/after{path} ")
        return address, self.server.output[before:]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One server for all tests here."""
    directory = tmp_path_factory.mktemp("shop")
    with ExitStack() as stack:

        def start(command: list[str], *, directory: Path, environment: dict[str, str]) -> ServerProcess:
            server = ServerProcess(command, directory / "output", directory=directory, environment=environment)
            stack.callback(server.end)
            return server

        yield Shop(*serve(start, directory, APPLICATION))


@pytest.mark.parametrize(
    ("data", "path", "how_far"),
    [
        (HALF, "/stream", "after 2 of 9 bytes of the body"),
        (HALF, "/json", "after 2 of 9 bytes of the body"),
        (HALF, "/group", "after 2 of 9 bytes of the body"),
        (HALF, "/around/stream", "after 2 of 9 bytes of the body"),
        (HALF, "/raw/half", "after 2 of 9 bytes of the body"),
        (CHUNKED, "/stream?chunked", "after 2 bytes of the body"),
        (GET, "/wait", "before the answer"),
        (GET, "/around/nap", "before the answer"),
        (GET, "/cancelled", "before the answer"),
        (GET, "/raw/get", "before the answer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_who_leaves_is_one_line_and_one_access_line(shop: Shop, data: bytes, path: str, how_far: str) -> None:
    client, output = shop.leave(data % path.encode())
    method = data.split()[0].decode()
    said = [line.split(" - ", 1)[1] for line in output.splitlines() if client in line]
    words = [re.sub(r"uvicorn.(\w+) - \w+ - ", r"\1 ", line) for line in said]
    assert [re.sub(r"\d+\.\d{3} s", "T", word) for word in sorted(words)] == [
        f'INFO - access {client} - "{method} {path} HTTP/1.1" 499',
        f"INFO - error {client} - Disconnected {how_far}, after T: {method} {path.partition('?')[0]}",
    ]
    assert "Traceback" not in output
    assert "ERROR" not in output


@pytest.mark.parametrize(
    ("data", "path", "own"), [(GET, "/own", "its own"), (HALF, "/other", "another")], ids=["own", "other"]
)
def test_what_the_application_raises_itself_is_whole(shop: Shop, data: bytes, path: str, own: str) -> None:
    client, output = shop.leave(data % path.encode())
    assert f"LookupError: {own}" in output
    assert "Traceback (most recent call last)" in output
    assert f'{client} - "{data.split()[0].decode()} {path} HTTP/1.1" 499' in output


def test_an_answer_that_had_begun_keeps_its_status(shop: Shop) -> None:
    client, output = shop.leave(HALF % b"/answering", b"begun")
    assert f'{client} - "POST /answering HTTP/1.1" 200' in output
    assert output.count(f"{client} - Disconnected after 2 of 9 bytes of the body") == 1
    assert "499" not in output
    assert "ERROR" not in output


def test_a_request_that_is_refused_in_its_body_has_not_left(shop: Shop) -> None:
    client, output = shop.leave(CHUNKED % b"/stream?broken" + b"broken\r\n", b"400 Bad Request")
    assert f'{client} - "POST /stream?broken HTTP/1.1" 400' in output
    assert "Disconnected" not in output
    assert "ERROR" not in output


@pytest.mark.parametrize("close", [b"", b"\x88\x82\x00\x00\x00\x00\x03\xe8"], ids=["gone", "closed"])
def test_a_websocket_that_is_left_is_one_line(shop: Shop, close: bytes) -> None:
    key = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + b"A" * 22
    before = len(shop.server.output)
    with socket.create_connection(("127.0.0.1", shop.port), timeout=PATIENCE) as connection:
        client = "{}:{}".format(*connection.getsockname())
        connection.sendall(b"GET /ws HTTP/1.1\r\nHost: x\r\n" + key + b"==\r\n\r\n")
        assert b" 101 " in connection.recv(4096)
        connection.sendall(close)
    shop.server.wait_for(f"{client} - Disconnected with ")
    output = shop.server.output[before:]
    code = 1000 if close else r"100[56]"
    assert re.search(
        rf"INFO - uvicorn.error - \w+ - {client} - Disconnected with {code}, after .* s: WebSocket /ws", output
    )
    assert "Traceback" not in output


def test_many_that_leave_are_told_as_a_number(shop: Shop) -> None:
    before = len(shop.server.output)
    connections = [socket.create_connection(("127.0.0.1", shop.port), timeout=PATIENCE) for _ in range(300)]
    for connection in connections:
        connection.sendall(HALF % b"/stream?many")
    time.sleep(1)
    for connection in connections:
        connection.close()
    shop.server.wait_for("/stream?many HTTP/1.1", 300)
    told = 0
    while told < 300:
        output = shop.server.output[before:]
        told = output.count("Disconnected after 2 of 9 bytes") + sum(map(int, re.findall(r"(\d+) more within", output)))
        told -= output.count("more within")  # which has the last one, too
        time.sleep(0.05)
    assert told == 300
    assert 'POST /stream?many HTTP/1.1" 499' in output
    assert "ERROR" not in output


def test_only_what_frameworks_raise_for_it_is_a_departure() -> None:
    gone = [
        ClientDisconnect(),
        WebSocketDisconnect(1006),
        asyncio.CancelledError(),
        RuntimeError("No response returned."),
    ]
    own = [KeyError("text"), RuntimeError("No response"), OSError(), type("ClientDisconnect", (Exception,), {})()]
    assert all(map(leaving.is_departure, [*gone, BaseExceptionGroup("all", gone)]))
    assert not any(map(leaving.is_departure, [*own, BaseExceptionGroup("one", [*gone, own[0]])]))
