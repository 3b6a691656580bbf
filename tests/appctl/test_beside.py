"""What is measured beside requests: processes, the release command, certificates. None of it needs a right."""

import argparse
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from appctl import certificates, expiring, exposition, lock, measuring, processes, released, systemd, totals
from appctl.edge import Edge
from ctl_host import Host

PREFIX = "gunicorn_fastapi_"


def found(host: Host) -> dict[str, float]:
    """All series, without what begins all their names."""
    lines = exposition.written(measuring.families(host), openmetrics=False).splitlines()
    series = [line.removeprefix(PREFIX).rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(value) for name, _, value in series}


@pytest.fixture
def running(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    """A host with three instances of a process, of which two run, and another process that is scaled to none."""
    monkeypatch.setattr(measuring, "NETWORK", tmp_path)
    monkeypatch.setattr(systemd, "CGROUPS", tmp_path / "cgroup")
    host.serves("aaa1")
    release = {"processes": {"worker": {}, "bot": {}}, "origin": {"commit": "c0ffee", "by": "me@laptop"}}
    (host.release("aaa1") / "manifest.json").write_text(json.dumps(release))
    units = [processes.Unit("worker", "aaa1", 7, number) for number in (1, 2, 3)]
    (host.system / host.processes).write_text("".join(f"Wants={unit.name(host)}\n" for unit in units))
    for unit, populated in zip(units, (1, 0), strict=False):
        group = tmp_path / "cgroup" / host.slice / unit.name(host)
        group.mkdir(parents=True)
        (group / "cgroup.events").write_text(f"populated {populated}\nfrozen 0\n")
    return host


def test_processes_are_up_while_the_kernel_says_so(running: Host) -> None:
    there = found(running)
    assert there['processes{process="worker"}'] == 1
    assert there['processes_wanted{process="worker"}'] == 3
    assert (there['processes{process="bot"}'], there['processes_wanted{process="bot"}']) == (0, 0)
    assert there['process_restarts_total{process="worker"}'] == 0


def test_what_systemd_starts_again_is_counted_and_a_start_of_the_service_keeps_it(
    running: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    restarts = {"worker": "0", "bot": "4"}
    monkeypatch.setattr(systemd, "show", lambda unit, *_: {"NRestarts": restarts[unit.split("-")[1]]})
    for process in ("worker", "bot", "bot"):
        totals.command_begun(running, argparse.Namespace(unit=f"fastapi-{process}-aaa1@7-1.service"))
    totals.command_begun(running, argparse.Namespace(unit="fastapi-bot.service"))  # none of a process
    running.tables.mkdir()
    totals.begin(running, f"main-{1:032x}-aaa1", os.getegid())
    there = found(running)
    assert there['process_restarts_total{process="bot"}'] == 2
    assert there['process_restarts_total{process="worker"}'] == 0
    (running.system / running.processes).unlink()  # a release without them
    running.serves("aab2")
    there = found(running)
    assert there['process_restarts_total{process="bot"}'] == 2
    assert 'processes_wanted{process="bot"}' not in there


def test_a_record_of_before_there_were_restarts_is_counted_on(host: Host) -> None:
    host.totals.write_text(json.dumps({"contained": [], "starts": {"main": 3}, "replaced": {}, "totals": {}}))
    assert totals.look(host).record == totals.Record([], {"main": 3}, {}, {}, {})


def test_the_release_has_its_commit_and_what_came_of_its_command(
    running: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "by", lambda: "me")
    info = 'release_info{application="fastapi",release="aaa1",commit="c0ffee"}'
    assert found(running)[info] == 1
    assert not [name for name in found(running) if name.startswith("release_command")]
    for outcome, success in ((released.BEGUN, None), (released.FAILED, 0), (released.BEGUN, 0), (released.DONE, 1)):
        released.note(running, "aab2", outcome, "a password")
        assert found(running).get('release_command_success{release="aab2"}') == success
    assert found(running)['release_command_end_timestamp_seconds{release="aab2"}'] > 1.7e9
    assert running.came.stat().st_mode & 0o777 == 0o644
    assert "password" not in running.came.read_text()
    running.came.write_text('["forged"]')
    assert not [name for name in found(running) if name.startswith("release_command")]


@pytest.fixture
def edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """An edge with a certificate for two domains; the names that it was asked for."""
    pair = tmp_path / "pair.pem"
    pair.write_text(certificates.internal(tmp_path / "ca", ["a.test", "*.b.test"]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    names: list[str] = []

    def named(_connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        names.append(str(name))
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME if name == "none.test" else None

    context.sni_callback = named
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    with listener.accept()[0] as connection, context.wrap_socket(connection, server_side=True):
                        pass
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        monkeypatch.setattr(certificates, "EDGE", listener.getsockname())
        monkeypatch.setattr(expiring, "known", {})
        yield names
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(60)


def domains(host: Host, *names: str, tls: str = "acme") -> None:
    """Have the application these domains."""
    own = Edge(host).own
    own.mkdir(parents=True, exist_ok=True)
    (own / "edge.json").write_text(json.dumps({"domains": names, "tls": tls}))


def test_a_certificate_is_the_one_that_is_served(running: Host, edge: list[str]) -> None:
    domains(running, "a.test", "none.test", "*.b.test")
    there = {name: value for name, value in found(running).items() if name.startswith("certificate")}
    assert edge == ["a.test", "none.test", "any.b.test"]
    name = "certificate_expiry_timestamp_seconds"
    assert set(there) == {f'{name}{{domain="a.test"}}', f'{name}{{domain="*.b.test"}}'}
    days = {round((value - time.time()) / 86400) for value in there.values()}
    assert days == {certificates.VALID}
    found(running)
    assert len(edge) == 3, "nobody is asked again at once, for one that has none neither"


def test_without_tls_or_an_edge_there_is_no_certificate(
    running: Host, edge: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    domains(running, "a.test", tls="off")
    assert expiring.ends(running) == {}
    assert edge == []
    domains(running, "a.test")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        monkeypatch.setattr(certificates, "EDGE", closed.getsockname())
    assert expiring.ends(running) == {}


def test_a_scrape_has_an_end_whatever_the_edge_does(running: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]

    def slow(_: str) -> float:
        clock[0] += expiring.WAIT
        return 5.0

    monkeypatch.setattr(expiring, "monotonic", lambda: clock[0])
    monkeypatch.setattr(expiring, "known", {})
    monkeypatch.setattr(expiring, "asked", slow)
    domains(running, *(f"d{number}.test" for number in range(5)))
    assert [len(expiring.ends(running)) for _ in range(4)] == [2, 4, 5, 5]
    assert clock[0] == 1000 + 5 * expiring.WAIT
