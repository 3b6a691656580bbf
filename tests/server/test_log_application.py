"""Applications that configure logging for themselves: nothing of the server's is lost by it, and nothing told twice."""

import logging
import logging.config
import logging.handlers
import os
import queue
import signal
import sys
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from conftest import StartServer
from gunicorn_fastapi.log import Formatter, JournalHandler, Kept, kept
from journals import FILES, LOGGING, FakeJournal, serve
from servers import BIN, eventually, free_port
from services import Service

CONSOLE: dict[str, Any] = {
    "version": 1,
    "formatters": {"f": {"format": "%(levelname)s %(name)s %(message)s"}},
    "handlers": {"c": {"class": "logging.StreamHandler", "formatter": "f", "stream": "ext://sys.stdout"}},
    "root": {"level": "INFO", "handlers": ["c"]},
}
OWN = {"handlers": ["c"], "level": "INFO"}
KEEP = {"disable_existing_loggers": False}

CONFIGURES = """
import logging.config
def configure(*_):
    handlers = {"console": {"class": "logging.StreamHandler"}}
    logging.config.dictConfig({"version": 1, "handlers": handlers, "root": {"handlers": ["console"]}})
configure()
def on_starting(server): configure()
def nworkers_changed(server, new, old): configure()
def pre_fork(server, worker): configure()
def post_fork(server, worker): configure()
def post_worker_init(worker): configure()
def child_exit(server, worker): configure()
"""

APP = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})
"""

SERVERS = ("uvicorn.error", "uvicorn.access", "gunicorn.error", "gunicorn.access")


class Intercept(logging.Handler):
    """Gives records to another library, which prints them."""

    def emit(self, record: logging.LogRecord) -> None:
        print("intercepted", record.getMessage())


def intercept() -> None:
    logging.basicConfig(handlers=[Intercept()], level=0, force=True)
    for name in SERVERS:
        logging.getLogger(name).handlers = [Intercept()]
        logging.getLogger(name).propagate = False


def propagate() -> None:
    """Have one handler at the root for all."""
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, force=True)
    for name in SERVERS:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True


def add() -> None:
    for name in ("", "shop", *SERVERS):
        logging.getLogger(name).addHandler(logging.StreamHandler(sys.stderr))
        logging.getLogger(name).addHandler(logging.StreamHandler(sys.stdout))


def disable() -> None:
    for name in SERVERS:
        logging.getLogger(name).disabled = True


CONFIGURATIONS: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "a dictionary": lambda: logging.config.dictConfig(CONSOLE),
    "a dictionary that keeps": lambda: logging.config.dictConfig(CONSOLE | KEEP),
    "uvicorn": lambda: logging.config.dictConfig(CONSOLE | {"loggers": {"uvicorn": OWN}}),
    "uvicorn and access": lambda: logging.config.dictConfig(
        CONSOLE | KEEP | {"loggers": {"uvicorn": OWN, "uvicorn.access": OWN | {"propagate": False}}}
    ),
    "all of them": lambda: logging.config.dictConfig(CONSOLE | {"loggers": dict.fromkeys(SERVERS, OWN)}),
    "basic": lambda: logging.basicConfig(level=logging.INFO, stream=sys.stdout),
    "basic by force": lambda: logging.basicConfig(level=logging.INFO, stream=sys.stdout, force=True),
    "handlers in place of ours": intercept,
    "the root for all": propagate,
    "handlers beside ours": add,
    "disabled": disable,
}


@pytest.fixture
def ours(journal: FakeJournal) -> Iterator[JournalHandler]:
    """The loggers as the role sets them, until the test ends."""
    assert journal
    loggers = [logging.getLogger(name) for name in ("", "shop", "uvicorn", "asyncio", *SERVERS)]
    before = [(logger, logger.handlers, logger.propagate, logger.level, logger.disabled) for logger in loggers]
    others = [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    disabled = [logger for logger in others if logger.disabled]
    handler = JournalHandler("app")
    handler.setFormatter(Formatter("%(name)s: %(message)s"))
    for logger in loggers:
        is_own = logger.name == "root" or logger.name in SERVERS
        logger.handlers = [handler] if is_own else []
        logger.propagate = not is_own
        if is_own:
            logger.setLevel(logging.INFO)
    kept.is_told[0] = 0
    yield handler
    for logger, handlers, propagates, level, is_disabled in before:
        logger.handlers, logger.propagate, logger.disabled = handlers, propagates, is_disabled
        logger.setLevel(level)
    logging.disable(logging.NOTSET)
    for logger in others:
        logger.disabled = logger in disabled
    handler.close()


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_each_record_is_told_once_and_with_its_priority(
    journal: FakeJournal, ours: JournalHandler, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    before = Kept()
    CONFIGURATIONS[name]()
    before.put_back()
    before.put_back()
    for logger in (*SERVERS, "asyncio"):
        logging.getLogger(logger).error("from %s", logger)
    logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", "/a", "1.1", 200)
    logging.getLogger("shop").error("two\nlines")
    logging.getLogger("shop").warning("<0>one")
    ours.flush()
    printed = name == "handlers in place of ours"  # of those nobody knows where they send what they get
    records = journal.wait_for(5 if printed else 8)
    texts = [record.get("line") or record["MESSAGE"] for record in records]
    for logger in SERVERS:
        assert sum(f"from {logger}" in text for text in texts) == 1
        assert f"<3>{logger}: from {logger}" in texts
    assert sum('"GET /a HTTP/1.1" 200' in text for text in texts) == 1
    if not printed:
        (asyncio_,) = (text for text in texts if "from asyncio" in text)
        assert asyncio_.startswith("<3>")
        (record,) = (record for record in records if record.get("MESSAGE", "").endswith("two\nlines"))
        assert record["PRIORITY"] == "3"
        (warned,) = (text for text in texts if text.endswith("<0>one"))
        assert warned.startswith("<4>")
        out, err = capfd.readouterr()
        assert out + err == ""
    assert len(journal.records) == len(records) == (5 if printed else 8)


def test_what_the_application_hides_by_a_level_is_told_once(journal: FakeJournal, ours: JournalHandler) -> None:
    before = Kept()
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    logging.disable(logging.INFO)
    before.put_back()
    assert logging.getLogger("uvicorn.access").level == logging.WARNING
    assert logging.root.manager.disable == logging.INFO
    before.put_back()
    ours.flush()
    (line,) = (record["line"] for record in journal.wait_for(1))
    assert line.startswith("<4>gunicorn.error: The application's logging configuration hides records of uvicorn.access")
    assert "all loggers (logging.disable(INFO))" in line


def test_a_level_that_shows_more_is_no_matter(journal: FakeJournal, ours: JournalHandler) -> None:
    before = Kept()
    logging.getLogger("uvicorn.error").setLevel(logging.DEBUG)
    logging.getLogger("uvicorn.access").setLevel(logging.NOTSET)
    before.put_back()
    assert logging.getLogger("uvicorn.error").level == logging.DEBUG
    assert logging.getLogger("uvicorn.access").level == logging.INFO
    ours.flush()
    assert journal.records == []


@pytest.mark.parametrize("in_place", [False, True])
def test_records_go_on_to_where_they_are_also_sent(ours: JournalHandler, tmp_path: Path, in_place: bool) -> None:
    before = Kept()
    file, custom = logging.FileHandler(tmp_path / "log"), Intercept()
    logger = logging.getLogger("uvicorn.access")
    logger.handlers = [file, custom] if in_place else [*logger.handlers, file, custom]
    before.put_back()
    known = [handler for handler in logger.handlers if handler in (ours, file, custom)]  # pytest has its own, too
    assert known == ([ours, file] if in_place else [ours, file, custom])
    file.close()


def test_a_handler_that_prints_keeps_its_filters_level_and_form(journal: FakeJournal, ours: JournalHandler) -> None:
    before = Kept()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    handler.setLevel(logging.INFO)
    handler.addFilter(lambda record: "secret" not in record.getMessage())
    logging.root.handlers = [handler]
    before.put_back()
    logger = logging.getLogger("shop")
    logger.debug("too low")
    logger.error("secret")
    logger.error("shown")
    ours.flush()
    assert [record["line"] for record in journal.wait_for(1)] == ["<3>ERROR shown"]


@pytest.mark.parametrize("is_queue", [False, True])
def test_a_handler_that_no_logger_has_prints_whole_records(
    journal: FakeJournal, ours: JournalHandler, capfd: pytest.CaptureFixture[str], is_queue: bool
) -> None:
    """What is behind a queue, which spares a loop the waiting, or behind a buffer."""
    before = Kept()
    printing = logging.StreamHandler(sys.stdout)
    printing.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    listener = logging.handlers.QueueListener(waiting, printing)
    buffer = logging.handlers.MemoryHandler(10, target=printing)
    logging.root.handlers = [logging.handlers.QueueHandler(waiting) if is_queue else buffer]
    before.put_back()
    logging.getLogger("shop").error("two\nlines")
    listener.start()
    listener.stop()
    ours.flush()
    (record,) = journal.wait_for(1)
    assert (record["PRIORITY"], record["MESSAGE"]) == ("3", "ERROR two\nlines")
    assert capfd.readouterr().out == ""


def test_without_the_handler_of_the_role_nothing_is_carried(ours: JournalHandler) -> None:
    printing = logging.StreamHandler(sys.stdout)
    for name in ("", *SERVERS):
        logging.getLogger(name).handlers = [printing]
    before = Kept()
    logging.root.addHandler(logging.StreamHandler(sys.stderr))
    before.put_back()
    assert len(logging.root.handlers) == 2
    assert "emit" not in vars(printing)
    assert ours not in logging.root.handlers


APPLICATION = """
import logging, logging.config, os, sys

CONFIGURATION = {configuration!r}
WHEN = {when!r}

if WHEN != "lifespan":
    logging.config.dictConfig(CONFIGURATION)
if WHEN == "crash":
    raise LookupError("it crashes")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if WHEN == "lifespan":
            logging.config.dictConfig(CONFIGURATION)
        await send({{"type": "lifespan.startup.complete"}})
        await receive()
        await send({{"type": "lifespan.shutdown.complete"}})
    elif scope["path"] == "/boom":
        raise LookupError("boom")
    else:
        logging.getLogger("shop").error("said")
        await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}})
        await send({{"type": "http.response.body", "body": b""}})
"""


@pytest.mark.parametrize("when", ["import", "lifespan", "preload"])
@pytest.mark.parametrize("loggers", [{}, {"uvicorn": OWN}, {"uvicorn.access": OWN | {"level": "WARNING"}}])
def test_tracebacks_and_access_lines_outlast_a_configuration(
    start_server: StartServer, tmp_path: Path, when: str, loggers: dict[str, Any]
) -> None:
    application = APPLICATION.format(configuration=CONSOLE | {"loggers": loggers}, when=when)
    settings = {"workers": 2, "preload_app": when == "preload"}
    server, port = serve(
        start_server, tmp_path, application, f"globals().update(Hooks('app', 'release').settings({settings}))"
    )
    server.wait_for("Application startup complete", 2)
    for path, status in (("/say", 200), ("/boom", 500)):
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.status == status
        connection.close()
    server.stop()
    # Where gunicorn loads the application, uvicorn's worker sets the levels after that.
    hides = "uvicorn.access" in loggers and when != "preload"
    assert server.output.count("LookupError: boom") == 1
    assert server.output.count('"GET /say HTTP/1.1" 200') == (0 if hides else 1)
    assert server.output.count('"GET /boom HTTP/1.1" 500') == (0 if hides else 1)
    assert server.output.count(" said\n") == 1
    assert server.output.count("hides records of uvicorn.access (its level is WARNING)") == (1 if hides else 0)
    assert server.output.count("Shutting down: Master") == 1


def test_a_crash_after_the_configuration_is_told(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(APPLICATION.format(configuration=CONSOLE, when="crash"))
    (tmp_path / "logging.conf").write_text(LOGGING)
    (tmp_path / "gunicorn.conf.py").write_text(
        "from gunicorn_fastapi.hooks import Hooks\nglobals().update(Hooks('app', 'release').settings({}))\n"
        "worker_class = 'gunicorn_fastapi.worker.DrainingUvicornWorker'\nlogconfig = 'logging.conf'\n"
        "control_socket_disable = True\n"
    )
    server = start_server(
        [str(BIN / "gunicorn"), "main:app", "--bind", f"127.0.0.1:{free_port()}"],
        directory=tmp_path,
        environment={"PYTHONPATH": str(FILES), "LISTEN_FDS": "0"},
    )
    eventually(lambda: server.process.poll() is not None, "the end")
    assert "Exception in worker process" in server.output
    assert "LookupError: it crashes" in server.output


@pytest.mark.parametrize(
    "name", ["on_starting", "nworkers_changed", "pre_fork", "post_fork", "post_worker_init", "child_exit"]
)
def test_a_hook_that_configures_logging_silences_nobody(name: str, service: Service) -> None:
    """dictConfig disables all loggers that it does not name. gunicorn's and the worker's are such."""
    (service.directory / "mine.py").write_text(CONFIGURES)
    server = service.start(APP, workers=1, settings={name: f"mine.{name}"})
    for times in (1, 2):
        server.wait_for("Application startup complete.", times)
        eventually(lambda: service.workers() == "1/1", "it serves")
        assert service.get("/here")[0] == 200
        server.wait_for("GET /here", times)
        (pid,) = server.children()
        os.kill(pid, signal.SIGKILL)
        server.wait_for(f"(pid:{pid}) was sent SIGKILL")
