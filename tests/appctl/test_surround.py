"""Units around the releases are written under the lock, and only where the record says that they are ours."""

import argparse
import io
import json
import os
import stat
import sys
from typing import Any

import pytest
from appctl import bounded, limits, lock, surround, systemd
from appctl.ours import Ours
from appctl.process import CtlError
from ctl_host import Host

SLICE = "/etc/systemd/system/fastapi.slice"
UNIT = {"path": SLICE, "mode": "0644", "content": "[Slice]\n"}


def recorded(host: Host) -> None:
    ours = Ours("fastapi", host.base, owner=os.geteuid())
    ours.write(ours.standard())


def ask(host: Host, monkeypatch: pytest.MonkeyPatch, asked: object) -> Any:
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(asked)))
    monkeypatch.setattr(surround, "Ours", lambda name, base: Ours(name, base, owner=os.geteuid()))
    return surround.command_surround(host, argparse.Namespace(lock_wait=0.0))


@pytest.fixture
def reloads(host: Host, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What systemd was asked for, and who had the lock meanwhile."""
    asked: list[str] = []
    monkeypatch.setattr(limits, "below_use", lambda *_: "")
    monkeypatch.setattr(surround, "run", lambda *words: asked.append(" ".join([*words, lock.holder(host)])))
    return asked


def test_units_of_ours_are_put_in_place(host: Host, monkeypatch: pytest.MonkeyPatch, reloads: list[str]) -> None:
    recorded(host)
    assert ask(host, monkeypatch, [UNIT]) == {"changed": True}
    made = host.base / SLICE.lstrip("/")
    assert made.read_text() == "[Slice]\n"
    assert stat.S_IMODE(made.stat().st_mode) == 0o644
    assert [line.partition(" by ")[0] for line in reloads] == [
        "systemctl daemon-reload the change of its limits and private address"
    ]


def test_limits_that_would_hit_what_serves_are_not_put_in_place(
    host: Host, monkeypatch: pytest.MonkeyPatch, reloads: list[str]
) -> None:
    recorded(host)
    monkeypatch.setattr(limits, "below_use", lambda _, text: f"too low: {text}")
    with pytest.raises(CtlError, match=r"too low: \[Slice\]"):
        ask(host, monkeypatch, [UNIT])
    assert not (host.base / SLICE.lstrip("/")).exists()
    assert reloads == []


def test_after_an_uninstallation_nothing_is_written(
    host: Host, monkeypatch: pytest.MonkeyPatch, reloads: list[str]
) -> None:
    """What no record lists would be in the way of the next deploy, and of the next uninstallation."""
    with pytest.raises(CtlError, match=f"{SLICE} is on no record as a unit of fastapi, .* Deploy it again"):
        ask(host, monkeypatch, [UNIT])
    assert not (host.base / SLICE.lstrip("/")).exists()
    assert reloads == []


@pytest.mark.parametrize("path", ["/usr/local/sbin/fastapictl", "/etc/passwd", "/etc/systemd/system/../passwd"])
def test_nothing_else_is_written(host: Host, monkeypatch: pytest.MonkeyPatch, reloads: list[str], path: str) -> None:
    recorded(host)
    with pytest.raises(CtlError, match="nothing was written"):
        ask(host, monkeypatch, [UNIT, UNIT | {"path": path}])
    assert not (host.base / SLICE.lstrip("/")).exists()
    assert reloads == []


@pytest.mark.parametrize("asked", [None, 1, ["x"], [{}], [{"path": SLICE, "mode": "rw", "content": ""}]])
def test_what_is_no_request_is_refused(host: Host, monkeypatch: pytest.MonkeyPatch, asked: object) -> None:
    with pytest.raises(CtlError, match=r"^surround: the request on standard input"):
        ask(host, monkeypatch, asked)


METRICS = [
    {"path": f"/etc/systemd/system/fastapi-metrics.{suffix}", "mode": "0644", "content": f"[{suffix.title()}]\n"}
    for suffix in ("service", "socket")
]


@pytest.fixture
def changes(monkeypatch: pytest.MonkeyPatch, reloads: list[str]) -> list[str]:
    """What systemd was asked for, also with patience."""
    for module in (surround, systemd):
        monkeypatch.setattr(module, "run", lambda *words, **_: reloads.append(" ".join(words[1:])))
    monkeypatch.setattr(bounded, "change", lambda verb, *units, **_: reloads.append(" ".join([verb, *units])))
    return reloads


def test_the_address_of_the_metrics_is_opened_and_closed(
    host: Host, monkeypatch: pytest.MonkeyPatch, changes: list[str]
) -> None:
    recorded(host)
    service, address = (host.base / unit["path"].lstrip("/") for unit in METRICS)
    ask(host, monkeypatch, METRICS)
    assert changes == [
        "stop fastapi-metrics.service fastapi-metrics.socket",
        "daemon-reload",
        "enable fastapi-metrics.socket",
        "--file-system /etc/systemd/system",  # a loss of power after that finds it enabled
        "start fastapi-metrics.socket",
    ]
    assert (service.read_text(), address.read_text()) == ("[Service]\n", "[Socket]\n")
    changes.clear()
    ask(host, monkeypatch, METRICS[:1])
    assert changes[0] == "stop fastapi-metrics.service"  # its address stays open
    changes.clear()
    link = host.system / "sockets.target.wants" / address.name
    link.parent.mkdir()
    link.symlink_to(address)
    ask(host, monkeypatch, [unit | {"mode": "absent", "content": ""} for unit in METRICS])
    assert changes == [
        "stop fastapi-metrics.service fastapi-metrics.socket",
        "daemon-reload",
        "reset-failed fastapi-metrics.socket fastapi-metrics.service",
    ]
    assert not any(os.path.lexists(path) for path in (service, address, link))


def test_an_address_of_the_metrics_that_cannot_be_opened_is_tried_again(
    host: Host, monkeypatch: pytest.MonkeyPatch, changes: list[str]
) -> None:
    recorded(host)

    def change(verb: str, *_: str, **__: object) -> None:
        if verb == "start":
            raise CtlError("Address already in use")

    monkeypatch.setattr(bounded, "change", change)
    with pytest.raises(CtlError, match=r"gunicorn_fastapi_metrics_bind: .* could not be opened .* deploy again"):
        ask(host, monkeypatch, METRICS)
    assert not (host.system / "fastapi-metrics.socket").exists()
    assert changes[-1] == "daemon-reload"
