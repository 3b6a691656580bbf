"""Maintenance for all but some: what is noted, who answers, and in which order one kind of it becomes the other."""

import argparse
import json
from typing import Any

import pytest
from appctl import admitting, behind, closing, counting, exchange, handover, maintenance, pause
from appctl.app import App
from appctl.process import CtlError
from closing_host import RELEASE, Systemd, services
from ctl_host import Host

NETWORKS = ["192.0.2.0/24", "2001:db8::/32"]
FOR_ALL = {"Service=fastapi-maintenance.service"}
ITS_OWN = {"Service=fastapi.service"}


@pytest.fixture
def heard(host: Host, made: Systemd, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An application whose workers heed what is noted; which words they were waited for."""
    (host.release(RELEASE) / admitting.HEARS).parent.mkdir(parents=True)
    (host.release(RELEASE) / admitting.HEARS).touch()
    waited: list[int] = []

    def answers(app: App, *_: str) -> list[exchange.Answer]:
        turn = json.loads((app.maintenance / "state.json").read_text())["turn"]
        waited.append(turn)
        return [exchange.Answer(b"HTTP/1.1 200 OK\r\nX-Maintenance: %d" % turn, b"")]

    monkeypatch.setattr(counting, "answers", answers)
    monkeypatch.setattr(admitting, "LOOK", 0)
    made.did.clear()
    return waited


def turn(host: Host, allow: list[str]) -> dict[str, Any]:
    """Ask for it, have it done, and give what is noted."""
    maintenance.ask(host, "<p>closed", 7, allow)
    maintenance.on(host)
    return behind.state(host)


def test_the_service_goes_on(host: Host, made: Systemd, heard: list[int]) -> None:
    before = host.unit.read_text()
    noted = turn(host, NETWORKS)
    assert (noted["on"], noted["allow"], noted["retry_after"]) == (True, NETWORKS, 7)
    assert heard == [noted["turn"]]
    assert (host.maintenance / "page").read_text() == "<p>closed"
    assert made.did == []
    assert (host.unit.read_text(), services(host)) == (before, ITS_OWN)
    assert behind.words(host) == f"on since {noted['since']} by {noted['by']}, for all but 192.0.2.0/24, 2001:db8::/32"
    assert (behind.is_alone(host), behind.owner(host)) == (False, host.service)
    # Settled as it is, and others may be let in without it ever being off.
    maintenance.settle(host)
    other = turn(host, ["192.0.2.9/32"])
    assert (other["since"], other["allow"]) == (noted["since"], ["192.0.2.9/32"])
    assert other["turn"] != noted["turn"] or len(heard) == 2
    maintenance.off(host)
    assert behind.state(host) == {}
    assert len(heard) == 3
    assert made.did == []


def test_one_kind_becomes_the_other(host: Host, made: Systemd, heard: list[int]) -> None:
    since = turn(host, [])["since"]
    assert services(host) == FOR_ALL
    made.did.clear()
    noted = turn(host, NETWORKS)
    assert [done for done in made.did if "reload" not in done and "failed" not in done] == [
        "restart fastapi.service",
        "stop fastapi-maintenance.service",
    ]
    assert (noted["since"], services(host)) == (since, ITS_OWN)
    assert not (host.system / host.responder).exists()
    assert heard == [noted["turn"]]
    made.did.clear()
    noted = turn(host, [])
    # The service has no address any more before its workers hear that nobody is kept out.
    assert [done for done in made.did if "reload" not in done] == [
        "start fastapi-maintenance.service",
        "restart fastapi.service",
    ]
    assert (noted["since"], noted["allow"], services(host)) == (since, [], FOR_ALL)
    maintenance.off(host)
    assert services(host) == ITS_OWN


def test_who_was_kept_out_stays_so_until_nobody_reaches_it(
    host: Host,
    made: Systemd,
    heard: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turn(host, NETWORKS)
    seen: list[Any] = []

    def start(unit: str, verb: str) -> str:
        seen.append(behind.state(host).get("allow"))
        return made.start(unit, verb)

    monkeypatch.setattr(maintenance, "start", start)
    turn(host, [])
    assert seen == [NETWORKS]
    assert heard


def test_an_application_that_does_not_start_stays_behind_it(host: Host, made: Systemd, heard: list[int]) -> None:
    noted = turn(host, [])
    made.broken.add(host.service)
    with pytest.raises(CtlError, match=r"maintenance stays on for all, because fastapi.service does not start: "):
        turn(host, NETWORKS)
    assert behind.state(host) == noted
    assert services(host) == FOR_ALL
    assert heard == []


def test_a_responder_that_does_not_start_leaves_the_others_in(
    host: Host,
    made: Systemd,
    heard: list[int],
) -> None:
    noted = turn(host, NETWORKS)
    made.broken.add(host.responder)
    with pytest.raises(CtlError, match=r"does not start, and nothing has changed"):
        turn(host, [])
    assert {**behind.state(host), "turn": 0} == {**noted, "turn": 0}
    assert services(host) == ITS_OWN
    assert heard


def test_workers_that_do_not_heed_it_are_told_of(
    host: Host,
    made: Systemd,
    heard: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admitting, "PATIENCE", 0)
    monkeypatch.setattr(counting, "answers", lambda *_: [exchange.Answer(b"HTTP/1.1 200 OK\r\nX-Maintenance: 0", b"")])
    with pytest.raises(CtlError, match=r"maintenance is on since .*, but not all workers .* one is stuck .*ctl tasks"):
        turn(host, NETWORKS)
    made.active.discard(host.service)
    assert turn(host, NETWORKS)["on"]  # who does not run reads it at its start
    assert heard == []


def test_a_release_that_would_let_everybody_in_is_refused(
    host: Host, made: Systemd, heard: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    (host.release("bbb3") / "systemd").mkdir()
    (host.release("bbb3") / "systemd/fastapi.service").write_text(host.unit.read_text())
    admitting.check_behind(host, "bbb3")
    turn(host, NETWORKS)
    with pytest.raises(CtlError, match=r"release bbb3 was built by a version of the role whose workers let everyb"):
        handover.execute(host, "bbb3")
    monkeypatch.setattr(counting, "answers", lambda *_: [exchange.Answer(b"HTTP/1.1 200 OK", b"")])
    with pytest.raises(CtlError, match=r"a class of your own, which would let everybody in, and nothing has changed"):
        admitting.check_now(host)
    assert made.did == []
    assert heard


@pytest.mark.usefixtures("heard")
def test_addresses_may_change_and_clients_may_wait(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    turn(host, NETWORKS)
    begun: list[Any] = []
    monkeypatch.setattr(closing, "in_the_background", lambda *given: begun.append(given[2]))
    monkeypatch.setattr(pause, "check", lambda _: None)
    closing.command_pause(host, argparse.Namespace(end=False, max=30.0, lock_wait=1))
    assert begun == [["--pause=30"]]


@pytest.mark.parametrize(
    ("given", "noted"),
    [
        ("192.0.2.1", "192.0.2.1/32"), ("10.0.0.0/8", "10.0.0.0/8"), ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
        ("2001:DB8::/32", "2001:db8::/32"), ("::ffff:192.0.2.1", "192.0.2.1/32"), ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"), ("::1", "::1/128"), ("::/0", "::/0"),
    ],
)  # fmt: skip
def test_a_network_is_noted_as_peers_are_told(given: str, noted: str) -> None:
    assert closing.network(given) == noted


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("10.1.0.0/8", "10.1.0.0/8 has host bits set"), ("office", "'office' does not appear to be"),
        ("192.0.2.1:80", "does not appear to be"), ("", "does not appear to be"), ("192.0.2.0/33", "does not appear"),
        ("2001:db8::/129", "does not appear"), ("192.0.2.0 /24", "does not appear"), ("1", "does not appear"),
    ],
)  # fmt: skip
def test_what_is_no_network_is_refused(given: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser(prog="fastapictl")
    closing.add_maintenance(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["on", "--allow", "192.0.2.1", given])
    told = capsys.readouterr().err
    assert "argument --allow: " in told
    assert said in told
    assert "Give an address or a network, as 192.0.2.0/24" in told


def test_several_networks_may_be_given() -> None:
    parser = argparse.ArgumentParser()
    closing.add_maintenance(parser)
    words = ["on", "--allow", "10.0.0.0/8", "::1", "--retry-after=5", "--allow", "192.0.2.1"]
    assert parser.parse_args(words).allow == ["10.0.0.0/8", "::1/128", "192.0.2.1/32"]
    assert parser.parse_args(["on"]).allow == []
