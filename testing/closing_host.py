"""An application that serves on two addresses, and a systemd that only notes what it is asked for."""

from pathlib import Path

import pytest
from appctl import addresses, bounded, maintenance, pause, systemd, talk
from appctl.addresses import Address, Options
from appctl.app import App
from appctl.ours import Ours
from appctl.process import CtlError
from ctl_host import Host

MAIN = (Path(__file__).parents[1] / "tests/units/golden/257/main.service").read_text()
RELEASE = "aaa1"


class Systemd:
    """Notes what systemd is asked for; what is in `broken` does not start."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.active = {"fastapi.service", "fastapi.socket"}
        self.broken: set[str] = set()

    def change(self, verb: str, *units: str, **_: object) -> None:
        self.did.append(f"{verb} {' '.join(units)}")
        for unit in units:
            if verb != "stop" and unit in self.broken:
                self.active.discard(unit)
                raise CtlError(f"{unit} is broken")
            (self.active.discard if verb == "stop" else self.active.add)(unit)

    def start(self, unit: str, verb: str = "start", *_: str) -> str:
        self.change(verb, unit)
        return "1.0 s"


@pytest.fixture
def made(host: Host, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    """An application that serves on two addresses."""
    units = host.release(RELEASE) / "systemd"
    units.mkdir()
    own = MAIN.replace("/opt/fastapi/releases/@RELEASE@", f"{host.releases}/{RELEASE}")
    (units / "fastapi.service").write_text(own)
    (units / "fastapi-maintenance.service").write_text("[Service]\nSockets=fastapi.socket\n")
    host.unit.write_text(own)
    layout = {"fastapi.socket": [Address("0.0.0.0:80")], "fastapi-address-0a.socket": [Address("/run/a.sock")]}
    for unit in layout:
        (host.system / unit).write_text(addresses.unit_text(host, unit, layout, Options()))
    fake = Systemd()
    monkeypatch.setattr(bounded, "change", fake.change)
    for module in (maintenance, pause):
        monkeypatch.setattr(module, "start", fake.start)
        monkeypatch.setattr(module, "run", lambda *words, **_: fake.did.append(" ".join(words[1:])))
    monkeypatch.setattr(systemd, "active", lambda unit: unit in fake.active)
    monkeypatch.setattr(Ours, "add", lambda *_: None)
    monkeypatch.setattr(talk, "quiet", False)
    maintenance.ask(host, "<p>closed", 7)
    return fake


def services(host: App) -> set[str]:
    """Who gets the public addresses."""
    found = [path.read_text() for path in host.system.glob("*.socket")]
    return {line for text in found for line in text.split("\n") if line.startswith("Service=")}
