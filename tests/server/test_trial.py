"""A worker tries its own parser before it serves, and does not start with one that is not strict."""

from typing import Any

import httptools
import pytest
from gunicorn_fastapi import framing, trial
from gunicorn_fastapi.protocol import GuardedProtocol
from services import Service
from uvicorn.config import Config


@pytest.fixture
def config() -> Config:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise AssertionError("the application is not asked")

    config = Config(app, log_config=None, lifespan="off")
    config.load()
    return config


def lax(malformed: bytes, cured: bytes) -> type:
    """A parser that takes one request for another."""
    strict = httptools.HttpRequestParser

    class Lax:
        def __init__(self, protocol: Any) -> None:
            self._parser = strict(protocol)

        def feed_data(self, data: bytes) -> None:
            self._parser.feed_data(data.replace(malformed, cured))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._parser, name)

    return Lax


def test_this_parser_is_fit(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    """And nobody is told of what was refused."""
    trial.check(GuardedProtocol, config)
    assert not caplog.records


@pytest.mark.parametrize("kind", sorted(trial.MALFORMED.keys() - {"another protocol"}))
def test_what_a_lax_parser_lets_through(kind: str, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by the package, its version and the kind, with what to do."""
    good = trial.GOOD["trailer" in kind or "chunk" in kind]
    monkeypatch.setattr(httptools, "HttpRequestParser", lax(trial.MALFORMED[kind], good))
    with pytest.raises(
        trial.UnfitParserError,
        match=rf"httptools {httptools.__version__} \(uvicorn [\d.]+\) lets {kind} through.*the lock file",
    ):
        trial.check(GuardedProtocol, config)


def test_another_protocol_is_refused_by_the_worker_itself(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsers take it for HTTP."""
    monkeypatch.setattr(framing, "check_protocol", lambda *_: None)
    with pytest.raises(trial.UnfitParserError, match="lets another protocol through"):
        trial.check(GuardedProtocol, config)


def test_a_parser_that_refuses_what_is_good(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httptools, "HttpRequestParser", lax(b"A: b", b"A b"))
    with pytest.raises(trial.UnfitParserError, match="refuses a valid request"):
        trial.check(GuardedProtocol, config)


def test_a_parser_without_what_is_used_of_it(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httptools, "HttpRequestParser", object)
    with pytest.raises(trial.UnfitParserError, match="does not fit this worker"):
        trial.check(GuardedProtocol, config)


# Takes a folded header for one line, as httptools does up to 0.6.2.
LAX_APP = """
import httptools

strict = httptools.HttpRequestParser

class Lax:
    def __init__(self, protocol):
        self._parser = strict(protocol)

    def feed_data(self, data):
        self._parser.feed_data(data.replace(b"\\r\\n c", b" c"))

    def __getattr__(self, name):
        return getattr(self._parser, name)

httptools.HttpRequestParser = Lax

async def app(scope, receive, send):
    print("the application was started")
"""


def test_a_worker_with_a_lax_parser_does_not_start(service: Service) -> None:
    """It says so in a line that the control command takes for the reason, and gunicorn does not try again."""
    server = service.start(LAX_APP)
    assert server.process.wait(60) == 3
    told = [line for line in server.output.splitlines() if line.startswith("gunicorn_fastapi.trial.UnfitParserError: ")]
    assert told
    assert "lets a folded header through" in told[0]
    assert "the application was started" not in server.output


def test_another_parser_has_no_bounds_and_says_so(service: Service) -> None:
    """The role's checks refuse the option; a worker class of the operator's may set it."""
    server = service.start("async def app(scope, receive, send): ...", workers=1, options={"http": "h11"})
    server.wait_for("uvicorn's option http is 'h11': nothing bounds what a client may take up")
    server.stop()
