"""prometheus_client's files of several processes: what lives is counted, and nothing else."""

import importlib
import logging
import os
import re
import signal
from pathlib import Path

import pytest
from gunicorn_fastapi import metrics
from servers import ServerProcess, eventually
from services import Service

APPLICATION = """
import os
from contextlib import asynccontextmanager
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, multiprocess
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

WORKERS = Gauge("workers", "that live", multiprocess_mode="livesum")
ANSWERS = Counter("answers", "given")


@asynccontextmanager
async def lifespan(_):
    WORKERS.set(1)
    yield


async def healthz(_):
    ANSWERS.inc()
    return JSONResponse(os.getpid())


def metrics(_):
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return Response(generate_latest(registry))


app = Starlette(lifespan=lifespan, routes=[Route("/healthz", healthz), Route("/metrics", metrics)])
"""


def start(service: Service, directory: Path, instance: str = "main", **settings: object) -> ServerProcess:
    environment = {"GUNICORN_FASTAPI_INSTANCE": instance, metrics.VARIABLE: str(directory)}
    server = service.start(APPLICATION, environment=environment, settings=settings)
    eventually(lambda: service.workers() == "2/2", "both serve")
    return server


def metric(service: Service, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", service.get("/metrics")[1].decode(), re.MULTILINE)
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
def test_what_lives_is_counted_after_deploys_a_crash_and_a_recycling(
    service: Service, tmp_path: Path, preload: bool
) -> None:
    directory = tmp_path / "metrics"
    for _ in range(3):  # a release proves itself, serves beside, and takes the place
        for instance in ("preflight", "candidate"):
            start(service, directory, instance, preload_app=preload).stop()
        start(service, directory, preload_app=preload).end()  # whatever it leaves
    server = start(service, directory, preload_app=preload, max_requests=60)
    assert metric(service, "workers") == 2
    killed = min(server.children())
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: killed not in server.children() and service.workers() == "2/2", "another one serves")
    assert metric(service, "workers") == 2
    before = metric(service, "answers_total")
    first = server.children()
    eventually(lambda: service.get("/healthz")[0] == 200 and not server.children() & first, "all are others")
    eventually(lambda: len(server.children()) == 2, "the former ones are gone")
    assert metric(service, "workers") == 2
    assert metric(service, "answers_total") >= before + 60, "what the dead have counted stays"
    first = server.children()
    server.signal(signal.SIGHUP)
    eventually(lambda: len(server.children()) == 2 and not server.children() & first, "all are others")
    assert metric(service, "workers") == 2
    assert metric(service, "answers_total") >= before + 60, "a reload empties nothing"
    server.stop()


@pytest.fixture(autouse=True)
def _begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics.begin.cache_clear()
    monkeypatch.delenv(metrics.VARIABLE, raising=False)


def test_each_instance_has_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(metrics.VARIABLE, str(tmp_path / "a" / "b"))
    (tmp_path / "a/b/main").mkdir(parents=True)
    kept = [tmp_path / name for name in ("a/b/counter_1.db", "a/b/candidate.db", "a/b/main/notes.txt")]
    gone = tmp_path / "a/b/main/counter_1.db"
    for path in (*kept, gone):
        path.touch()
    metrics.begin("main")
    assert os.environ[metrics.VARIABLE] == str(tmp_path / "a/b/main")
    assert all(path.exists() for path in kept)
    assert not gone.exists()
    gone.touch()
    metrics.begin("main")  # as a reload does
    assert gone.exists()
    assert os.environ[metrics.VARIABLE] == str(tmp_path / "a/b/main")


def test_a_directory_that_cannot_be_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(metrics.VARIABLE, str(tmp_path / "file"))
    with pytest.raises(SystemExit, match=r"^gunicorn_fastapi_environment: PROMETHEUS_MULTIPROC_DIR: .*Not a directory"):
        metrics.begin("main")


@pytest.mark.parametrize("given", [None, ""])
def test_without_the_variable_nothing_is_done(given: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if given is not None:
        monkeypatch.setenv(metrics.VARIABLE, given)
    metrics.begin("main")
    assert os.environ.get(metrics.VARIABLE) == given
    metrics.forget(1, None)


def test_what_is_not_there_or_fails_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(_: str) -> None:
        raise ModuleNotFoundError

    def failing(_: str) -> None:
        raise OSError("no more")

    monkeypatch.setenv(metrics.VARIABLE, str(tmp_path))
    monkeypatch.setattr(importlib, "import_module", missing)
    metrics.forget(7, logging.getLogger("x"))
    assert caplog.records == []
    monkeypatch.setattr(importlib, "import_module", failing)
    metrics.forget(7, logging.getLogger("x"))
    assert "the dead worker 7 counts on" in caplog.text
