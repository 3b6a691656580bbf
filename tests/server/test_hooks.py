"""gunicorn's hooks: the role's own, and an operator's after them."""

import asyncio
import copy
import inspect
import logging
import os
import signal
import socket
import struct
import sys
import types
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace

import pytest
from gunicorn_fastapi import sizing, upstream
from gunicorn_fastapi.hooks import OWN, Hooks, take_sockets
from gunicorn_fastapi.shared import BOOTING, LEAVING, READY, SPENT, Shares
from servers import eventually
from services import Service, UnixConnection

USERS = """
import asyncio
def on_starting(server): print("HOOK on_starting", flush=True)
def when_ready(server): print("HOOK when_ready", flush=True); raise ValueError("mine")
def pre_fork(server, worker): print("HOOK pre_fork", flush=True); raise SystemExit(7)
def post_fork(server, worker): print("HOOK post_fork", flush=True); raise ValueError("mine")
def post_worker_init(worker): print("HOOK post_worker_init", flush=True); raise ValueError("mine")
def child_exit(server, worker): print("HOOK child_exit", worker.pid, flush=True); raise ValueError("mine")
def worker_exit(server, worker): print("HOOK worker_exit", flush=True); raise ValueError("mine")
def on_reload(server): print("HOOK on_reload", flush=True); raise asyncio.CancelledError
def nworkers_changed(server, new, old): print("HOOK nworkers_changed", new, flush=True)
def on_exit(server): print("HOOK on_exit", flush=True); raise ValueError("mine")
def too_many(server, worker, more): pass
"""

DEFERRED = """
import functools
class Later:
    async def __call__(self, server, worker): pass
async def plain(server, worker): pass
async def asynchronous(server, worker): yield
def generator(server, worker): yield
def bound(tag, server, worker): pass
async def tagged(tag, server, worker): pass
later, partial, of_later = Later(), functools.partial(tagged, 1), functools.partial(Later().__call__)
"""

# The first worker boots, the others wait for a file.
SECOND_WAITS = """
import asyncio, os
from pathlib import Path

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        try:
            os.close(os.open("first", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            while not Path("go").exists():
                await asyncio.sleep(0.02)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})
"""


def test_an_address_that_is_open_gets_another_length_of_its_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hooks, "_show_status", lambda *_: None)
    monkeypatch.setattr(Hooks, "_workers", lambda *_: "")
    with socket.create_server(("127.0.0.1", 0), backlog=5) as address:
        listeners = [SimpleNamespace(sock=address)]
        Hooks("shop", "0d6a").when_ready(
            SimpleNamespace(LISTENERS=listeners, cfg=SimpleNamespace(backlog=77), log=logging.getLogger())
        )
        information = address.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    assert struct.unpack_from("8B6I", information)[13] == 77


def test_private_answers_say_how_many_workers_serve(service: Service) -> None:
    server = service.start(SECOND_WAITS)
    server.wait_for("Application startup complete.")
    assert service.workers() == "1/2"
    assert service.public_workers() is None
    (service.directory / "go").touch()
    eventually(lambda: service.workers() == "2/2", "both serve")
    (service.directory / "go").unlink()
    server.wait_for("Application startup complete.", times=2)
    os.kill(min(server.children()), signal.SIGKILL)
    eventually(lambda: service.workers() == "1/2", "the dead one is forgotten")
    server.signal(signal.SIGTTIN)
    eventually(lambda: service.workers() == "1/3", "one more is wanted")
    (service.directory / "go").touch()
    eventually(lambda: service.workers() == "3/3", "all serve")
    server.stop()


def test_readiness_counts_who_serves() -> None:
    table = Shares()
    table.want(3)
    workers = [copy.copy(table) for _ in range(5)]
    for number, (worker, state) in enumerate(zip(workers, (BOOTING, READY, SPENT, LEAVING, READY), strict=True)):
        worker.join(number)
        worker.is_now(state)
    assert table.readiness() == (3, 3)
    table.forget(4)
    assert table.readiness() == (2, 3)
    workers[1].leave()
    assert table.readiness() == (1, 3)


def test_each_hook_of_the_operator_is_called_and_harms_nothing(service: Service) -> None:
    (service.directory / "mine.py").write_text(USERS)
    names = [line.split("(")[0].removeprefix("def ") for line in USERS.splitlines() if line.startswith("def")]
    names = [name for name in names if name != "too_many"]
    server = service.start(SECOND_WAITS, workers=1, settings={name: f"mine.{name}" for name in names})
    server.wait_for("Application startup complete.")
    eventually(lambda: service.workers() == "1/1", "it serves")
    (service.directory / "go").touch()
    server.signal(signal.SIGHUP)
    server.wait_for("Application startup complete.", times=2)
    server.wait_for("HOOK child_exit")
    eventually(lambda: service.workers() == "1/1", "it serves again")
    server.stop()
    for name in names:
        assert f"HOOK {name}" in server.output
    assert (
        "gunicorn_fastapi_gunicorn_settings: child_exit: mine.child_exit has failed. gunicorn goes on" in server.output
    )
    assert "ValueError: mine" in server.output


HOOKS = [name for name in upstream.settings() if upstream.is_hook(name)]


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
@pytest.mark.parametrize("name", HOOKS)
def test_whatever_a_hook_of_the_operators_raises_is_logged(
    name: str, error: type[BaseException], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever gunicorn calls it with: the role's own comes first, and gunicorn takes the two for what it expects."""
    known = upstream.settings()[name]
    expected = list(inspect.signature(known.default).parameters) if callable(known.default) else ["server", "worker"]
    called: list[object] = []

    def fail(*arguments: object) -> None:
        called.extend(["user's", *arguments])
        raise error("mine")

    module = types.ModuleType("mine")
    exec(f"def hook({', '.join(expected)}): fail({', '.join(expected)})", module.__dict__)
    module.fail = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mine", module)
    mine = Hooks("shop", "r")
    monkeypatch.setattr(mine, name, lambda *_: called.append("the role's"), raising=False)
    chained = known.validator(mine.settings({name: "mine.hook"})[name])
    arguments = [object() for _ in expected]
    chained(*arguments)
    assert called == [*(["the role's"] if name in OWN else []), "user's", *arguments]
    assert f"{name}: mine.hook has failed. gunicorn goes on without it" in caplog.text


def test_what_ends_gunicorn_itself_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that cannot boot ends gunicorn from within a signal, which may come in a hook."""
    module = types.ModuleType("mine")

    def hook(_server: object) -> None:
        raise upstream.HALT("Worker failed to boot.", 3)

    module.hook = hook  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mine", module)
    with pytest.raises(upstream.HALT):
        Hooks("shop", "r").settings({"on_reload": "mine.hook"})["on_reload"](object())


def test_what_gunicorn_asks_for_something_is_no_hook() -> None:
    assert Hooks("shop", "r").settings({"ssl_context": "mine.context"})["ssl_context"] == "mine.context"


@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        ("nowhere.post_fork", "No module named 'nowhere'"),
        ("mine.nothing", "Can not load 'nothing' from 'mine'"),
        ("mine.too_many", "Value must have an arity of: 2"),
        ("mine", "is no hook"),
    ],
)
def test_a_hook_that_is_none_is_refused(
    hook: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(USERS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    with pytest.raises(SystemExit, match="gunicorn_fastapi_gunicorn_settings: post_fork: ") as refused:
        Hooks("shop", "r").settings({"post_fork": hook})
    assert reason in str(refused.value)
    monkeypatch.delitem(sys.modules, "mine", raising=False)


@pytest.mark.parametrize("hook", ["later", "plain", "asynchronous", "generator", "partial", "of_later"])
def test_a_hook_that_nobody_would_run_is_refused(hook: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deferred.py").write_text(DEFERRED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "deferred", raising=False)
    with pytest.raises(SystemExit, match=rf"post_fork: deferred.{hook} is async or a generator"):
        Hooks("shop", "r").settings({"post_fork": f"deferred.{hook}"})


@pytest.mark.parametrize("code", [0, "no database"])
def test_a_module_of_hooks_that_exits_is_told(code: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "exits.py").write_text(f"raise SystemExit({code!r})")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit, match=f"post_fork: exits.hook is no hook: SystemExit: {code}"):
        Hooks("shop", "r").settings({"post_fork": "exits.hook"})


@pytest.mark.parametrize("trusted", [7, None])
def test_whom_to_believe_is_left_to_gunicorn_when_it_is_no_name(trusted: object) -> None:
    assert Hooks("shop", "r").settings({"forwarded_allow_ips": trusted})["forwarded_allow_ips"] == trusted


def test_a_setting_that_gunicorn_does_not_have_is_refused() -> None:
    with pytest.raises(SystemExit, match="gunicorn has no setting named max_request, treads"):
        Hooks("shop", "r").settings({"max_request": 1, "treads": 2, "timeout": 3})


def test_other_settings_stay_as_they_are() -> None:
    assert Hooks("shop", "r").settings({"max_requests": 7})["max_requests"] == 7


@pytest.mark.parametrize(("instance", "wanted", "workers"), [("preflight", 8, 2), ("preflight", 1, 1), ("main", 8, 8)])
def test_two_workers_prove_for_many(instance: str, wanted: int, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUNICORN_FASTAPI_INSTANCE", instance)
    assert Hooks("shop", "r").workers(wanted, 128) == workers
    monkeypatch.setattr(sizing, "workers", lambda _: sizing.Sizing(wanted, "by a test"))
    assert Hooks("shop", "r").workers("auto", 128) == workers


class Master:
    """As much of gunicorn as the hooks need."""

    def __init__(self, workers: int) -> None:
        self.num_workers = workers
        self.LISTENERS = [SimpleNamespace(sock=SimpleNamespace(listen=lambda _: None))]
        self.cfg = SimpleNamespace(backlog=1)
        self.log = logging.getLogger("gunicorn.error")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    states: list[str] = []
    monkeypatch.setattr(upstream, "notify", lambda state, _: states.append(state))
    return states


def test_the_status_says_how_many_workers_and_why(said: list[str]) -> None:
    mine, master = Hooks("shop", "0d6a72e61398" + 28 * "a"), Master(2)
    mine.workers(2, 128)
    mine.when_ready(master)
    worker = SimpleNamespace(age=1, pid=7)
    mine.pre_fork(master, worker)
    worker.has_left[0] = True
    mine.child_exit(master, worker)
    master.num_workers = 3
    mine.when_ready(master)
    assert said[0] == "STATUS=release 0d6a72e61398, 2 workers: set by gunicorn_fastapi_workers"
    assert said[1].startswith(f"{said[0]}; 1 replaced, the last at 20")
    assert said[2] == "STATUS=release 0d6a72e61398, 3 workers: set by gunicorn's command line or a signal"


def test_workers_that_gunicorn_lets_go_are_not_counted(said: list[str]) -> None:
    mine, master, worker = Hooks("shop", "r"), Master(1), SimpleNamespace(age=1, pid=7)
    mine.pre_fork(master, worker)
    master.LISTENERS = []
    mine.child_exit(master, worker)
    assert (mine.replaced, said) == (0, [])


def test_without_a_socket_or_a_credential_it_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Hooks("shop", "r", ["password"])
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    with pytest.raises(SystemExit, match=r"no socket from systemd. Start it with: systemctl start shop"):
        mine.on_starting(None)
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(SystemExit, match="systemd has not delivered the credential password"):
        mine.on_starting(None)
    (tmp_path / "password").touch()
    mine.on_starting(SimpleNamespace(worker_class=object, log=None))


def test_no_second_gunicorn_is_started(service: Service) -> None:
    """It would fail, for it has no sockets, and empty the directory of the first one's metrics before."""
    (service.directory / "go").touch()
    metrics = {"PROMETHEUS_MULTIPROC_DIR": str(service.directory / "metrics")}
    server = service.start(SECOND_WAITS, workers=1, environment=metrics)
    server.wait_for("Application startup complete.")
    written = service.directory / "metrics/main/gauge.db"
    written.touch()
    server.signal(signal.SIGUSR2)
    server.wait_for("SIGUSR2 starts no second gunicorn here. For new processes: shopctl restart")
    assert len(server.children()) == 1
    assert written.exists()
    server.stop()
    assert server.output.count("Starting gunicorn") == 1


TELLS_SCHEME = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        headers = [(b"content-length", b"0"), (b"x-scheme", scope["scheme"].encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})
"""


def test_only_a_private_request_is_believed_to_come_through_tls(service: Service) -> None:
    server = service.start(TELLS_SCHEME, workers=1, settings={"forwarded_allow_ips": ""})
    server.wait_for("Application startup complete.")
    private, public = str(service.directory / "main.sock"), service.public.getsockname()
    told: list[str | None] = []
    for connection in (UnixConnection(private), UnixConnection(private), HTTPConnection(*public)):
        with closing(connection):
            proto = "https" if len(told) else "http"
            connection.request("GET", "/", headers={"X-Forwarded-Proto": proto})
            told.append(connection.getresponse().getheader("x-scheme"))
    assert told == ["http", "https", "http"]


@pytest.mark.parametrize(("pid", "taken"), [(1, "1"), (7, "4711")])
def test_the_sockets_are_those_of_a_process_with_a_number_of_its_own(
    monkeypatch: pytest.MonkeyPatch, pid: int, taken: str
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: pid)
    monkeypatch.setenv("LISTEN_FDS", "2")
    monkeypatch.setenv("LISTEN_PID", "4711")
    take_sockets()
    assert os.environ["LISTEN_PID"] == taken
