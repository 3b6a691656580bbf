"""What an uninstallation looks at, removes and leaves."""

import argparse
import grp
import os
import pwd
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from appctl import answering, bounded, lock, systemd, talk, uninstall
from appctl.addresses import Address
from appctl.app import App
from appctl.ours import GECOS, Ours
from appctl.process import CtlError


class Host:
    """A host with an installed application, in a temporary directory."""

    def __init__(self, base: Path) -> None:
        self.app = App("shop", base)
        self.ours = Ours("shop", base, owner=os.geteuid())
        self.users = {"shop": 990}
        self.asked: list[str] = []
        self.up: set[str] = set()
        self.ours.claim()
        for path in (
            "opt/shop/releases/abcd/app/main.py",
            "opt/shop/credentials/abcd/password",
            "opt/shop/history.jsonl",
            "etc/systemd/system/shop.service",
            "etc/systemd/system/shop.slice",
            "etc/systemd/system/shop-probe.socket",
            "etc/systemd/system/shop-address-0123456789ab.socket",
            "run/systemd/system/shop-preflight.service",
            "run/systemd/system/shop-candidate.service",
            "usr/local/sbin/shopctl",
            "usr/local/lib/gunicorn_fastapi/ctl-1/appctl/cli.py",
            "var/cache/gunicorn_fastapi/builds/shop/x",
            "var/lib/shop/notes.db",
            "run/shop/private/lock",
        ):
            self.put(path)
        self.put("etc/systemd/system/shop.socket", "[Socket]\nListenStream=127.0.0.1:8001\n")
        self.ours.add("/etc/systemd/system/shop-address-0123456789ab.socket")
        (base / "run/systemd/system/shop-candidate.service.d").symlink_to("/etc/systemd/system/shop.service.d")
        wants = base / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir()
        (wants / "shop.service").symlink_to("/etc/systemd/system/shop.service")

    def put(self, path: str, text: str = "") -> Path:
        file = self.app.base / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def there(self) -> set[str]:
        """All files and links that are left, but for those of the host itself."""
        files = (path for path in self.app.base.rglob("*") if path.is_symlink() or not path.is_dir())
        return {str(path.relative_to(self.app.base)) for path in files}

    def uninstall(self, state: bool = False) -> list[str]:
        talk.said.clear()
        uninstall.command_uninstall(self.app, argparse.Namespace(remove_state=state, lock_wait=1.0))
        return list(talk.said)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(tmp_path)

    def run(*command: str, **_: Any) -> str:
        host.asked.append(" ".join(command))
        if command[0] == "userdel":
            del host.users[command[1]]
        return ""

    @contextmanager
    def held(*_: object) -> Iterator[None]:
        yield

    monkeypatch.setattr(uninstall, "run", run)
    monkeypatch.setattr(bounded, "run", run)
    monkeypatch.setattr(systemd, "show", lambda _, *names: dict.fromkeys(names, "20s"))
    monkeypatch.setattr(lock, "lock", held)
    monkeypatch.setattr(systemd, "active", lambda unit: unit in host.up)
    monkeypatch.setattr(uninstall, "Ours", lambda *_: host.ours)
    monkeypatch.setattr(pwd, "getpwnam", lambda name: passwd(name, host.users[name]))
    monkeypatch.setattr(grp, "getgrnam", lambda name: grp.struct_group((name, "x", host.users[name], [])))
    return host


def passwd(name: str, uid: int) -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, uid, GECOS, "/nonexistent", "/usr/sbin/nologin"))


SHARED = {"usr/local/lib/gunicorn_fastapi/ctl-1/appctl/cli.py"}
RECORD = {"var/lib/gunicorn_fastapi/applications/shop.json"}
STATE = {"var/lib/shop/notes.db"}


def test_all_goes_but_what_it_has_written(host: Host) -> None:
    said = host.uninstall()
    assert host.there() == SHARED | RECORD | STATE
    assert host.ours.made() == ["/var/lib/shop"]
    assert stat.S_IMODE((host.app.base / "var/lib/shop").stat().st_mode) == 0o700
    assert any(line.startswith("kept: /var/lib/shop, data of the application") for line in said)
    assert any("no application on record uses them" in line for line in said)
    assert "userdel shop" in host.asked


def test_with_its_state_nothing_of_it_stays(host: Host) -> None:
    said = host.uninstall(state=True)
    assert host.there() == SHARED
    assert not any("what it has written" in line for line in said)


def test_timers_go_with_their_jobs_and_what_systemd_has_noted_of_them(host: Host) -> None:
    night = [f"etc/systemd/system/shop-night{end}" for end in (".timer", "-0a1b.service", "-0a1b.service.d")]
    host.put(night[0], "Unit=shop-night-0a1b.service\n")
    host.put(night[1])
    (host.app.base / night[2]).symlink_to(host.app.extensions)
    host.put("etc/systemd/system/timers.target.wants/shop-night.timer")
    host.put("var/lib/systemd/timers/stamp-shop-night.timer")
    host.put("opt/shop/timers/night.json")
    host.ours.add(*(f"/{path}" for path in night))
    foreign = {"etc/systemd/system/shop-backup.timer", "var/lib/systemd/timers/stamp-shop-backup.timer"}
    for path in foreign:
        host.put(path)
    host.uninstall()
    assert host.there() == SHARED | RECORD | STATE | foreign
    assert host.ours.made() == ["/var/lib/shop"]
    assert any(
        " shop-night.timer" in line and " shop-night-0a1b.service" in line for line in host.asked if "stop" in line
    )


def test_one_step_stops_all_units_by_their_names(host: Host) -> None:
    host.put("etc/systemd/system/shop_admin.service")
    host.put("etc/systemd/system/shop-worker.service")
    host.uninstall()
    assert host.asked[0] == (
        "systemctl stop shop-address-0123456789ab.socket shop-candidate.service shop-preflight.service "
        "shop-probe.socket shop.service shop.slice shop.socket"
    )
    assert {"etc/systemd/system/shop_admin.service", "etc/systemd/system/shop-worker.service"} <= host.there()


def test_nothing_is_removed_while_a_unit_does_not_stop(host: Host) -> None:
    before = host.there()
    host.up = {"shop.service"}
    with pytest.raises(CtlError, match=r"shop\.service did not stop, and nothing was removed"):
        host.uninstall()
    assert host.there() == before


def test_drop_ins_of_the_operator_stay_and_are_named(host: Host) -> None:
    host.put("etc/systemd/system/shop.service.d/memory.conf")
    said = host.uninstall(state=True)
    assert host.there() == SHARED | RECORD | {"etc/systemd/system/shop.service.d/memory.conf"}
    assert "kept: /etc/systemd/system/shop.service.d, created by an operator" in said
    assert host.ours.refusal() == ""  # an installation may take the name again


def test_a_process_of_the_user_elsewhere_is_named_before_anything_changes(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = host.there()
    host.users["shop"] = os.getuid() + 77
    mine = {"Uid": f"Uid:\t0\t{host.users['shop']}\t0\t0\n"}
    groups = {str(os.getpid()): "/user.slice/session-3.scope"}
    monkeypatch.setattr(systemd, "control_group", lambda pid: groups.get(str(pid), ""))
    monkeypatch.setattr(answering, "control_group", lambda pid: groups.get(str(pid), ""))
    real = uninstall.users_of
    own = Path(f"/proc/{os.getpid()}")
    monkeypatch.setattr(uninstall, "users_of", lambda p: {host.users["shop"]} if p == own and mine else real(p))
    with pytest.raises(
        CtlError, match=rf"process {os.getpid()} of session-3\.scope still runs as the application's user, .* Stop it"
    ):
        host.uninstall()
    assert (host.there(), host.asked) == (before, [])


@pytest.mark.parametrize(
    ("group", "stranger"),
    [
        ("/shop.slice/shop.service", False),
        ("/shop.slice/shop-candidate.service", False),
        ("/shop.slice/shop-worker.service", True),
        ("/shop_admin.slice/shop_admin.service", False),
    ],
)
def test_what_runs_within_its_limits_is_its_own_unit_or_named(
    host: Host, monkeypatch: pytest.MonkeyPatch, group: str, stranger: bool
) -> None:
    monkeypatch.setattr(systemd, "control_group", lambda pid: group if str(pid) == str(os.getpid()) else "")
    units = ["shop.service", "shop-candidate.service"]
    assert bool(uninstall.strangers(host.app, units)) is stranger


def test_a_process_has_the_users_that_the_kernel_says() -> None:
    assert uninstall.users_of(Path("/proc/self")) == {os.getuid()}
    assert uninstall.users_of(Path("/proc/0")) == set()


def test_what_the_role_did_not_make_is_refused(host: Host) -> None:
    host.put("usr/lib/systemd/system/shop.service")
    before = host.there()
    with pytest.raises(
        CtlError, match=r"nothing was removed\. This role does not manage unit /usr/lib/systemd/system/shop\.service"
    ):
        host.uninstall()
    assert host.there() == before


@pytest.mark.parametrize("remove_state", [True, False])
def test_no_link_of_the_application_is_followed(host: Host, remove_state: bool) -> None:
    victim = host.put("home/admin/keys")
    neighbour = host.put("var/lib/other/db")
    state = host.app.base / "var/lib/shop"
    (state / "h").symlink_to(victim.parent)
    (state / "f").symlink_to(victim)
    (state / "deep").mkdir()
    (state / "deep/o").symlink_to(neighbour.parent)
    before = [(path, path.stat()) for path in (victim, victim.parent, neighbour, neighbour.parent)]
    inside = (state / "notes.db").stat()
    host.uninstall(remove_state)
    assert [(path, path.stat()) for path, _ in before] == before
    if not remove_state:
        assert (state / "notes.db").stat() == inside


def test_releases_on_another_disk_go_with_their_secrets(host: Host) -> None:
    target = host.app.base / "mnt/shop"
    target.parent.mkdir()
    host.app.root.rename(target)
    host.app.root.symlink_to(target)
    other = host.put("mnt/shop/photos/1.jpg")
    said = host.uninstall()
    assert not host.app.root.is_symlink()
    assert [path for path in target.rglob("*") if path.is_file()] == [other]
    assert any(line.startswith(f"{target}, to which {host.app.root} was a link, is kept") for line in said)


def test_a_target_with_nothing_else_goes_too(host: Host) -> None:
    target = host.app.base / "mnt/shop"
    target.parent.mkdir()
    host.app.root.rename(target)
    host.app.root.symlink_to(target)
    host.uninstall()
    assert not target.exists()


@pytest.mark.parametrize("step", ["empty", "whole", "close", "remove_user", "tree.remove"])
def test_a_second_run_finishes_what_a_first_began(host: Host, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    with monkeypatch.context() as broken:

        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        broken.setattr(f"appctl.{step}" if "." in step else f"appctl.uninstall.{step}", fail)
        with pytest.raises((CtlError, OSError), match="No space left"):
            host.uninstall()
    assert host.ours.marked()
    host.uninstall()
    assert host.there() == SHARED | RECORD | STATE
    assert host.users == {}


def test_other_applications_keep_what_they_share(host: Host) -> None:
    Ours("blog", host.app.base, owner=os.geteuid()).claim()
    assert any("blog may use them" in line for line in host.uninstall())


# --- Sockets that outlive their unit -------------------------------------------------------------------


ACCOMPLICE = """
import socket, sys
with socket.socket(fileno=0) as passed:
    print("ready", flush=True)
    sys.stdin = None
    passed.accept()
"""


def test_each_address_that_a_process_has_is_named_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two, one.dup():
        wanted = [Address(f"127.0.0.1:{server.getsockname()[1]}") for server in (one, two)]
        told = answering.holders(answering.listeners(wanted))
    assert sorted(line.split()[0] for line in told) == sorted(address.text for address in wanted)
    assert all(f"process {os.getpid()}" in line for line in told)


def test_a_process_that_was_passed_the_address_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = answering.listeners([Address(f"127.0.0.1:{port}"), Address("/run/shop.sock")])
        with subprocess.Popen(
            [sys.executable, "-c", ACCOMPLICE], stdin=server.fileno(), stdout=subprocess.PIPE, text=True
        ) as accomplice:
            assert accomplice.stdout is not None
            accomplice.stdout.readline()
            server.close()
            told = answering.holders(found)
            accomplice.kill()
    assert len(told) == 1
    assert told[0].startswith(f"127.0.0.1:{port} is still answered by process {accomplice.pid}")
    assert answering.holders(found) == []


@pytest.mark.parametrize(
    ("host_", "written"),
    [
        ("127.0.0.1", "0100007F"),
        ("0.0.0.0", "00000000"),
        ("::1", "00000000000000000000000001000000"),
        ("192.0.2.77", "4D0200C0"),
    ],
)
def test_addresses_as_the_kernel_writes_them(host_: str, written: str) -> None:
    assert answering.as_kernel(host_) == written


@pytest.mark.parametrize("place", ["opt/shop", "opt", "etc/systemd/system", "var/lib/shop"])
def test_a_disk_that_cannot_be_written_is_seen_before_anything_stops(
    host: Host, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    statvfs = os.statvfs
    flags = {host.app.base / place: SimpleNamespace(f_flag=os.ST_RDONLY)}
    monkeypatch.setattr(os, "statvfs", lambda path: flags.get(path) or statvfs(path))
    before = host.there()
    with pytest.raises(CtlError, match=rf"nothing was removed\. \S+/{place}: Read-only file system\. Have it mounted"):
        host.uninstall()
    assert (host.there(), host.asked) == (before, [])
