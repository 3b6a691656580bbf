"""What becomes of an instance that fails to start."""

import argparse
from pathlib import Path
from typing import Any

import pytest
from appctl import checking, health, probe, reason, stop, systemd
from appctl.process import CtlError
from ctl_host import Host


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What an instance that answers 500, and heeds no request to stop, was told."""
    told: list[Any] = []

    def answer(*_: object, **__: object) -> str:
        raise probe.UnhealthyError("GET /healthz answered 500", "(body: no)")

    def end(unit: str, timeout: float) -> bool:
        told.append((unit, timeout))
        return False

    monkeypatch.setenv("INVOCATION_ID", "0")
    monkeypatch.setattr(probe, "probe", answer)
    monkeypatch.setattr(probe, "recycle", lambda *_: None)
    monkeypatch.setattr(reason, "last_words", lambda *_: ["ValueError: no"])
    monkeypatch.setattr(systemd, "show", lambda _, *names: dict.fromkeys(names, "1min 5s"))
    monkeypatch.setattr(stop, "end", end)
    monkeypatch.setattr(stop, "kill", told.append)
    return told


def asked_for(reload: bool) -> argparse.Namespace:
    return argparse.Namespace(
        instance="candidate", path="/healthz", host="x", timeout=1.0, reload=reload, checks=None, refuse_fallback=False
    )


def test_what_fails_to_start_cannot_put_off_its_end(host: Host, failing: list[Any]) -> None:
    with pytest.raises(CtlError, match=r"answered 500\. ValueError: no \(body: no\)"):
        health.command_probe(host, asked_for(reload=False))
    (unit, patience), killed = failing
    assert (unit, killed) == ("fastapi-candidate.service", "fastapi-candidate.service")
    assert 1 < patience < 65


def test_what_fails_to_reload_goes_on(host: Host, failing: list[Any]) -> None:
    with pytest.raises(CtlError, match="answered 500"):
        health.command_probe(host, asked_for(reload=True))
    assert failing == []


def test_what_is_not_complete_any_more_is_told_before_its_own_words(
    host: Host, failing: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUNICORN_FASTAPI_RELEASE", "aaa1")
    host.damaged["aaa1"] = "its virtualenv is not whole: /usr/bin/python3.11: No such file or directory"
    with pytest.raises(
        CtlError, match=r"^release aaa1 is incomplete: .*/python3.11: .* Deploy it again\. GET /healthz"
    ):
        health.command_probe(host, asked_for(reload=False))
    assert failing


def test_checks_follow_the_health_path(
    host: Host, failing: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise probe.UnhealthyError("check 1 of gunicorn_fastapi_checks, GET /items: answered 500", "(body: no)")

    asked: list[object] = []
    monkeypatch.setattr(probe, "probe", lambda *_, **__: "/healthz answered 200")
    monkeypatch.setattr(checking, "refuse_fallback", lambda *words: asked.append(words[1:3]))
    monkeypatch.setattr(checking, "verify", fail)
    (tmp_path / "checks.json").write_text("[]")
    arguments = asked_for(reload=False)
    arguments.refuse_fallback = True
    health.command_probe(host, arguments)
    assert asked == [("/healthz", "x")]
    arguments.checks = tmp_path / "checks.json"
    with pytest.raises(CtlError, match=r"GET /items: answered 500\. ValueError: no \(body: no\)"):
        health.command_probe(host, arguments)
    assert failing[-1] == "fastapi-candidate.service"
