"""How what a stop does not wait for ends: streams, requests that take too long, and the process itself."""

import os
import signal
from contextlib import closing

import pytest
from servers import PATIENCE, eventually
from services import Service

HEAD = """
import asyncio, atexit, os, signal, threading, time
from contextlib import asynccontextmanager
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pathlib import Path


def note(text):
    descriptor = os.open("notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{text}\\n".encode())
    os.close(descriptor)


async def begin():
    pass


@asynccontextmanager
async def lifespan(_):
    await begin()
    yield
    note("shutdown")


app = FastAPI(lifespan=lifespan)
atexit.register(note, "atexit")


@app.get("/healthz")
async def healthz():
    return {}
"""

STREAMS = """
@app.get("/events")
async def events():
    async def generate():
        try:
            while True:
                yield "data: 1\\n\\n"
                await asyncio.sleep(0.05)
        finally:
            note("closed")
    return StreamingResponse(generate(), media_type="text/event-stream")


@app.get("/bytes")
async def as_bytes():
    async def generate():
        try:
            while True:
                yield b"x" * 65536
        finally:
            note("closed")
    return StreamingResponse(generate(), media_type="application/octet-stream")


@app.get("/sync")
def sync():
    def generate():
        while True:
            yield b"x"
            time.sleep(0.05)
    return StreamingResponse(generate(), media_type="text/plain", background=None)


@app.get("/finite")
async def finite():
    async def generate():
        yield b"begin"
        while not Path("go").exists():
            await asyncio.sleep(0.02)
        yield b"end"
    return StreamingResponse(generate())


async def start(send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": b"begin", "more_body": True})


async def deaf(scope, receive, send):
    '''Never looks whether its client is there.'''
    await start(send)
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.2)
        note("closed")


async def clever(scope, receive, send):
    '''Ends by itself when the server does, as sse-starlette's streams.'''
    await start(send)
    server = signal.getsignal(signal.SIGTERM).__self__
    while not server.should_exit:
        await asyncio.sleep(0.02)
    note("closed")


app.mount("/deaf", deaf)
app.mount("/clever", clever)
"""


def assert_in_order(service: Service, *notes: str) -> None:
    assert service.notes() == [*notes, "shutdown", "atexit"]


@pytest.mark.parametrize("path", ["/events", "/bytes", "/deaf/", "/clever/"])
def test_a_stream_without_end_is_ended_before_the_shutdown(service: Service, path: str) -> None:
    """Long before the graceful timeout, and nothing of it is an error."""
    server = service.start(HEAD + STREAMS, workers=1, drain_timeout=0.5, settings={"graceful_timeout": 600})
    with closing(service.connection()) as client:
        client.request("GET", path)
        assert client.getresponse().read(5)
        server.stop()
    assert_in_order(service, "closed")
    assert "ERROR" not in server.output
    assert "Traceback" not in server.output


SSE_STARLETTE = """
from sse_starlette.sse import EventSourceResponse


@app.get("/events")
async def events():
    async def generate():
        try:
            while True:
                yield {"data": "1"}
                await asyncio.sleep(0.05)
        finally:
            note("closed")
    return EventSourceResponse(generate())
"""


def test_streams_of_sse_starlette_are_ended_before_the_shutdown(service: Service) -> None:
    """It takes signals and the server's own method in hand, each version in its way."""
    pytest.importorskip("sse_starlette", reason="this list of packages has none")
    server = service.start(HEAD + SSE_STARLETTE, workers=1, drain_timeout=0.5, settings={"graceful_timeout": 600})
    with closing(service.connection()) as client, closing(service.connection()) as another:
        for connection in (client, another):
            connection.request("GET", "/events")
            assert connection.getresponse().read(5)
        server.stop()
    assert_in_order(service, "closed", "closed")
    assert "ERROR" not in server.output
    assert "Traceback" not in server.output


def test_a_stream_of_a_thread_is_ended_too(service: Service) -> None:
    server = service.start(HEAD + STREAMS, workers=1, drain_timeout=0.5, settings={"graceful_timeout": 600})
    with closing(service.connection()) as client:
        client.request("GET", "/sync")
        assert client.getresponse().read(2)
        server.stop()
    assert_in_order(service)
    assert "ERROR" not in server.output


def test_a_stream_that_ends_within_the_drain_time_is_whole(service: Service) -> None:
    server = service.start(HEAD + STREAMS, workers=1, drain_timeout=60, settings={"graceful_timeout": 600})
    with closing(service.connection()) as client:
        client.request("GET", "/finite")
        response = client.getresponse()
        assert response.read(5) == b"begin"
        server.signal(signal.SIGTERM)
        server.wait_for("Draining")
        (service.directory / "go").touch()
        assert response.read() == b"end"
    assert server.process.wait(PATIENCE) == 0


LONG = """
@app.get("/long/{number}")
async def long(number: int):
    note("long")
    try:
        await asyncio.sleep(600)
    finally:
        note("cancelled")


@app.get("/failing")
async def failing():
    note("long")
    try:
        await asyncio.sleep(600)
    finally:
        raise ValueError("its own fault")
"""


def test_what_the_graceful_timeout_leaves_no_time_for_is_one_record(service: Service) -> None:
    server = service.start(HEAD + LONG, workers=1, drain_timeout=0.5, settings={"graceful_timeout": 4})
    clients = [service.connection() for _ in range(3)]
    for client, path in zip(clients, ("/long/1", "/long/2", "/failing"), strict=True):
        client.request("GET", path, headers={"X-Request-ID": f"id-of-{path[1:5]}"})
    eventually(lambda: service.notes().count("long") == 3, "all are being answered")
    server.stop()
    for client in clients:
        assert client.getresponse().status == 500
        client.close()
    assert service.notes()[3:] == ["cancelled", "cancelled", "shutdown", "atexit"]
    told = [line for line in server.output.splitlines() if "after the graceful timeout" in line]
    assert len(told) == 1
    assert "Cancelled 3 request(s)" in told[0]
    for words in ("GET /long/1 (id-of-long, ", "GET /long/2 (id-of-long, ", "GET /failing (id-of-fail, "):
        assert words in told[0]
    assert server.output.count("Exception in ASGI application") == 1
    assert "ValueError: its own fault" in server.output


@pytest.mark.parametrize("how", ["max_requests", "reload", "signal", "stop"])
def test_functions_for_the_exit_run_whatever_the_end(service: Service, how: str) -> None:
    settings = {"graceful_timeout": 600, "max_requests": 1 if how == "max_requests" else 0}
    server = service.start(HEAD, workers=1, settings=settings)
    server.wait_for("Application startup complete.")
    if how == "max_requests":
        assert service.get("/healthz")[0] == 200
    elif how == "reload":
        server.signal(signal.SIGHUP)
    elif how == "signal":
        os.kill(server.children().pop(), signal.SIGTERM)
    if how != "stop":
        eventually(lambda: service.notes() == ["shutdown", "atexit"], "the worker has ended")
        server.wait_for("Application startup complete.", times=2)
    server.stop()
    assert service.notes() == ["shutdown", "atexit"] * (1 if how == "stop" else 2)


HANGING = """
@asynccontextmanager
async def hanging(_):
    yield
    await asyncio.sleep(600)

"""


@pytest.mark.parametrize(
    "what",
    [
        "atexit.register(time.sleep, 600)",
        "threading.Thread(target=time.sleep, args=(600,)).start()",
        "app.router.lifespan_context = hanging",
    ],
)
def test_a_process_that_does_not_end_is_ended_and_told(service: Service, what: str) -> None:
    server = service.start(HEAD + HANGING + what, workers=1, settings={"graceful_timeout": 3})
    server.wait_for("Application startup complete.")
    server.stop()
    assert "The worker did not exit within the graceful timeout. It was in:" in server.output
    assert "SIGKILL" not in server.output


TAKES = {
    "loop": "asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, note, 'taken')",
    "signal": "signal.signal(signal.SIGTERM, lambda *_: note('taken'))",
    "ignored": "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
    "default": "signal.signal(signal.SIGTERM, signal.SIG_DFL)",
    "later": "asyncio.get_running_loop().call_later(0.3, signal.signal, signal.SIGTERM, signal.SIG_IGN)",
}


@pytest.mark.parametrize("how", TAKES)
def test_an_application_that_takes_the_signal_is_drained(service: Service, how: str) -> None:
    taking = f"""
async def begin():
    {TAKES[how]}


@app.get("/late")
async def late():
    note("late")
    while not Path("go").exists():
        await asyncio.sleep(0.02)
    return "late"
"""
    server = service.start(HEAD + taking, workers=1)
    server.wait_for("The application has set a signal handler for SIGTERM")
    with closing(service.connection()) as client:
        client.request("GET", "/late")
        eventually(lambda: "late" in service.notes(), "it is being answered")
        server.signal(signal.SIGTERM)
        server.wait_for("Draining 1 connection(s)")
        (service.directory / "go").touch()
        assert client.getresponse().read() == b'"late"'
    assert server.process.wait(PATIENCE) == 0
    assert_in_order(service, "late")
    assert server.output.count("has set a signal handler") == 1
