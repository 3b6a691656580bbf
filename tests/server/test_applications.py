"""What applications rightly do to their own process, and what operators send to all processes of a service."""

import inspect
import os
import signal
import sys
import types
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import pytest
from gunicorn_fastapi.hooks import Hooks
from servers import ServerProcess, eventually
from services import Service

APPLICATION = """
import asyncio, atexit, logging, multiprocessing, os, resource, signal, sys, threading, time

def note(word, path=os.path.abspath("notes")):
    with open(path, "a") as notes:
        print(word, file=notes)

{imported}

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        {started}
        await send({{"type": "lifespan.startup.complete"}})
        await receive()
        note("shutdown")
        await send({{"type": "lifespan.shutdown.complete"}})
        return
    body = b"whole"
    if scope["path"] == "/slow":
        note("slow")
        while not os.path.exists(GO):
            await asyncio.sleep(0.02)
    if scope["path"] == "/do":
        {done}
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}})
    await send({{"type": "http.response.body", "body": body}})
"""
LOGGING = """
[loggers]
keys=root, gunicorn.error, gunicorn.access
[handlers]
keys=journal
[formatters]
keys=line
[logger_root]
level=INFO
handlers=journal
[logger_gunicorn.error]
handlers=journal
propagate=0
qualname=gunicorn.error
[logger_gunicorn.access]
handlers=journal
propagate=0
qualname=gunicorn.access
[handler_journal]
class=gunicorn_fastapi.log.JournalHandler
formatter=line
args=("shop",)
[formatter_line]
class=gunicorn_fastapi.log.Formatter
format=%(levelname)s - %(message)s
"""
GO = 'GO = os.path.abspath("go")\n'


def start(
    service: Service, imported: str = "", started: str = "pass", done: str = "pass", **options: Any
) -> ServerProcess:
    """Start an application that does so when it is imported, when it starts, and when ``/do`` is asked for."""
    (service.directory / "logging.conf").write_text(LOGGING)
    options["settings"] = {"logconfig": "logging.conf"}
    return service.start(APPLICATION.format(imported=GO + imported, started=started, done=done), **options)


def begin(service: Service, count: int = 2) -> list[HTTPConnection]:
    """Requests that wait until the file ``go`` is there."""
    clients = [service.connection() for _ in range(count)]
    for client in clients:
        client.request("GET", "/slow")
    eventually(lambda: service.notes().count("slow") == count, "they wait")
    return clients


def serves(service: Service) -> bool:
    """Whether both workers do."""
    try:
        return service.workers() == "2/2"
    except OSError:
        return False


HABITS = {
    "closes its streams on import": {"imported": "os.close(1); os.close(2)"},
    "closes its streams at its start": {"started": "os.close(1); os.close(2)"},
    "closes all three": {"started": "os.closerange(0, 3)"},
    "sends its streams elsewhere": {
        "imported": "os.dup2(null := os.open(os.devnull, os.O_WRONLY), 1); os.dup2(null, 2)"
    },
    "has a file in place of its output": {"imported": "os.close(1); FILE = open('database', 'w')"},
    "has no streams": {"imported": "sys.stdout = sys.stderr = None"},
    "changes directory and mask": {"imported": "os.chdir('/'); os.umask(0o777)"},
    "empties its environment": {"imported": "os.environ.clear()"},
    "allows itself few files": {"imported": "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))"},
    "ignores its children": {"imported": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)"},
    "blocks signals": {"imported": "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGQUIT})"},
    "wakes up by itself": {"started": "signal.set_wakeup_fd(-1)"},
    "has a group of its own": {"started": "os.setpgid(0, 0)"},
    "exits at exit": {"imported": "atexit.register(sys.exit, 7)"},
    "shuts logging down": {"started": "logging.shutdown()"},
    "takes all handlers away": {
        "started": "[logging.getLogger(n).handlers.clear() for n in ('', 'uvicorn.access', 'uvicorn.error')]"
    },
}


@pytest.mark.parametrize("habit", HABITS)
def test_habits(service: Service, habit: str) -> None:
    """It serves, has its access lines, answers what was asked before a stop, and shuts down."""
    server = start(service, **HABITS[habit])
    eventually(lambda: serves(service), "both serve")
    for _ in range(5):
        assert service.get("/line") == (200, b"whole")
    clients = begin(service)
    server.signal(signal.SIGTERM)
    (service.directory / "go").touch()
    for client in clients:
        with closing(client):
            assert client.getresponse().read() == b"whole"
    assert server.process.wait(120) == 0
    assert server.output.count("GET /line HTTP/1.1") == 5
    assert server.output.count("GET /slow HTTP/1.1") == 2
    assert service.notes().count("shutdown") == 2
    assert "SIGABRT" not in server.output
    if (database := service.directory / "database").exists():
        assert database.read_text() == ""


@pytest.mark.parametrize("whom", ["workers", "all"])
@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGTTIN", "SIGTTOU"])
def test_signals_of_gunicorn_that_all_processes_get(service: Service, name: str, whom: str) -> None:
    """As ``systemctl kill --signal=…`` sends them: what was asked is answered, whatever gunicorn makes of it."""
    server = start(service)
    eventually(lambda: serves(service), "both serve")
    workers = server.children()
    clients = begin(service)
    for worker in workers:
        os.kill(worker, signal.Signals[name])
    if whom == "all":
        server.signal(signal.Signals[name])
    assert service.get("/line") == (200, b"whole")
    (service.directory / "go").touch()
    for client in clients:
        with closing(client):
            assert client.getresponse().read() == b"whole"
    if whom == "workers":
        assert server.children() == workers
    server.stop()
    for worker in workers:
        assert f"(pid:{worker}) was sent" not in server.output


def test_a_worker_has_the_signals_that_the_application_wants(service: Service) -> None:
    """Of those that the server has no use for itself."""
    server = start(service, "signal.signal(signal.SIGHUP, lambda *_: note('mine'))", workers=1)
    server.wait_for("Application startup complete.")
    (worker,) = server.children()
    os.kill(worker, signal.SIGHUP)
    eventually(lambda: "mine" in service.notes(), "it is called")
    server.stop()


FORKED = """
        fork = multiprocessing.get_context("fork")
        begun = fork.Event()
        child = fork.Process(target=lambda: (begun.set(), time.sleep(1000)))
        child.start()
        begun.wait()
        {how}
        child.join(20)
        body = b"%r" % child.exitcode
        child.kill()
"""


@pytest.mark.parametrize(
    ("how", "code"), [("child.terminate()", -15), ("os.kill(child.pid, signal.SIGINT)", -2), ("child.kill()", -9)]
)
def test_a_child_of_the_application_ends_by_a_signal(service: Service, how: str, code: int) -> None:
    """It has the worker's handlers no more; the worker still has."""
    server = start(service, done=FORKED.format(how=how).strip(), workers=1)
    server.wait_for("Application startup complete.")
    assert service.get("/do") == (200, b"%d" % code)
    server.stop()
    assert service.notes() == ["shutdown"]


EXITS = {
    "sys.exit(0)": "SystemExit: 0",
    "sys.exit('no address of the database')": "no address of the database",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "raise GeneratorExit": "GeneratorExit",
    "threading.Thread(target=time.sleep, args=(3600,)).start(); raise ValueError('mine')": "ValueError: mine",
    "threading.Thread(target=time.sleep, args=(3600,)).start(); sys.exit(0)": "SystemExit: 0",
}


LIFESPAN = """
import contextlib, sys, threading, time
from starlette.applications import Starlette

@contextlib.asynccontextmanager
async def lifespan(app):
    {how}
    yield

app = Starlette(lifespan=lifespan)
"""


@pytest.mark.parametrize("when", ["imported", "started"])
@pytest.mark.parametrize("how", EXITS)
def test_an_application_that_exits_has_not_started(service: Service, how: str, when: str) -> None:
    """The service fails with the reason, instead of starting workers without end, or waiting for a thread."""
    server = start(service, how) if when == "imported" else service.start(LIFESPAN.format(how=how))
    assert server.process.wait(120) == 3
    assert EXITS[how] in server.output
    assert server.output.count("Booting worker") <= 4


@pytest.mark.parametrize(
    "how",
    [
        "raise SystemExit(4)",
        "raise KeyboardInterrupt",
        "raise GeneratorExit",
        "raise asyncio.CancelledError",
        "threading.Thread(target=sys.exit).start()",
    ],
)
def test_a_request_that_exits_ends_itself_alone(service: Service, how: str) -> None:
    """The others of its worker are answered, and it serves on."""
    server = start(service, done=how, workers=1)
    server.wait_for("Application startup complete.")
    workers = server.children()
    (client,) = begin(service, 1)
    status, _ = service.get("/do")
    assert status == (200 if "Thread" in how else 500)
    (service.directory / "go").touch()
    with closing(client):
        assert client.getresponse().read() == b"whole"
    assert server.children() == workers
    server.stop()


def test_a_hook_that_nobody_would_await_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """gunicorn would make a coroutine of it and forget that."""
    module = types.ModuleType("mine")
    exec("async def when_ready(server): pass", module.__dict__)
    assert inspect.iscoroutinefunction(module.when_ready)
    monkeypatch.setitem(sys.modules, "mine", module)
    with pytest.raises(SystemExit, match=r"when_ready: mine\.when_ready is async or a generator"):
        Hooks("shop", "r").settings({"when_ready": "mine.when_ready"})


RAISES_AFTERWARDS = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    status = 500 if scope["path"] == "/boom" else 200
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
    if status == 500:
        raise RuntimeError("boom")
"""


@pytest.mark.parametrize("first", [b"GET /boom HTTP/1.1\r\nHost: x\r\n\r\n",
                                   b"POST /boom HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"])  # fmt: skip
def test_an_exception_after_the_answer_takes_no_other_with_it(service: Service, first: bytes) -> None:
    """As Starlette raises again what it has answered with 500: the next request may be on the connection already."""
    server = service.start(RAISES_AFTERWARDS, workers=1)
    eventually(lambda: service.get("/")[0] == 200, "it serves")
    with closing(service.connection()) as client:
        client.connect()
        client.sock.sendall(first + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [read(client), read(client)] == [500, 200]
        client.request("GET", "/")
        assert client.getresponse().read() == b"ok"
    eventually(lambda: server.output.count("RuntimeError: boom") == 1, "it is logged")
    assert "Exception in ASGI application" in server.output


def read(client: HTTPConnection) -> int:
    """The status of the next answer on a connection, of which nothing more is read."""
    text = b""
    while not text.endswith(b"\r\n\r\nok"):
        byte = client.sock.recv(1)
        assert byte, f"the connection was closed after {text!r}"
        text += byte
    return int(text.split()[1])
