"""Maintenance and pause: what units say, in which order, and what is put back when something fails."""

import argparse
import json
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from appctl import (
    background,
    behind,
    bounded,
    closing,
    handover,
    instance,
    maintenance,
    pause,
)
from appctl.addresses import Address
from appctl.process import CtlError
from closing_host import RELEASE, Systemd, services
from ctl_host import Host


def test_on_and_off(host: Host, made: Systemd) -> None:
    before = host.unit.read_text()
    maintenance.on(host)
    # The responder accepts before the service stops to.
    restarts = [done for done in made.did if "daemon-reload" not in done]
    assert restarts == ["start fastapi-maintenance.service", "restart fastapi.service"]
    assert services(host) == {"Service=fastapi-maintenance.service"}
    text = host.unit.read_text()
    assert "\nSockets=fastapi-probe.socket\n" in text
    assert "\nRequires=fastapi-probe.socket\n" in text
    assert "fastapi.socket" not in text
    assert (host.system / host.responder).read_text().endswith("\nSockets=fastapi-address-0a.socket\n")
    state = json.loads((host.maintenance / "state.json").read_text())
    assert (state["on"], state["retry_after"]) == (True, 7)
    assert behind.words(host) == f"on since {state['since']} by {state['by']}"
    # Another release that comes behind it has no public address either, and the addresses stay the responder's.
    assert instance.unit_text(host, RELEASE, "fastapi.service") == text
    assert behind.owner(host) == host.responder

    made.did.clear()
    maintenance.off(host)
    assert [done for done in made.did if "service" in done][:2] == [
        "restart fastapi.service",
        "stop fastapi-maintenance.service",
    ]
    assert services(host) == {"Service=fastapi.service"}
    assert host.unit.read_text() == before
    assert behind.state(host) == {}
    assert not (host.system / host.responder).exists()


def test_another_page_needs_no_restart(host: Host, made: Systemd) -> None:
    maintenance.on(host)
    since = behind.state(host)["since"]
    made.did.clear()
    maintenance.ask(host, "until noon", 9)
    maintenance.on(host)
    assert made.did == ["daemon-reload", "reload-or-restart fastapi-maintenance.service"]
    assert (host.maintenance / "page").read_text() == "until noon"
    assert (behind.state(host)["since"], behind.state(host)["retry_after"]) == (since, 9)


def test_a_responder_that_does_not_start_changes_nothing(host: Host, made: Systemd) -> None:
    before = host.unit.read_text()
    made.broken.add(host.responder)
    with pytest.raises(
        CtlError, match=r"does not start, and nothing has changed: fastapi-maintenance.service is broken"
    ):
        maintenance.on(host)
    assert host.unit.read_text() == before
    assert services(host) == {"Service=fastapi.service"}
    assert not (host.system / host.responder).exists()
    assert behind.state(host) == {}


def test_an_application_that_does_not_start_is_no_reason_to_serve_it(
    host: Host, made: Systemd, capsys: pytest.CaptureFixture[str]
) -> None:
    made.broken.add(host.service)
    maintenance.on(host)
    assert "maintenance is on, and fastapi.service does not start: fastapi.service is broken" in capsys.readouterr().err
    made.active.add(host.service)
    with pytest.raises(CtlError, match=r"maintenance stays on, because fastapi.service does not start"):
        maintenance.off(host)
    assert services(host) == {"Service=fastapi-maintenance.service"}
    assert behind.state(host)


def test_what_was_interrupted_is_finished(host: Host, made: Systemd) -> None:
    maintenance.on(host)
    closed = host.unit.read_text()
    # Killed between the note and the units; and after a reboot.
    host.unit.write_text((host.release(RELEASE) / "systemd/fastapi.service").read_text())
    made.active.discard(host.responder)
    maintenance.settle(host)
    assert host.unit.read_text() == closed
    assert host.responder in made.active
    # Killed before the note, or after it was taken back.
    (host.maintenance / "state.json").write_text('{"on": false}')
    maintenance.settle(host)
    assert services(host) == {"Service=fastapi.service"}
    assert not (host.system / host.responder).exists()
    made.did.clear()
    maintenance.settle(host)
    assert made.did == []


def test_a_release_without_a_responder_is_refused(host: Host, made: Systemd) -> None:
    (host.release(RELEASE) / "systemd/fastapi-maintenance.service").unlink()
    with pytest.raises(
        CtlError, match=r"release aaa1 was built by a version of the role that has no maintenance. Deploy"
    ):
        maintenance.on(host)
    assert made.did == []


def test_addresses_do_not_change_behind_it(host: Host, made: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    maintenance.on(host)
    change = SimpleNamespace(moves=True, check=lambda: None)
    monkeypatch.setattr(handover, "Change", lambda *_: change)
    made.did.clear()
    with pytest.raises(
        CtlError, match=r"gunicorn_fastapi_bind: addresses do not change while maintenance is on since .*"
    ):
        handover.execute(host, RELEASE)
    assert made.did == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file or directory"),
        (b"\xff", "codec can't decode"),
        (b"a" * (behind.PAGE_MAX + 1), "larger than"),
    ],
)
def test_what_is_no_page(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "page"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CtlError, match=rf"--page: {path}: .*{said}.* Give a text file in UTF-8"):
        closing.page(str(path))


@pytest.mark.parametrize(
    ("add", "words"),
    [
        (closing.add_pause, ["--max=0"]), (closing.add_pause, ["--max=601"]), (closing.add_pause, ["--max=nan"]),
        (closing.add_maintenance, ["on", "--retry-after=-1"]), (closing.add_maintenance, ["on", "--retry-after=1.5"]),
        (closing.add_maintenance, ["maybe"]),
    ],
)  # fmt: skip
def test_what_has_no_end_or_no_meaning_is_refused(add: Any, words: list[str]) -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add(parser)
    with pytest.raises(argparse.ArgumentError):
        parser.parse_args(words)


def test_a_pause_ends_and_starts_the_service(
    host: Host, made: Systemd, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pause, "waiting", lambda _: "3 clients waited")
    pause.pause(host, 30)
    assert made.did == [
        "daemon-reload", "start fastapi-pause.service", "stop fastapi.service", "start fastapi.service",
        "stop fastapi-pause.service", "daemon-reload",
    ]  # fmt: skip
    assert (
        "the pause is over after 0.0 s: 3 clients waited. fastapi.service started in 1.0 s" in capsys.readouterr().out
    )
    text = pause.unit_text(host, 30)
    assert "\nSockets=fastapi.socket fastapi-address-0a.socket\n" in text
    # Its end alone, also of its own accord, has the service start.
    assert "\nExecStart=/usr/bin/sleep 30\nExecStopPost=+/usr/bin/systemctl start --no-block fastapi.service\n" in text
    assert not (host.transient / host.holder).exists()


def test_a_service_that_does_not_stop_is_started_all_the_same(
    host: Host, made: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(*_: str, **__: object) -> None:
        raise CtlError("it does not stop")

    monkeypatch.setattr(bounded, "change", change)
    with pytest.raises(CtlError, match="it does not stop"):
        pause.pause(host, 30)
    assert made.did[-3:] == ["start fastapi.service", "stop fastapi-pause.service", "daemon-reload"]


@pytest.mark.usefixtures("made")
def test_a_pause_in_maintenance_is_refused(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    maintenance.on(host)
    begun: list[object] = []
    monkeypatch.setattr(background, "in_the_background", lambda *given: begun.append(given))
    with pytest.raises(CtlError, match=r"so nobody could wait. Turn it off first"):
        closing.command_pause(host, argparse.Namespace(end=False, max=30.0, lock_wait=1))
    assert begun == []


def test_who_waits_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(path))
        unix.listen(8)
        port = tcp.getsockname()[1]
        held = [Address(f"127.0.0.1:{port}"), Address(str(path))]
        assert [pause.queued(held, table) for table in pause.TABLES] == [0, 0, 0]
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        for _ in range(2):
            clients.append(socket.socket(socket.AF_UNIX))
            clients[-1].connect(str(path))
        assert [pause.queued(held, table) for table in pause.TABLES] == [3, 0, 2]
        for client in clients:
            client.close()
