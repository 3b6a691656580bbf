"""What a look at a host finds there, and that it leaves everything as it was."""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import gunicorn_fastapi_facts as facts
import pytest

POLICY = """\
openssl:
  Installed: 3.5
  Candidate: 3.5
caddy:
  Installed: (none)
  Candidate: (none)
"""


def test_memory_and_controllers(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:       4096 kB\nMemFree: 1 kB\nMemAvailable:   1024 kB\n")
    assert facts.memory(tmp_path) == {"MemTotal": 4 * 2**20, "MemAvailable": 2**20}
    assert facts.controllers(tmp_path) is None
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").write_text("cpu memory\n")
    assert facts.controllers(tmp_path) == ["cpu", "memory"]


def test_the_mask_is_as_before() -> None:
    before = os.umask(0o027)
    try:
        assert facts.umask() == 0o027
        assert facts.umask() == 0o027
    finally:
        os.umask(before)


def test_packages_of_a_host_without_dpkg(tmp_path: Path) -> None:
    assert facts.apt(["caddy"], lambda *_: "", tmp_path)["there"] is False


def test_packages_that_apt_does_not_know(tmp_path: Path) -> None:
    (tmp_path / facts.DPKG / "updates").mkdir(parents=True)
    (tmp_path / facts.DPKG / "status").touch()
    names = ["openssl", "caddy", "nope"]
    asked: list[tuple[str, ...]] = []

    def run(*command: str) -> str:
        asked.append(command)
        return POLICY

    # No list was ever fetched.
    assert facts.apt(names, run, tmp_path) == {"there": True, "interrupted": False, "holder": "", "unknown": []}
    (tmp_path / "var/lib/apt/lists").mkdir(parents=True)
    (tmp_path / "var/lib/apt/lists/debian_Packages.lz4").touch()
    (tmp_path / facts.DPKG / "updates/0001").touch()
    found = facts.apt(names, run, tmp_path)
    assert (found["unknown"], found["interrupted"]) == (["caddy", "nope"], True)
    assert {"Dir::Cache::pkgcache=", "Dir::Cache::srcpkgcache="} <= set(asked[0])


def test_who_has_locked_a_file(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert facts.holder(lock) == ""
    lock.touch()
    assert facts.holder(lock) == ""
    with lock.open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        assert facts.holder(lock).endswith(f"(process {os.getpid()})")
    assert facts.holder(lock) == ""


class Answer(BaseHTTPRequestHandler):
    """An index that wants a password."""

    def do_HEAD(self) -> None:
        self.send_error(401)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_an_index_that_answers_is_reached_whatever_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/simple"
        assert facts.unreachable(url) == ""
        server.shutdown()
    assert "refused" in facts.unreachable(url)
    assert facts.unreachable("no url at all")


def test_the_usual_index_is_that_of_debian_s_pip(tmp_path: Path) -> None:
    assert facts.index_url("https://mine/", tmp_path) == "https://mine/"
    assert facts.index_url("", tmp_path) == ""
    wheel = tmp_path / "usr/share/python-wheels/pip-99-py3-none-any.whl"
    (wheel / "pip/_internal/models").mkdir(parents=True)
    for package in ("pip", "pip/_internal", "pip/_internal/models"):
        (wheel / package / "__init__.py").touch()
    (wheel / "pip/_internal/models/index.py").write_text("class PyPI:\n    simple_url = 'https://usual/simple'\n")
    code = (
        f"import gunicorn_fastapi_facts as f; from pathlib import Path; print(f.index_url('', Path({str(tmp_path)!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(Path(facts.__file__).parent)},
    )  # fmt: skip
    assert done.stdout.strip() == "https://usual/simple"


def test_where_a_name_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "127.0.0.1" in facts.addresses("localhost")["addresses"]  # type: ignore[operator]

    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert facts.addresses("nowhere.test") == {"addresses": [], "error": "Name or service not known"}


def test_the_addresses_of_the_interfaces() -> None:
    told = '[{"addr_info": [{"local": "192.0.2.1"}, {"local": "::1"}]}, {}]'
    assert facts.own_addresses(lambda *_: told) == ["192.0.2.1", "::1"]
    assert facts.own_addresses(lambda *_: "") == []
    assert facts.own_addresses(lambda *_: "{") == []


def test_failed_units_of_this_application_alone() -> None:
    told = (
        "shop-run.service loaded failed failed x\nshop.service loaded failed failed x\nshopping.service loaded failed x"
    )
    assert facts.failed_units("shop", lambda *_: told) == ["shop-run.service", "shop.service"]


def test_what_a_build_has_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert facts.left("shop", tmp_path) == []
    (tmp_path / "opt/shop/incoming/build-x").mkdir(parents=True)
    assert facts.left("shop", tmp_path) == []  # it may be under way
    later = time.time() + facts.LEFT_FOR + 60
    monkeypatch.setattr(time, "time", lambda: later)
    assert facts.left("shop", tmp_path) == [str(tmp_path / "opt/shop/incoming/build-x")]


def test_room_where_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "opt").mkdir()
    found = facts.room(tmp_path)
    assert list(found) == ["/opt"]
    assert found["/opt"]["bytes"] > 0


@pytest.mark.parametrize(
    ("said", "filters"), [("PermissionError: [Errno 1] Operation not permitted", True), ("", False)]
)
def test_a_filter_is_one_when_it_keeps_something_out(monkeypatch: pytest.MonkeyPatch, said: str, filters: bool) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: object) -> tuple[int, str, str]:
        asked.append(command)
        return 1, "", said

    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/systemd-run")
    assert facts.filters(run) == filters
    assert asked[0][0] == "systemd-run"
    assert "--property=IPAddressDeny=any" in asked[0]
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert facts.filters(run)
    assert len(asked) == 1
