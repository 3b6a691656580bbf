"""Addresses as operators give them: those that no host can have, and who has one already."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gunicorn_fastapi_addresses as addresses
import pytest

SOCKETS = """\
/run/systemd/private       Stream     init.scope                init.service
0.0.0.0:80                 Stream     shop.socket               shop.service
[::]:80                    Stream     shop-address-0a1b.socket  shop.service
127.0.0.1:631              Stream     cups.socket               cups.service
/run/shop.sock             Stream     shop.socket               shop.service
/run/shop_admin.sock       Stream     shop_admin.socket         shop_admin.service
"""


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of 127.0.0.1 on which this process listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def sockets(*_: str) -> str:
    return SOCKETS


@pytest.mark.parametrize(
    ("host", "listening", "does"),
    [
        ("127.0.0.1", "0100007F", True),
        ("127.0.0.1", "00000000", True),
        ("0.0.0.0", "0100007F", True),
        ("127.0.0.1", "0200007F", False),
        ("::1", "00000000000000000000000001000000", True),
        ("::1", "0100007F", False),
        ("::", "0100007F", True),
        ("192.0.2.7", "00000000000000000000000000000000", True),
    ],
)
def test_conflicts(host: str, listening: str, does: bool) -> None:
    assert addresses.conflicts(host, listening) is does


def test_the_kernel_tells_who_listens(taken: int) -> None:
    found = dict(addresses.listeners(taken))
    assert addresses.processes_with(found["0100007F"]) == [os.getpid()]


def test_an_address_that_somebody_has_is_named_with_the_process(taken: int) -> None:
    name = Path("/proc/self/comm").read_text().strip()
    held = {"address": f"127.0.0.1:{taken}", "by": f"is held by {name} (process {os.getpid()})"}
    assert addresses.holders([f"127.0.0.1:{taken}", f"127.0.0.2:{taken}"], "shop", sockets) == [held]
    assert addresses.holders([f"0.0.0.0:{taken}"], "shop", sockets)[0]["by"] == held["by"]


def test_what_the_application_itself_has_is_no_obstacle(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "is_ours", lambda pid, name, _: (pid, name) == (os.getpid(), "shop"))
    assert addresses.holders([f"0.0.0.0:{taken}", f"127.0.0.1:{taken}"], "shop", sockets) == []


def test_what_a_named_group_has_is_none_either(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("0::/system.slice/caddy.service\n", "9:name=systemd:/\n8:pids:/\n0::/system.slice/caddy.service\n"):
        monkeypatch.setattr(
            addresses, "read", lambda path, text=text: text if "cgroup" in str(path) else path.read_text()
        )
        caddy = "/system.slice/caddy.service"
        assert addresses.holders([f"127.0.0.1:{taken}"], "shop", sockets, caddy) == []
        assert len(addresses.holders([f"127.0.0.1:{taken}"], "shop", sockets)) == 1
        assert len(addresses.holders([f"127.0.0.1:{taken}"], "shop", sockets, "/system.slice/caddy")) == 1
        assert addresses.is_ours(1, "system")


def test_systemds_own_sockets_are_told_by_their_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "why_not", lambda *_: OSError(errno.EADDRINUSE, "Address already in use"))
    monkeypatch.setattr(addresses, "listeners", lambda _: [("00000000", 1)])
    monkeypatch.setattr(addresses, "processes_with", lambda _: [1])
    assert addresses.holders(["0.0.0.0:80", "[::]:80"], "shop", sockets) == []
    other = addresses.holders(["0.0.0.0:80"], "shop_admin", sockets)
    assert other == [{"address": "0.0.0.0:80", "by": "is held by systemd for shop.socket (process 1)"}]


def test_an_address_that_comes_late_is_no_obstacle() -> None:
    assert addresses.why_not("192.0.2.77:8080", ["192.0.2.77:8080"]) is None


def test_both_families_of_one_port_are_free_beside_each_other() -> None:
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        port = probe.getsockname()[1]
    pair = [f"0.0.0.0:{port}", f"[::]:{port}"]
    with socket.create_server(("0.0.0.0", port)):
        assert addresses.why_not(pair[1], pair) is None
        alone = addresses.why_not(pair[1], pair[1:])
        assert alone is not None
        assert alone.errno == errno.EADDRINUSE


def test_a_unix_socket_that_is_answered_is_somebodys(tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        assert addresses.holders([path], "shop", sockets) == []  # a left-over that nobody answers
        server.listen()
        assert addresses.holders([path], "shop", sockets) == [{"address": path, "by": "is answered by somebody else"}]
    assert addresses.holders(["/run/shop.sock"], "shop", sockets) == []


@pytest.mark.parametrize(
    ("unit", "ours"),
    [
        ("shop.socket", True),
        ("shop-address-0a1b.socket", True),
        ("shop-probe.socket", True),
        ("shop_admin.socket", False),
        ("shop-worker.socket", False),
        ("workshop.socket", False),
    ],
)
def test_units_of_the_application(unit: str, ours: bool) -> None:
    assert addresses.unit_is_ours(unit, "shop") is ours


def test_a_process_is_ours_by_its_slice_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for cgroup, ours in [
        ("0::/shop.slice/shop.service\n", True),
        ("0::/shop_admin.slice/shop_admin.service\n", False),
        ("0::/system.slice/x.service/shop.slice/shop.service\n", False),
    ]:
        monkeypatch.setattr(addresses, "read", lambda _, text=cgroup: text)
        assert addresses.is_ours(1, "shop") is ours


def test_a_file_with_the_name_of_a_socket_is_none(taken: int, tmp_path: Path) -> None:
    inode = next(inode for _, inode in addresses.listeners(taken))
    (tmp_path / f"socket:[{inode}]").touch()
    code = "import sys; file = open(sys.argv[1]); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path / f"socket:[{inode}]")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as liar:
        assert liar.stdout is not None
        liar.stdout.readline()
        assert addresses.processes_with(inode) == [os.getpid()]
        liar.communicate()
