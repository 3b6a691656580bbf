"""What an application has of the edge, and how it comes and goes without a reload of Caddy."""

import argparse
import datetime
import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from appctl import bounded, certificates, departing, edge, lock, systemd, talk
from appctl.app import App
from appctl.process import CtlError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ENABLED = ["enable caddy.service", "--file-system /etc/systemd/system"]
"""On the disk, too: a loss of power after that finds it enabled."""


class Host:
    """A host whose systemd notes what it is asked."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.base = base
        self.active = False
        self.asked: list[str] = []
        self.certified: list[str] = []
        self.monkeypatch = monkeypatch
        for directory in ("etc/systemd/system", "etc/gunicorn_fastapi", "run/caddy"):
            (base / directory).mkdir(parents=True)
        (base / "etc/gunicorn_fastapi/Caddyfile").touch()
        monkeypatch.setattr(edge, "caddy", os.getgid)
        for module in (edge, systemd):
            monkeypatch.setattr(module, "run", lambda *command, **_: self.asked.append(" ".join(command[1:])))
        monkeypatch.setattr(bounded, "change", self.change)
        monkeypatch.setattr(systemd, "active", lambda _: self.active)
        monkeypatch.setattr(systemd, "show", lambda _, *names: dict.fromkeys(names, "loaded"))
        monkeypatch.setattr(certificates, "ask", self.certify)

    def certify(self, domain: str, _: float) -> str:
        self.certified.append(domain)
        return ""

    def change(self, verb: str, unit: str, **_: object) -> None:
        self.asked.append(f"{verb} {unit}")
        self.active = verb == "start"
        (self.base / "run/caddy/configured").touch()

    def ask(self, name: str, domains: list[str], **given: object) -> dict[str, Any]:
        request = {
            "domains": domains,
            "redirects": {},
            "tls": "acme",
            "hsts": "",
            "certificate": "",
            "pair": "",
            "socket": f"/run/{name}",
        }
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(request | given)))
        self.asked.clear()
        self.certified.clear()
        talk.said.clear()
        return edge.command_edge(App(name, self.base), argparse.Namespace(lock_wait=1.0))

    def there(self) -> dict[str, str]:
        """What the edge finds: each link and file below its directory."""
        root = self.base / "var/lib/gunicorn_fastapi/edge"
        found = {}
        for path in sorted(root.rglob("*")):
            if path.name == "public":
                assert str(path.readlink()) == str(self.base / "opt" / path.parent.name / "public")
            elif path.is_symlink():
                found[str(path.relative_to(root))] = str(path.readlink())
            elif path.is_file() and path.name != "edge.json":
                found[str(path.relative_to(root))] = ""
        return found


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(talk, "quiet", True)
    monkeypatch.setattr(lock, "by", lambda: "me")
    return Host(tmp_path, monkeypatch)


def test_the_first_domain_starts_caddy_and_the_next_does_nothing_to_it(host: Host) -> None:
    assert host.ask("shop", ["a.test"]) == {"changed": True}
    assert host.asked == [*ENABLED, "start caddy.service"]
    assert host.certified == ["a.test"]
    assert host.ask("shop", ["a.test", "b.test"]) == {"changed": True}
    assert host.ask("blog", ["c.test"], hsts="max-age=300") == {"changed": True}
    assert host.asked == ENABLED
    assert host.there() == {
        "applications/blog/acme": "", "applications/blog/app.sock": "/run/blog",
        "applications/blog/hsts/max-age=300": "",
        "applications/shop/acme": "", "applications/shop/app.sock": "/run/shop",
        "https/a.test": "../applications/shop", "https/b.test": "../applications/shop",
        "https/c.test": "../applications/blog",
    }  # fmt: skip
    assert host.ask("blog", ["c.test"], hsts="max-age=300") == {"changed": False}


def test_a_domain_goes_and_the_others_stay(host: Host) -> None:
    host.ask("shop", ["a.test", "b.test"], hsts="max-age=300")
    assert host.ask("shop", ["b.test"]) == {"changed": True}
    assert host.there() == {
        "applications/shop/acme": "", "applications/shop/app.sock": "/run/shop", "https/b.test": "../applications/shop"
    }  # fmt: skip


def test_a_name_that_leads_to_another_says_where_to(host: Host) -> None:
    host.ask("shop", ["a.test", "b.test", "www.a.test"], redirects={"www.a.test": "a.test"})
    there = host.there()
    assert there["https/www.a.test"] == "../applications/shop"
    assert "applications/shop/redirects/www.a.test/to=a.test" in there
    assert host.certified == ["a.test", "b.test", "www.a.test"]
    host.ask("shop", ["a.test", "b.test", "www.a.test"], redirects={"www.a.test": "b.test"})
    assert [path for path in host.there() if "to=" in path] == ["applications/shop/redirects/www.a.test/to=b.test"]
    host.ask("shop", ["a.test", "www.a.test"])
    assert not [path for path in host.there() if "redirects" in path]
    assert not list((host.base / "var/lib/gunicorn_fastapi/edge/applications/shop/redirects").iterdir())


def test_without_tls_a_domain_is_found_by_http_alone(host: Host) -> None:
    host.ask("shop", ["a.test"])
    host.ask("shop", ["a.test"], tls="off")
    assert host.there() == {"applications/shop/app.sock": "/run/shop", "http/a.test": "../applications/shop"}
    assert host.certified == []


def test_a_domain_of_another_is_refused_and_nothing_changes(host: Host) -> None:
    host.ask("shop", ["a.test"])
    before = host.there()
    with pytest.raises(CtlError, match=r"a\.test belongs to shop on this host, and nothing has changed"):
        host.ask("blog", ["b.test", "a.test"])
    assert host.there() == before


def test_the_last_one_that_leaves_takes_the_edge_away(host: Host) -> None:
    host.ask("shop", ["a.test"])
    host.ask("blog", ["c.test"])
    drop_in = edge.Edge(App("shop", host.base)).drop_in
    drop_in.parent.mkdir(parents=True)
    drop_in.touch()
    assert host.ask("shop", []) == {"changed": True}
    assert host.asked == []
    assert "goes on for blog" in talk.said[-1]
    assert host.ask("blog", []) == {"changed": True}
    assert host.asked == ["stop caddy.service", "disable caddy.service", "daemon-reload"]
    assert host.there() == {}
    assert not drop_in.parent.exists()
    assert not (host.base / "etc/gunicorn_fastapi").exists()
    assert host.ask("blog", []) == {"changed": False}


def test_caddy_reads_a_changed_configuration_once(host: Host) -> None:
    host.ask("shop", ["a.test"])
    os.utime(host.base / "run/caddy/configured", (1, 1))
    assert host.ask("shop", ["a.test"])["changed"]
    assert "reload caddy.service" in host.asked
    assert "lose a request" in talk.said[0]
    (host.base / "run/caddy/configured").touch()
    assert not host.ask("shop", ["a.test"])["changed"]


def test_caddy_that_does_not_start_fails_the_run(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "change", lambda *_, **__: None)
    with pytest.raises(CtlError, match=r"caddy\.service, the edge, did not start"):
        host.ask("shop", ["a.test"])


def test_a_certificate_that_does_not_come_is_a_warning(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "ask", lambda *_: "internal error")
    monkeypatch.setattr(certificates, "why_not", lambda *_: "no A record")
    assert host.ask("shop", ["a.test"])["changed"]
    assert talk.said[-1].startswith("warning: a.test has no certificate yet: no A record. Does its name lead here")


def test_nobody_waits_for_a_certificate_that_caddy_has_given_up(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    said = iter(["", "", "rate limited"])

    def ask(_: str, seconds: float) -> str:
        asked.append(seconds)
        return "none"

    monkeypatch.setattr(certificates, "ask", ask)
    monkeypatch.setattr(certificates, "why_not", lambda *_: next(said))
    host.ask("shop", ["a.test"])
    assert asked == [edge.LOOK] * 3
    assert "yet: rate limited. " in talk.said[-1]


def test_the_wait_for_a_certificate_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 1000, 4))
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    monkeypatch.setattr(certificates, "ask", lambda *_: "none within 5 s")
    monkeypatch.setattr(certificates, "why_not", lambda *_: "")
    assert edge.without("a.test", 0, 60) == "none within 5 s"
    assert next(now) <= 64


def test_an_authority_of_the_host_s_own(host: Host) -> None:
    host.ask("shop", ["a.test"])
    host.ask("shop", ["a.test"], tls="internal")
    assert "reload caddy.service" in host.asked  # it remembers the other certificate
    own = host.base / "var/lib/gunicorn_fastapi/edge/applications/shop/tls.pem"
    pem = own.read_text()
    assert own.stat().st_mode & 0o777 == 0o640
    assert certificates.check(pem, ["a.test"]) == ""
    assert certificates.check(pem, ["b.test"]) == "the certificate is not for b.test"
    assert certificates.facts(pem)["days"] == certificates.VALID - 1
    assert host.ask("shop", ["a.test"], tls="internal") == {"changed": False}
    host.ask("shop", ["a.test", "b.test"], tls="internal")
    assert "reload caddy.service" not in host.asked
    assert certificates.check(own.read_text(), ["b.test"]) == ""
    assert "acme" not in " ".join(host.there())
    authority = host.base / "var/lib/gunicorn_fastapi/edge/authority"
    assert (authority / "ca.key").stat().st_mode & 0o777 == 0o600
    state = edge.told(App("shop", host.base))
    assert edge.words(state)[0] == "  edge      caddy is loaded"


def test_files_have_to_fit(host: Host, tmp_path: Path) -> None:
    pair = certificates.internal(tmp_path / "ca", ["*.a.test"])
    other = certificates.internal(tmp_path / "ca", ["*.a.test"])
    host.ask("shop", ["*.a.test"], tls="files", pair=pair, certificate="1")
    assert host.there()["https/_.a.test"] == "../applications/shop"
    before = host.there()
    mixed = pair.partition("-----BEGIN PRIVATE")[0] + "-----BEGIN PRIVATE" + other.partition("-----BEGIN PRIVATE")[2]
    for bad, why in ((mixed, "do not fit"), ("x", "do not fit"), (pair.replace("KEY", "YEK"), "do not fit")):
        with pytest.raises(CtlError, match=why):
            host.ask("shop", ["*.a.test"], tls="files", pair=bad, certificate="2")
    with pytest.raises(CtlError, match=r"the certificate is not for b\.test"):
        host.ask("shop", ["b.test"], tls="files", pair=pair, certificate="2")
    assert host.there() == before
    assert host.ask("shop", ["*.a.test"], tls="files", pair=other, certificate="2")["changed"]
    assert host.asked == ENABLED


def test_a_file_that_has_expired_changes_nothing(host: Host) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a.test")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(days=9))
    old = builder.not_valid_after(now - datetime.timedelta(days=1)).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with pytest.raises(CtlError, match="the certificate has expired, and nothing has changed"):
        host.ask("shop", ["a.test"], tls="files", pair=(old.public_bytes(pem) + private).decode(), certificate="1")
    assert host.there() == {}


def test_the_status_says_what_there_is() -> None:
    rows = [{"domain": "a.test", "issuer": "R3", "days": 61}, {"domain": "b.test", "issuer": "", "days": None}]
    assert edge.words({"tls": "acme", "caddy": "active", "domains": rows}) == [
        "  edge      caddy is active",
        "  domain    a.test: acme, by R3, 61 days left",
        "  domain    b.test: acme, no certificate that can be seen",
    ]
    assert edge.words(None) == []
    assert "HTTP alone" in edge.words({"tls": "off", "caddy": "", "domains": rows})[1]


def test_why_a_certificate_did_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [
        {"level": "error", "logger": "tls.obtain", "identifier": "a.test", "error": "first"},
        {"level": "error", "logger": "tls.obtain", "identifier": "a.test", "error": "no A record"},
        {"level": "error", "logger": "tls.obtain", "identifier": "b.test", "error": "another's"},
        {"level": "error", "logger": "tls.handshake", "sni": "a.test", "error": "got HTTP 204"},
        {"level": "info", "identifier": "a.test", "error": "no matter"},
    ]
    text = "\n".join(["Started caddy.service for a.test", "[]", *map(json.dumps, records)])
    monkeypatch.setattr(certificates, "run", lambda *_, **__: text)
    assert certificates.why_not("a.test", 0) == "no A record"
    assert certificates.why_not("c.test", 0) == ""


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(talk, "say", lambda _, text, *__, **___: said.append(text))
    return said


OPEN: dict[str, Any] = {"bind": ["0.0.0.0:80"]}


def test_a_handover_that_leaves_the_edge_has_its_ports_meanwhile(host: Host) -> None:
    host.ask("shop", ["a.test"])
    host.asked.clear()
    with departing.departure(App("shop", host.base), OPEN):
        assert host.asked == ["stop caddy.service"]
        assert host.there()["https/a.test"]
    assert "disable caddy.service" in host.asked
    assert host.there() == {}


def test_the_edge_comes_back_when_the_handover_fails(host: Host, told: list[str]) -> None:
    host.ask("shop", ["a.test"])
    before = host.there()
    host.asked.clear()
    with pytest.raises(CtlError, match="it does not start"), departing.departure(App("shop", host.base), OPEN):
        raise CtlError("it does not start")
    assert host.asked == ["stop caddy.service", "start caddy.service"]
    assert host.there() == before
    assert told == ["caddy.service, the edge, was started again"]


def test_an_edge_that_others_have_goes_on(host: Host) -> None:
    host.ask("shop", ["a.test"])
    host.ask("blog", ["c.test"])
    host.asked.clear()
    with departing.departure(App("shop", host.base), OPEN):
        assert host.asked == []
    assert not any("caddy.service" in line for line in host.asked)
    assert "https/c.test" in host.there()
    assert "https/a.test" not in host.there()


@pytest.mark.parametrize("wanted", [None, {"bind": ["/run/shop"]}, {"bind": ["/run/shop", "127.0.0.1:8080"]}])
def test_a_handover_that_keeps_its_way_to_the_edge_leaves_nothing(host: Host, wanted: dict[str, Any] | None) -> None:
    host.ask("shop", ["a.test"])
    before = host.there()
    host.asked.clear()
    with departing.departure(App("shop", host.base), wanted):
        pass
    assert (host.asked, host.there()) == ([], before)


def test_without_domains_there_is_nothing_to_leave(host: Host) -> None:
    with departing.departure(App("shop", host.base), OPEN):
        pass
    assert host.asked == []
