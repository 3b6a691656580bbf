"""What a look at a host says of its edge."""

import json
import os
from pathlib import Path

import gunicorn_fastapi_edge as edge
import pytest
from appctl import certificates
from appctl.app import App
from appctl.edge import Edge


@pytest.fixture
def base(tmp_path: Path) -> Path:
    own = tmp_path / edge.PLACE / "applications/shop"
    own.mkdir(parents=True)
    (own / "edge.json").write_text(json.dumps({"domains": ["a.test", "b.test"], "tls": "acme"}))
    (tmp_path / edge.PLACE / "https").mkdir()
    for name in ("a.test", "_.b.test"):
        (tmp_path / edge.PLACE / "https" / name).symlink_to("../applications/shop")
    return tmp_path


def state(active: str, enabled: str, load: str = "loaded") -> str:
    return f"LoadState={load}\nActiveState={active}\nUnitFileState={enabled}"


def test_a_host_without_an_edge(tmp_path: Path) -> None:
    found = edge.look("shop", lambda *_: state("inactive", "", "not-found"), tmp_path)
    assert found["settings"] == found["owners"] == {}
    assert not any(found[key] for key in ("foreign", "installed", "last", "active"))
    assert edge.look("shop", lambda *_: "", tmp_path)["foreign"] is False  # without systemd


@pytest.mark.parametrize(
    ("active", "enabled", "ours", "foreign"),
    [
        ("active", "enabled", False, True),
        ("active", "disabled", False, True),
        ("inactive", "enabled", False, True),
        ("inactive", "disabled", False, False),
        ("active", "enabled", True, False),
    ],
)
def test_whose_caddy_it_is(base: Path, active: str, enabled: str, ours: bool, foreign: bool) -> None:
    if ours:
        (base / edge.DROP_IN).parent.mkdir(parents=True)
        (base / edge.DROP_IN).touch()
    assert edge.look("shop", lambda *_: state(active, enabled), base)["foreign"] == foreign


def test_whose_the_domains_are(base: Path) -> None:
    look = edge.look("shop", lambda *_: state("active", "enabled"), base)
    assert look["owners"] == {"a.test": "shop", "*.b.test": "shop"}
    assert look["last"]
    (base / edge.PLACE / "https/c.test").symlink_to("../applications/other")
    assert not edge.look("shop", lambda *_: "", base)["last"]
    assert not edge.look("third", lambda *_: "", base)["last"]


def test_certificates_that_are_missing(base: Path) -> None:
    assert edge.missing(base, "shop", {"domains": ["a.test", "b.test"], "tls": "acme"}) == ["a.test", "b.test"]
    issued = base / edge.CERTIFICATES / "ca.test-dir/a.test/a.test.crt"
    issued.parent.mkdir(parents=True)
    issued.touch()
    assert edge.missing(base, "shop", {"domains": ["a.test", "b.test"], "tls": "acme"}) == ["b.test"]
    for tls in ("files", "off"):
        assert edge.missing(base, "shop", {"domains": ["a.test"], "tls": tls}) == []
    pem = base / edge.PLACE / "applications/shop/tls.pem"
    assert edge.missing(base, "shop", {"domains": ["a.test"], "tls": "internal"}) == ["a.test"]
    pem.touch()
    assert edge.missing(base, "shop", {"domains": ["a.test"], "tls": "internal"}) == []
    os.utime(pem, (0, 0))
    assert edge.missing(base, "shop", {"domains": ["a.test"], "tls": "internal"}) == ["a.test"]


def test_both_know_the_same_places() -> None:
    there = Edge(App("shop"))
    assert str(there.root) == f"/{edge.PLACE}"
    assert str(there.drop_in) == f"/{edge.DROP_IN}"
    assert str(certificates.CADDY) == edge.CERTIFICATES
    assert (certificates.VALID - certificates.RENEW) * 86400 == edge.DUE
    text = (Path(__file__).parent.parent / "roles/gunicorn_fastapi/files/edge/Caddyfile").read_text()
    assert f"/{edge.PLACE}/https" in text
    unit = (Path(__file__).parent.parent / "roles/gunicorn_fastapi/files/edge/caddy.service.conf").read_text()
    assert all(f"ConditionDirectoryNotEmpty=|{directory}" in unit for directory in there.schemes.values())
    assert f"EnvironmentFile={there.environment}" in unit
    assert f"ExecStartPre=/usr/bin/touch {there.configured}" in unit
