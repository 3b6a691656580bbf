"""Where the public addresses are, and what a change of them opens, closes and leaves alone."""

import grp
import json
import os
import pwd
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from appctl import addresses, opening, systemd
from appctl.addresses import Address, Layout, meaning, parse, plan
from appctl.app import App
from appctl.opening import Change
from appctl.ours import Ours
from appctl.process import CtlError

ANY, ANY6, BOTH = Address("0.0.0.0:80"), Address("[::]:80", alone=True), Address("[::]:80")
A, B, C = Address("127.0.0.1:8001"), Address("127.0.0.1:8002"), Address("192.0.2.77:8080")
FORMER = """\
#
# Ansible managed
#
[Unit]
Description=shop: public address

[Socket]
ListenStream=127.0.0.1:8001
ListenStream=127.0.0.1:8002
Backlog=4096
TriggerLimitIntervalSec=0

[Install]
WantedBy=sockets.target
"""


@pytest.fixture
def app(tmp_path: Path) -> App:
    app = App("shop", tmp_path)
    app.system.mkdir(parents=True)
    app.runtime.mkdir(parents=True)
    return app


@pytest.fixture(autouse=True)
def commands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What systemd was asked for. All units are active."""
    asked: list[str] = []

    def run(*command: str, **_: Any) -> str:
        asked.append(" ".join(command))
        return ""

    monkeypatch.setattr(opening, "run", run)
    monkeypatch.setattr(systemd, "active", lambda _: True)
    return asked


def wanted(*bind: str, **options: Any) -> dict[str, Any]:
    return {"bind": list(bind), "backlog": 4096, "mode": "0666", "user": "root", "group": "root", **options}


def files(app: App) -> dict[str, str]:
    return {path.name: path.read_text() for path in app.system.iterdir()}


def written(app: App, *bind: str, **options: Any) -> dict[str, str]:
    Change(app, wanted(*bind, **options)).write()
    opening.noted(app).unlink(missing_ok=True)
    return files(app)


# --- Where an address goes ---------------------------------------------------------------------------


def own(address: Address) -> str:
    """The unit that an address gets when NAME.socket has another one."""
    return next(
        unit for unit in plan({"shop.socket": []}, [Address("127.0.0.1:1"), address], "shop") if unit != "shop.socket"
    )


@pytest.mark.parametrize(
    ("now", "to", "after"),
    [
        ({}, [A], {"shop.socket": [A]}),
        ({}, [A, B], {"shop.socket": [A], own(B): [B]}),
        ({"shop.socket": [A]}, [A, B], {"shop.socket": [A], own(B): [B]}),
        ({"shop.socket": [A]}, [B, A], {"shop.socket": [A], own(B): [B]}),
        ({"shop.socket": [A]}, [B], {"shop.socket": [B]}),
        ({"shop.socket": [A], own(B): [B]}, [A], {"shop.socket": [A]}),
        # What stays is not moved, so NAME.socket has nothing, until something comes.
        ({"shop.socket": [A], own(B): [B]}, [B], {"shop.socket": [], own(B): [B]}),
        ({"shop.socket": [], own(B): [B]}, [B, C], {"shop.socket": [C], own(B): [B]}),
        ({"shop.socket": [A], own(B): [B]}, [B, C], {"shop.socket": [C], own(B): [B]}),
        # A version of the role that had them all in one unit.
        ({"shop.socket": [A, B]}, [A, B], {"shop.socket": [A, B]}),
        ({"shop.socket": [A, B]}, [B, A, C], {"shop.socket": [A, B], own(C): [C]}),
        ({"shop.socket": [A, B]}, [B], {"shop.socket": [B]}),
        # Both families.
        ({"shop.socket": [ANY]}, [ANY, ANY6], {"shop.socket": [ANY], own(ANY6): [ANY6]}),
        ({"shop.socket": [BOTH]}, [ANY, ANY6], {"shop.socket": [BOTH]}),
        ({"shop.socket": [ANY], own(ANY6): [ANY6]}, [BOTH], {"shop.socket": [ANY], own(ANY6): [ANY6]}),
        ({"shop.socket": [ANY]}, [BOTH], {"shop.socket": [ANY], own(ANY6): [ANY6]}),
        ({"shop.socket": [BOTH]}, [BOTH, A], {"shop.socket": [BOTH], own(A): [A]}),
    ],
)
def test_what_is_open_stays_where_it_is(now: Layout, to: list[Address], after: Layout) -> None:
    assert plan(now, to, "shop") == after


@pytest.mark.parametrize("bind", [["0.0.0.0:80", "[::]:80"], ["[::]:80", "0.0.0.0:80"]])
def test_both_families_go_together_in_every_order(bind: list[str]) -> None:
    assert set(parse(bind)) == {ANY, ANY6}


def test_one_address_is_one_however_it_is_written() -> None:
    assert parse(["[0:0:0:0:0:0:0:1]:080"]) == parse(["[::1]:80"])
    assert parse(["[::]:80"]) == [BOTH]
    assert parse(["[::]:80", "127.0.0.1:80"])[0] == ANY6
    assert parse(["[::]:80", "127.0.0.1:81"])[0] == BOTH


# --- The units ---------------------------------------------------------------------------------------


def test_units_of_several_addresses_hang_on_the_first(app: App) -> None:
    texts = written(app, "0.0.0.0:80", "[::]:80", "/run/shop.sock", mode="0660", group="root")
    head = meaning(texts.pop("shop.socket"))
    assert {"ListenStream=0.0.0.0:80", "FreeBind=yes", "WantedBy=sockets.target"} <= set(head)
    assert f"Wants={' '.join(sorted(texts))}" in head
    assert len(texts) == 2
    for text in texts.values():
        assert {"PartOf=shop.socket", "Service=shop.service", "TriggerLimitIntervalSec=0"} <= set(meaning(text))
        assert "[Install]" not in text
    six, unix = sorted(texts.values(), key=lambda text: "SocketMode" in text)
    assert "BindIPv6Only=ipv6-only" in six
    assert {"SocketMode=0660", "SocketUser=root", "RemoveOnStop=yes"} <= set(meaning(unix))
    assert "FreeBind" not in unix


def test_dual_stack_is_meant_whatever_the_host_prefers(app: App) -> None:
    assert "BindIPv6Only=both" in written(app, "[::]:80")["shop.socket"]


def test_units_are_known_by_their_names_alone(app: App) -> None:
    for name in ("shop_admin.socket", "shop-probe.socket", "shop-worker.socket", "workshop.socket"):
        (app.system / name).write_text("[Socket]\nListenStream=1\n")
    assert opening.units(app) == {}


def test_root_notes_each_unit_before_it_is_there(app: App) -> None:
    texts = written(app, "127.0.0.1:8001", "127.0.0.1:8002")
    made = Ours("shop", app.base, owner=os.geteuid()).made()
    assert made is not None
    assert {f"/etc/systemd/system/{unit}" for unit in texts} <= set(made)


# --- A change ----------------------------------------------------------------------------------------


def test_the_same_addresses_change_nothing(app: App, commands: list[str]) -> None:
    before = written(app, "127.0.0.1:8001", "[::]:80")
    commands.clear()
    change = Change(app, wanted("[::]:080", "127.0.0.1:8001"))
    assert not change.differs
    assert change.write() == []
    assert (files(app), commands) == (before, [])


def test_comments_are_no_difference(app: App) -> None:
    written(app, "127.0.0.1:8001")
    text = (app.system / "shop.socket").read_text()
    (app.system / "shop.socket").write_text("# managed by alice\n" + text)
    assert not Change(app, wanted("127.0.0.1:8001")).differs


def test_a_unit_of_a_former_version_is_rewritten_and_not_closed(app: App, commands: list[str]) -> None:
    (app.system / "shop.socket").write_text(FORMER)
    change = Change(app, wanted("127.0.0.1:8001", "127.0.0.1:8002"))
    assert change.differs
    assert not change.moves
    assert change.write() == []
    assert commands == ["systemctl daemon-reload"]
    assert not Change(app, wanted("127.0.0.1:8002", "127.0.0.1:8001")).differs


def test_another_backlog_closes_nothing(app: App, commands: list[str]) -> None:
    written(app, "127.0.0.1:8001", "127.0.0.1:8002")
    commands.clear()
    change = Change(app, wanted("127.0.0.1:8001", "127.0.0.1:8002", backlog=1024))
    assert (change.differs, change.moves, change.write()) == (True, False, [])
    assert commands == ["systemctl daemon-reload"]
    assert all("Backlog=1024" in text for text in files(app).values())


def test_a_new_address_restarts_its_own_unit_alone(app: App) -> None:
    first = set(written(app, "127.0.0.1:8001", "127.0.0.1:8002"))
    change = Change(app, wanted("127.0.0.1:8001", "127.0.0.1:8002", "192.0.2.77:8080"))
    new = set(change.after) - first
    assert change.beside
    assert change.kept == sorted(first - {"shop.socket"})
    assert change.write() == sorted(new)
    assert json.loads(opening.noted(app).read_text()) == {"opened": sorted(new), "closed": []}


def test_another_first_address_goes_without_a_second_instance(app: App) -> None:
    written(app, "127.0.0.1:8001")
    change = Change(app, wanted("127.0.0.1:8002"))
    assert not change.beside
    assert change.write() == ["shop.socket"]


def test_what_leaves_has_no_unit_any_more(app: App, commands: list[str]) -> None:
    other = set(written(app, "127.0.0.1:8001", "127.0.0.1:8002")) - {"shop.socket"}
    change = Change(app, wanted("127.0.0.1:8001"))
    assert change.write() == []
    assert set(files(app)) == {"shop.socket"}
    change.finish()
    assert f"systemctl stop {other.pop()}" in commands
    assert not opening.noted(app).exists()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["127.0.0.1:8001"], ["127.0.0.1:8001", "192.0.2.77:8080"]),
        (["127.0.0.1:8001", "[::]:80"], ["127.0.0.1:8001"]),
        (["127.0.0.1:8001"], ["127.0.0.1:8002"]),
        (["127.0.0.1:8001", "127.0.0.1:8002"], ["127.0.0.1:8002"]),
        (["0.0.0.0:80", "[::]:80"], ["[::]:81"]),
    ],
)
def test_the_way_back_has_what_was_open_before(app: App, before: list[str], after: list[str]) -> None:
    written(app, *before, backlog=77)
    change = Change(app, wanted(*after))
    change.write()
    change.undo()
    assert not Change(app, wanted(*before, backlog=77)).moves
    assert all("Backlog=77" in text for text in files(app).values())


def test_the_way_back_from_a_first_installation_leaves_nothing(app: App) -> None:
    change = Change(app, wanted("127.0.0.1:8001", "127.0.0.1:8002"))
    change.write()
    change.undo()
    assert files(app) == {}


def test_the_way_back_from_no_change_touches_nothing(app: App, commands: list[str]) -> None:
    (app.system / "shop.socket").write_text(FORMER)
    assert Change(app, None).undo() == []
    assert files(app) == {"shop.socket": FORMER}
    assert commands == []


def test_a_change_that_was_interrupted_knows_what_is_left_to_do(app: App) -> None:
    assert opening.interrupted(app) is None
    written(app, "127.0.0.1:8001")
    change = Change(app, wanted("127.0.0.1:8002"))
    change.write()
    assert opening.interrupted(app) == ["shop.socket"]
    opening.noted(app).write_text('{"opened": [')
    assert opening.interrupted(app) is None


def test_a_second_instance_gets_the_addresses_that_stay(app: App) -> None:
    written(app, "127.0.0.1:8001", "127.0.0.1:8002")
    kept = Change(app, None).kept
    assert len(kept) == 1
    assert f"Sockets={kept[0]}\n" in addresses.for_candidate(kept)
    assert addresses.for_candidate([]) == ""


# --- Tried before ------------------------------------------------------------------------------------


def test_an_address_that_is_taken_is_refused_before_anything_changes(app: App) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = f"127.0.0.1:{server.getsockname()[1]}"
        before = written(app, "127.0.0.1:1")
        with pytest.raises(CtlError, match=f"{taken} cannot be opened: Address already in use. See who has it: ss"):
            Change(app, wanted("127.0.0.1:1", taken)).check()
        assert files(app) == before


def test_what_we_have_already_is_not_tried(app: App) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        written(app, f"127.0.0.1:{port}")
        Change(app, wanted(f"127.0.0.1:{port}")).check()
        Change(app, wanted(f"0.0.0.0:{port}")).check()  # ours has to be closed for it


def test_an_address_that_comes_late_is_taken(app: App) -> None:
    Change(app, wanted("192.0.2.77:8080")).check()


def test_a_path_that_is_something_else_is_refused(app: App, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CtlError, match="something that is no socket is there"):
        Change(app, wanted(str(tmp_path / "file"))).check()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/etc/passwd/shop.sock", "Not a directory"),
        ("/etc/passwd/below/shop.sock", "Not a directory"),
        ("/proc/shop.sock", "/proc: "),
        ("/sys/kernel/shop/shop.sock", "/sys/kernel: "),
    ],
)
def test_a_path_where_no_socket_can_be_is_refused(app: App, path: str, why: str) -> None:
    with pytest.raises(
        CtlError, match=rf"gunicorn_fastapi_bind: {path} cannot be opened: .*{why}.* Choose another path"
    ):
        Change(app, wanted(path)).check()


def test_a_path_is_tried_and_left_as_it_was(app: App, tmp_path: Path) -> None:
    Change(app, wanted(f"{tmp_path}/a/b/shop.sock")).check()
    Change(app, wanted(f"{tmp_path}/shop.sock")).check()
    assert not [path for path in tmp_path.iterdir() if path.is_socket() or path.name == "a"]


def test_an_owner_that_is_not_there_is_refused(app: App) -> None:
    with pytest.raises(
        CtlError, match=r"gunicorn_fastapi_socket_user, .*: .*nobody_has_this.* Install the proxy first"
    ):
        Change(app, wanted("/run/shop.sock", user="nobody_has_this")).check()


def test_an_open_unix_socket_gets_its_new_mode(app: App, tmp_path: Path) -> None:
    path = tmp_path / "shop.sock"
    me, mine = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        written(app, str(path), user=me, group=mine)
        change = Change(app, wanted(str(path), mode="0640", user=me, group=mine))
        assert (change.moves, change.write()) == (False, [])
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_link_that_takes_the_place_of_a_socket_is_not_followed(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where others than root can write to the directory of the socket, they may change it at any moment."""
    path, other = tmp_path / "shop.sock", tmp_path / "shadow"
    other.touch(mode=0o600)
    me, mine = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name

    def swapped(look: Any) -> Any:
        def then_swap(*arguments: Any, **options: Any) -> Any:
            found = look(*arguments, **options)
            path.unlink(missing_ok=True)
            path.symlink_to(other)
            return found

        return then_swap

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        written(app, str(path), user=me, group=mine)
        change = Change(app, wanted(str(path), mode="0660", user=me, group=mine))
        with monkeypatch.context() as racing:
            racing.setattr(os, "lstat", swapped(os.lstat))
            racing.setattr(os, "fstat", swapped(os.fstat))
            change.adjust("shop.socket")
    assert stat.S_IMODE(other.stat().st_mode) == 0o600
