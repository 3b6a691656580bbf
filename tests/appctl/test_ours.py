"""Whose a name is: free, provably the application's, or somebody else's."""

import grp
import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from appctl import ours
from appctl.ours import GECOS, Ours


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> dict[str, pwd.struct_passwd]:
    """The users of the host by their names: none. Each has a group of its own."""
    users: dict[str, pwd.struct_passwd] = {}
    monkeypatch.setattr(pwd, "getpwnam", lambda name: users[name])
    monkeypatch.setattr(grp, "getgrnam", lambda name: grp.struct_group((name, "x", users[name].pw_gid, [])))
    monkeypatch.setattr(grp, "getgrall", list)  # a directory service lists nothing
    return users


def passwd(name: str, gecos: str = GECOS, uid: int = 990, home: str = "/nonexistent") -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, uid, gecos, home, "/usr/sbin/nologin"))


@pytest.fixture
def shop(tmp_path: Path) -> Ours:
    return Ours("shop", tmp_path, owner=os.geteuid())


def put(ours: Ours, path: str, text: str = "") -> None:
    file = ours.base / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_a_name_that_nothing_has_is_free(shop: Ours) -> None:
    assert shop.refusal() == ""


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("opt/shop/data", "directory /opt/shop"),
        ("var/lib/shop/data", "directory /var/lib/shop"),
        ("run/shop/pid", "directory /run/shop"),
        ("var/cache/shop/data", "directory /var/cache/shop"),
        ("etc/systemd/system/shop.service", "unit /etc/systemd/system/shop.service"),
        ("usr/lib/systemd/system/shop.socket", "unit /usr/lib/systemd/system/shop.socket"),
        ("usr/local/lib/systemd/system/shop.timer", "unit /usr/local/lib/systemd/system/shop.timer"),
        ("run/systemd/generator.late/shop.service", "unit /run/systemd/generator.late/shop.service"),
        ("run/systemd/system/shop-candidate.service", "unit /run/systemd/system/shop-candidate.service"),
        ("etc/systemd/system/shop-probe.socket", "unit /etc/systemd/system/shop-probe.socket"),
        ("etc/systemd/system/shop-handover.service", "unit /etc/systemd/system/shop-handover.service"),
        ("etc/systemd/system/shop.slice", "unit /etc/systemd/system/shop.slice"),
        ("etc/systemd/system/shop.service.d/x.conf", "drop-ins /etc/systemd/system/shop.service.d"),
        ("etc/systemd/system/shop-.service.d/x.conf", "drop-ins /etc/systemd/system/shop-.service.d"),
        ("etc/init.d/shop", "unit /etc/init.d/shop"),
        ("usr/local/sbin/shopctl", "command /usr/local/sbin/shopctl"),
        ("usr/bin/shopctl", "command /usr/bin/shopctl"),
    ],
)
def test_what_has_the_name_already_is_named(shop: Ours, path: str, told: str) -> None:
    put(shop, path, "# gunicorn_fastapi: a word that anybody can write\n")
    assert told in shop.refusal()
    with pytest.raises(ValueError, match="is taken on this host"):
        shop.claim()


def test_units_of_timers_are_ours_by_the_record_alone(shop: Ours) -> None:
    for name in ("shop-night.timer", "shop-night-0a1b.service", "shop-backup.timer", "shop-backup-1.service"):
        put(shop, f"etc/systemd/system/{name}")
    assert list(shop.units()) == []
    assert shop.refusal() == ""
    assert shop.taken(["backup"]) == [f"/etc/systemd/system/shop-backup{end}" for end in ("-1.service", ".timer")]
    assert shop.taken(["night", "day"]) == [
        f"/etc/systemd/system/shop-night{end}" for end in ("-0a1b.service", ".timer")
    ]
    shop.add(*(f"/etc/systemd/system/shop-night{end}" for end in ("-0a1b.service", ".timer")))
    assert list(shop.units()) == [f"/etc/systemd/system/shop-night{end}" for end in ("-0a1b.service", ".timer")]
    assert shop.taken(["night"]) == shop.taken([]) == []
    put(shop, "usr/lib/systemd/system/shop_admin-night.timer")
    assert shop.taken(["night"]) == []


def test_units_of_a_longer_name_are_others(shop: Ours) -> None:
    put(shop, "etc/systemd/system/shop_admin.service")
    put(shop, "etc/systemd/system/shop-worker.service")
    put(shop, "etc/systemd/system/workshop.service")
    assert shop.refusal() == ""


def test_a_user_and_its_group_count(shop: Ours, nobody: dict[str, pwd.struct_passwd]) -> None:
    nobody["shop"] = passwd("shop", "Shop owner", 1000, "/home/shop")
    assert "user shop" in shop.refusal()
    assert "group shop" in shop.refusal()


@pytest.mark.parametrize("name", ["dpkg", "systemd", "apt", "postgresql", "postgres", "user", "gunicorn_fastapi"])
def test_names_of_the_system_are_refused_even_where_they_are_free(tmp_path: Path, name: str) -> None:
    assert "Choose another name for the application" in Ours(name, tmp_path).refusal()


def test_such_a_name_that_is_ours_already_stays_so(tmp_path: Path, nobody: dict[str, pwd.struct_passwd]) -> None:
    nobody["grafana"] = passwd("grafana")
    grafana = Ours("grafana", tmp_path, owner=os.geteuid())
    put(grafana, "opt/grafana/releases/x/manifest.json")
    assert grafana.refusal() == ""


def test_what_was_claimed_is_ours(shop: Ours, nobody: dict[str, pwd.struct_passwd]) -> None:
    assert shop.claim()
    nobody["shop"] = passwd("shop")
    for path in (
        "opt/shop/releases/x",
        "var/lib/shop/db",
        "usr/local/sbin/shopctl",
        "etc/systemd/system/shop.service",
        "run/systemd/system/shop-candidate.service",
        "run/systemd/transient/shop-handover.service",
        "etc/systemd/system/shop.service.d/memory.conf",
        "etc/systemd/system.control/shop.service.d/50-MemoryMax.conf",
    ):
        put(shop, path)
    assert shop.refusal() == ""
    assert not shop.claim()


def test_what_came_beside_a_claimed_name_is_foreign(shop: Ours) -> None:
    shop.claim()
    put(shop, "usr/bin/shopctl")
    put(shop, "usr/lib/systemd/system/shop.service")
    assert shop.foreign() == ["unit /usr/lib/systemd/system/shop.service", "command /usr/bin/shopctl"]


def test_a_claimed_user_that_is_another_one_now_is_foreign(shop: Ours, nobody: dict[str, pwd.struct_passwd]) -> None:
    shop.claim()
    nobody["shop"] = passwd("shop", "Shop owner")
    assert "described as 'Shop owner'" in shop.refusal()


def test_after_an_uninstallation_only_what_was_kept_is_ours(shop: Ours) -> None:
    shop.write(["/var/lib/shop", "/etc/systemd/system/shop.service.d"])
    put(shop, "var/lib/shop/db")
    put(shop, "etc/systemd/system/shop.service.d/memory.conf")
    assert shop.refusal() == ""
    put(shop, "opt/shop/tool")
    assert shop.foreign() == ["directory /opt/shop"]


def test_state_without_a_record_is_refused_with_the_way_to_take_it(shop: Ours) -> None:
    put(shop, "var/lib/shop/db")
    refusal = shop.refusal()
    record = refusal[refusal.index("'") + 1 : refusal.rindex("'")]
    put(shop, str(shop.record.relative_to(shop.base)), record)
    shop.record.parent.chmod(0o755)
    shop.record.chmod(0o644)
    assert shop.refusal() == ""


@pytest.mark.parametrize("spoil", ["mode", "directory", "link", "text", "shape"])
def test_a_record_that_is_not_roots_own_proves_nothing(shop: Ours, spoil: str) -> None:
    put(shop, "opt/shop/releases/x")
    shop.write(shop.standard())
    assert shop.refusal() == ""
    if spoil == "mode":
        shop.record.chmod(0o666)
    elif spoil == "directory":
        shop.record.parent.chmod(0o777)
    elif spoil == "link":
        elsewhere = shop.base / "elsewhere.json"
        shop.record.rename(elsewhere)
        shop.record.symlink_to(elsewhere)
    else:
        shop.record.write_text({"text": "{", "shape": json.dumps({"made": {"opt": 1}})}[spoil])
    assert "directory /opt/shop" in shop.refusal()


def test_a_record_of_another_user_proves_nothing(tmp_path: Path) -> None:
    shop = Ours("shop", tmp_path, owner=os.geteuid() + 1)
    put(shop, "opt/shop/releases/x")
    shop.write(shop.standard())
    assert "directory /opt/shop" in shop.refusal()


def test_an_installation_of_a_version_without_records_is_recognised(
    shop: Ours, nobody: dict[str, pwd.struct_passwd]
) -> None:
    nobody["shop"] = passwd("shop")
    put(shop, "opt/shop/releases/x/manifest.json")
    put(shop, "etc/systemd/system/shop.service")
    put(shop, "etc/systemd/system/shop.service.d/memory.conf")
    put(shop, "usr/local/sbin/shopctl")
    put(shop, "var/lib/shop/db")
    assert shop.refusal() == ""
    assert not shop.marked()
    assert shop.claim()
    assert shop.marked()


@pytest.mark.parametrize(
    "user",
    [
        passwd("shop", f"not an {GECOS}"),
        passwd("shop", uid=1000),
        passwd("shop", home="/home/shop"),
    ],
)
def test_a_user_who_merely_says_so_proves_nothing(
    shop: Ours, nobody: dict[str, pwd.struct_passwd], user: pwd.struct_passwd
) -> None:
    nobody["shop"] = user
    put(shop, "opt/shop/releases/x")
    assert "user shop" in shop.refusal()


def test_it_runs_alone_from_standard_input() -> None:
    program = Path(ours.__file__).read_text()
    command = [sys.executable, "-I", "-S", "-", "check", "dpkg"]
    done = subprocess.run(command, input=program, capture_output=True, text=True, check=True)
    assert "dpkg is a name of the system" in json.loads(done.stdout)["refusal"]


@pytest.mark.parametrize("name", ["smart", "apache", "kube", "resolve", "supervisor"])
def test_a_name_whose_command_a_package_brings_is_refused(tmp_path: Path, name: str) -> None:
    assert "is a name of the system or of a well-known package" in Ours(name, tmp_path, owner=os.geteuid()).refusal()


def test_a_group_that_no_list_has_is_there(
    shop: Ours, nobody: dict[str, pwd.struct_passwd], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grp, "getgrnam", lambda name: grp.struct_group((name, "x", 10_000, [])))
    assert not nobody
    assert "group shop" in shop.refusal()


def test_a_full_disk_is_named_and_leaves_the_record_as_it_was(shop: Ours, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.write(["/opt/shop"])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"No space left on device: '{shop.record}'"):
        shop.write(["/opt/shop", "/var/lib/shop"])
    assert shop.made() == ["/opt/shop"]
    assert [path.name for path in shop.record.parent.iterdir()] == ["shop.json"]
