"""What systemd says of a unit."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from appctl import systemd
from appctl.process import CtlError
from appctl.systemd import belongs, children, control_group, group_in, main_process, number, process, show


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """A systemctl that knows these properties and prints them as it does."""

    def install(properties: dict[str, str]) -> None:
        def run(*command: str, **_: object) -> str:
            wanted = command[2].removeprefix("--property=").split(",")
            known = {name: properties[name] for name in wanted if name in properties}
            if "--value" in command:
                return "".join(f"{value}\n" for value in known.values())
            return "".join(f"{name}={value}\n" for name, value in known.items())

        monkeypatch.setattr(systemd, "run", run)

    return install


# What str.splitlines() takes for the end of a line, and more.
ENDS = ["\u2028", "\u2029", "\x85", "\x1c", "\x1d", "\x1e", "\x0b", "\x0c", "\r", "\r\n", "\x00"]


@pytest.mark.parametrize("end", [*ENDS, "\n"])
@pytest.mark.parametrize("said", ["StatusText", "Description"])
def test_a_status_cannot_forge_another_property(manager: Callable[[dict[str, str]], None], end: str, said: str) -> None:
    lie = f"fine{end}MainPID=1{end}ActiveState=failed{end}NRestarts=9"
    manager({"ActiveState": "active", said: lie, "MainPID": "7", "NRestarts": "0"})
    for names in (("MainPID", said, "ActiveState", "NRestarts"), (said, "MainPID", "NRestarts", "ActiveState")):
        assert show("shop.service", *names) == {
            "ActiveState": "active",
            said: lie,
            "MainPID": "7",
            "NRestarts": "0",
        }


def test_what_a_systemd_does_not_know_is_empty(manager: Callable[[dict[str, str]], None]) -> None:
    manager({"ActiveState": "active"})
    assert show("shop.service", "ActiveState", "StatusText", "Odd") == {
        "ActiveState": "active",
        "StatusText": "",
        "Odd": "",
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [("17", 17), ("", 0), ("[not set]", 0), ("-1", 0), ("1 2", 0), ("٣", 0), ("9" * 5000, 0), ("0x10", 0), ("1\n", 0)],
)
def test_what_is_no_number_is_none(text: str, value: int) -> None:
    assert number(text) == value


def test_a_systemd_that_cannot_be_asked_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: str, **__: object) -> str:
        raise CtlError("systemctl: no end within 30 s")

    monkeypatch.setattr(systemd, "run", run)
    with pytest.raises(CtlError, match="no end within 30 s"):
        systemd.active("shop.service")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield child
    child.kill()
    child.wait()


def test_a_process_is_signalled_by_its_descriptor(sleeper: subprocess.Popen[bytes]) -> None:
    with process(sleeper.pid, control_group("self")) as opened:
        assert not opened.has_ended()
        opened.signal(signal.SIGTERM)
        assert sleeper.wait() == -signal.SIGTERM
        assert opened.has_ended()
        opened.signal(signal.SIGTERM)


@pytest.mark.parametrize("pid", [0, 1, -1])
def test_no_signal_goes_to_init_or_to_a_group(pid: int) -> None:
    with pytest.raises(ProcessLookupError), process(pid):
        pass


def test_a_process_that_has_ended_is_none(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ProcessLookupError), process(sleeper.pid):
        pass


def test_a_main_process_of_another_unit_is_not_believed(
    sleeper: subprocess.Popen[bytes], manager: Callable[[dict[str, str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager({"MainPID": str(sleeper.pid), "ControlGroup": "/shop.slice/shop.service"})
    groups = {str(sleeper.pid): "/shop.slice/shop.service"}
    monkeypatch.setattr(systemd, "control_group", lambda pid: groups.get(str(pid), ""))
    with main_process("shop.service") as main:
        assert main.pid == sleeper.pid
    for other in ("/shop.slice/shop.service2", "/system.slice/ssh.service", "/shop.slice", "/", ""):
        groups[str(sleeper.pid)] = other
        with pytest.raises(ProcessLookupError), main_process("shop.service"):
            pass


@pytest.mark.parametrize("group", ["", "/"])
def test_a_unit_without_processes_has_no_main_process(
    manager: Callable[[dict[str, str]], None], group: str, sleeper: subprocess.Popen[bytes]
) -> None:
    manager({"MainPID": str(sleeper.pid), "ControlGroup": group})
    with pytest.raises(ProcessLookupError), main_process("shop.service"):
        pass


@pytest.mark.parametrize(
    ("group", "parent", "inside"),
    [
        ("/a/b", "/a", True),
        ("/a", "/a", True),
        ("/ab", "/a", False),
        ("/a", "/a/b", False),
        ("", "/a", False),
        ("", "/", False),
        ("/a", "/", True),
    ],
)
def test_a_control_group_lies_in_another(group: str, parent: str, inside: bool) -> None:
    assert belongs(group, parent) is inside


def test_children_are_those_of_one_process(sleeper: subprocess.Popen[bytes]) -> None:
    assert sleeper.pid in children(os.getpid())
    assert children(sleeper.pid) == set()
    assert children(2**22 + 1) == set()


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("0::/shop.slice/shop.service\n", "/shop.slice/shop.service"),
        ("9:name=systemd:/\n4:memory:/x/y\n0::/shop.slice/shop.service\n", "/shop.slice/shop.service"),
        ("9:name=systemd:/shop.slice/shop.service\n0::/\n", "/shop.slice/shop.service"),
        ("0::/\n", "/"),
        ("", ""),
    ],
)
def test_a_control_group_is_found_in_either_hierarchy(text: str, group: str) -> None:
    assert group_in(text) == group
