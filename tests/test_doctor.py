"""Each finding of a host is one line with one remedy, and a good host has none."""

import copy
import re
from typing import Any

import pytest
from gunicorn_fastapi_controller import doctor
from test_host_checks import GOOD, INPUTS

WANTED: dict[str, Any] = INPUTS | {
    "gunicorn_fastapi_workers": "auto", "gunicorn_fastapi_worker_memory": 128, "gunicorn_fastapi_tls": "acme",
    "gunicorn_fastapi_tasks_max": 4096, "gunicorn_fastapi_memory_max": "", "gunicorn_fastapi_cpu_quota": "",
}  # fmt: skip
FOUND = GOOD | {"busy": ""}
GIB = 2**30
STATUS: dict[str, Any] = {
    "release": "3f9a", "health": "/healthz answers 200 in 4 ms", "trouble": "", "incomplete": "", "maintenance": None,
    "candidate": "", "memory": 100 * doctor.MIB,
    "edge": {"tls": "acme", "caddy": "active", "domains": [{"domain": "a.test", "issuer": "R11", "days": 60}]},
}  # fmt: skip
SEEN: dict[str, Any] = {
    "uid": 0, "skew": 0.2, "synchronized": "yes", "manager": "running", "controllers": ["cpu", "memory", "pids"],
    "apt": {"there": True, "interrupted": False, "holder": "", "unknown": []}, "index": {"url": "u", "error": ""},
    "room": {"/opt": {"bytes": GIB, "names": 10**6}, "/run": {"bytes": GIB, "names": -1}}, "umask": 0o022,
    "memory": {"MemTotal": 4 * GIB, "MemAvailable": GIB}, "cpus": 2,
    "domains": {"a.test": {"addresses": ["192.0.2.1"], "error": ""}}, "addresses": ["127.0.0.1", "192.0.2.1"],
    "ports": {"a.test:80": ""}, "status": STATUS, "name": "shop", "busy": "", "failed": [], "left": [], "packages": [],
    "advisories": [], "silent": [],
}  # fmt: skip


def seen(**changes: Any) -> dict[str, Any]:
    """A good host, with these differences; those of `status` and `edge` one by one."""
    facts = copy.deepcopy(SEEN)
    facts["status"]["edge"] |= changes.pop("edge", {})
    facts["status"] |= changes.pop("status", {})
    return facts | changes


def one(found: dict[str, Any] | None = None, **changes: Any) -> doctor.Finding:
    """The only finding of a host with these differences."""
    (finding,) = doctor.findings(FOUND | (found or {}), seen(**changes), WANTED)
    return finding


def test_a_good_host_has_none() -> None:
    assert doctor.findings(FOUND, seen(), WANTED) == []


def test_one_that_has_nothing_of_ours_has_none() -> None:
    assert doctor.findings(FOUND, seen() | {"status": {}}, WANTED) == []


@pytest.mark.parametrize(
    ("found", "subject", "text"),
    [
        ({"init": "tini"}, "init", "process 1 is tini, not systemd"),
        ({"python": "3.9.2"}, "python", "python3 is 3.9.2; 3.11 or later is required"),
        ({"noexec": "/opt"}, "noexec", "mounted noexec"),
        ({"holders": [{"address": "0.0.0.0:80", "by": "is held by nginx (process 7)"}]}, "bind", "held by nginx"),
        ({"free": 2**20}, "room", "/opt/fastapi has 1.00 MB left and a release may need 300.00 MB"),
        ({"read_only": ["/etc"]}, "room", "/etc is mounted read-only"),
    ],
)
def test_what_a_deploy_refuses_is_what_it_says(found: dict[str, Any], subject: str, text: str) -> None:
    finding = one(found)
    assert finding.subject == subject
    assert finding.stops
    assert text in finding.text


def test_a_deploy_that_is_under_way() -> None:
    finding = one({"busy": "handover by me since noon"})
    assert (finding.subject, finding.stops) == ("locks", False)


@pytest.mark.parametrize(
    ("changes", "subject", "text"),
    [
        ({"uid": 1000}, "sudo", "number 1000, not as root. Set ansible_become"),
        ({"manager": "offline"}, "systemd", "systemd is offline: it starts nothing. Reboot"),
        ({"apt": SEEN["apt"] | {"there": False}}, "apt", "no dpkg"),
        ({"apt": SEEN["apt"] | {"interrupted": True}}, "apt", "Run: dpkg --configure -a"),
        ({"apt": SEEN["apt"] | {"unknown": ["caddy", "openssl"]}}, "apt", "apt does not know caddy, openssl. Run apt"),
        (
            {"index": {"url": "https://i/", "error": "timed out"}},
            "index",
            "https://i/ cannot be reached: timed out. Open",
        ),
    ],
)
def test_what_stops_a_deploy(changes: dict[str, Any], subject: str, text: str) -> None:
    finding = one(**changes)
    assert finding.subject == subject
    assert finding.stops
    assert text in finding.text


@pytest.mark.parametrize(
    ("changes", "subject", "text"),
    [
        ({"skew": 90.0}, "clock", "90 s ahead of the controller's"),
        ({"skew": -90.0}, "clock", "90 s behind the controller's"),
        ({"synchronized": "no"}, "clock", "nothing keeps its clock right. Have it set"),
        ({"controllers": ["cpu", "memory"]}, "systemd", "pids cannot be limited here, so gunicorn_fastapi_tasks_max"),
        ({"controllers": None}, "systemd", "two hierarchies of control groups"),
        ({"apt": SEEN["apt"] | {"holder": "apt (process 7)"}}, "apt", r"apt \(process 7\) has locked dpkg"),
        ({"room": {"/opt": {"bytes": GIB, "names": 7}}}, "room", "/opt has room for 7 more files"),
        ({"room": {"/run": {"bytes": 3 * doctor.MIB, "names": -1}}}, "room", "/run has 3 MiB left. Free"),
        ({"umask": 0}, "umask", r"can be written by others \(umask 0000\)"),
        ({"umask": 0o077}, "umask", r"is closed to others \(umask 0077\)"),
        ({"memory": SEEN["memory"] | {"MemAvailable": GIB // 8}}, "memory", "a second generation of 2 workers"),
        ({"domains": {"a.test": {"addresses": [], "error": "unknown"}}}, "DNS", "a.test cannot be looked up: unknown"),
        ({"domains": {"a.test": {"addresses": ["192.0.2.7"], "error": ""}}}, "DNS", "leads to 192.0.2.7, which is no"),
        ({"ports": {"a.test:80": "timed out"}}, "ports", "a.test:80 does not answer .*has to reach it: open"),
        ({"edge": {"domains": [{"domain": "a.test", "issuer": "", "days": None}]}}, "certificates", "a.test has none"),
        ({"edge": {"domains": [{"domain": "a.test", "days": 3}]}}, "certificates", "expires in 3 days. The reason"),
        ({"edge": {"domains": [{"domain": "a.test", "days": -1}], "tls": "files"}}, "certificates", "has expired. Put"),
        ({"edge": {"caddy": "failed"}}, "edge", "caddy is failed. Run: systemctl restart caddy"),
        ({"status": {"incomplete": "x is missing"}}, "release", "could not start again: x is missing. Deploy it again"),
        ({"status": {"health": "/healthz answers 500 in 4 ms, unhealthy"}}, "health", "answers 500 .*journalctl"),
        ({"status": {"trouble": "3 workers died"}}, "health", "3 workers died"),
        ({"status": {"maintenance": {"by": "me"}}}, "maintenance", "shopctl maintenance off"),
        ({"status": {"candidate": "3f9a"}}, "leftovers", "shop-candidate.service of an interrupted handover runs"),
        ({"failed": ["shop-run.service"]}, "leftovers", "systemctl reset-failed shop-run.service"),
        ({"left": ["/opt/shop/incoming/build-x"]}, "leftovers", "has left /opt/shop/incoming/build-x. The next deploy"),
        ({"silent": ["packages"]}, "control", "shopctl packages gives no answer, .* is unknown. Try: sudo shopctl"),
        ({"packages": [{"name": "starlette", "version": "1.3.0"}]}, "versions", "starlette 1.3.0 has known .* Upgrade"),
    ],
)  # fmt: skip
def test_what_is_worth_a_look(changes: dict[str, Any], subject: str, text: str) -> None:
    finding = one(**changes)
    assert finding.subject == subject
    assert not finding.stops
    assert re.search(text, finding.text)


def test_the_first_release_takes_two_generations() -> None:
    facts = seen(memory={"MemTotal": 4 * GIB, "MemAvailable": 4 * 128 * doctor.MIB}) | {"status": {}}
    assert doctor.findings(FOUND, facts, WANTED) == []
    (finding,) = doctor.findings(FOUND, facts, WANTED | {"gunicorn_fastapi_workers": "3"})
    assert "512 MiB are available, and two generations of 3 workers may take 768 MiB" in finding.text


def test_advisories_of_the_operator_come_first() -> None:
    affected = {"package": {"ecosystem": "PyPI", "name": "starlette"}, "versions": ["1.3.0"]}
    known = {"id": "OURS-1", "affected": [affected]}
    assert "(OURS-1)" in one(packages=[{"name": "starlette", "version": "1.3.0"}], advisories=[known]).text


def test_a_version_that_is_none_hides_nothing_else() -> None:
    assert one(packages=[{"name": "starlette", "version": "odd"}], umask=0).subject == "umask"


def test_what_stops_comes_first_and_each_finding_is_one_safe_line() -> None:
    told = doctor.findings(FOUND | {"noexec": "/opt"}, seen(umask=0, failed=["shop\x1b[2J\n.service"]), WANTED)
    assert [finding.stops for finding in told] == [True, False, False]
    assert all(finding.text.isprintable() for finding in told)


@pytest.mark.parametrize(
    ("error", "is_connection", "subject", "text"),
    [
        (
            "Failed to connect\nto the host via ssh: timed out",
            True,
            "reach",
            "it cannot be reached: Failed to connect to",
        ),
        ("Missing sudo password", False, "sudo", "Missing sudo password. Let its user use sudo"),
        ("/bin/sh: 1: /usr/bin/python3: not found", False, "Python", "Install it: apt install python3"),
        ("", False, "reach", "no reason was given"),
    ],
)
def test_a_host_that_cannot_be_examined(error: str, is_connection: bool, subject: str, text: str) -> None:
    finding = doctor.unreached(error, is_connection=is_connection)
    assert (finding.subject, finding.stops) == (subject, True)
    assert text in finding.text
