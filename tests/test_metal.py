"""What tools/metal says where no kernel can boot, and that it leaves nothing behind. Booting is for molecule/metal."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import eventually

METAL = Path(__file__).parent.parent / "tools/metal"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the tool alone, and a directory of programs that find nothing else."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/metal").write_text(METAL.read_text())
    (tmp_path / "bin").mkdir()
    return tmp_path


def program(checkout: Path, name: str, text: str = "") -> None:
    """A program of a shell's lines."""
    path = checkout / "bin" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def metal(checkout: Path, *arguments: str) -> tuple[int, str]:
    """Exit status and what is said."""
    done = subprocess.run(
        [sys.executable, checkout / "tools/metal", *arguments],
        env={"PATH": str(checkout / "bin")}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_program_that_is_missing_is_named_with_its_package(checkout: Path) -> None:
    assert metal(checkout, "try") == (1, "tools/metal: there is no linux.uml here (Debian's package user-mode-linux)\n")


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("echo 'Kernel panic - not syncing: VFS: Unable to mount root fs'; kill -ABRT $$", (0, "")),
        (
            "echo 'Checking...'; echo; echo 'ptrace: Operation not permitted'; exit 1",
            (
                1,
                "tools/metal: no kernel of User Mode Linux boots here: Checking... / ptrace: Operation not permitted\n",
            ),
        ),
        ("exit 3", (1, "tools/metal: no kernel of User Mode Linux boots here: 3\n")),
    ],
    ids=["boots", "is forbidden", "says nothing"],
)
def test_a_machine_is_judged_by_a_boot(checkout: Path, kernel: str, expected: tuple[int, str]) -> None:
    for name in ("slirp4netns", "ssh"):
        program(checkout, name)
    program(checkout, "linux.uml", kernel)
    assert metal(checkout, "try") == expected
    assert list((checkout / ".cache/metal").iterdir()) == []


def test_a_machine_that_is_not_there_is_named(checkout: Path) -> None:
    expected = "tools/metal: one: there is no such machine. Make it: tools/metal up one\n"
    assert metal(checkout, "boot", "one") == (1, expected)


def test_a_number_of_another_process_is_never_killed(checkout: Path) -> None:
    """The pid of a machine that was on before a reboot of this one may be anybody's."""
    directory = checkout / ".cache/metal/one"
    directory.mkdir(parents=True)
    (directory / "machine.json").write_text(json.dumps({"name": "one"}))
    with subprocess.Popen(["/bin/sleep", "60"], start_new_session=True) as other:
        (directory / "network").write_text(str(other.pid))
        (directory / "kernel").write_text(str(other.pid))
        try:
            assert metal(checkout, "cut", "one") == (0, "")
            assert other.poll() is None
        finally:
            other.kill()
    assert metal(checkout, "down", "one") == (0, "")
    assert not directory.exists()


@pytest.fixture
def begun(checkout: Path) -> Path:
    """The directory of a machine whose kernel is a program; its network waits for what never comes."""
    directory = checkout / ".cache/metal/one"
    directory.mkdir(parents=True)
    (directory / "machine.json").write_text(json.dumps({"name": "one", "ports": ["18022:22"]}))
    (directory.parent / "key.pub").write_text("ssh-ed25519 AAAA metal\n")
    (checkout / "bin/sh").symlink_to("/bin/sh")
    program(checkout, "ssh")
    program(checkout, "slirp4netns", ">bess; while :; do /bin/sleep 60; done")
    return directory


def test_a_kernel_that_ends_while_it_boots_is_told_and_nothing_is_left(checkout: Path, begun: Path) -> None:
    program(checkout, "linux.uml", "echo 'out of memory'; exit 1")
    assert metal(checkout, "up", "one") == (1, "tools/metal: the kernel of one has ended:\nout of memory\n")
    assert not are_there(begun)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_boot_that_is_killed_leaves_nothing(checkout: Path, begun: Path, number: signal.Signals) -> None:
    program(checkout, "linux.uml", "while :; do /bin/sleep 60; done")
    command = [sys.executable, str(checkout / "tools/metal"), "boot", "one"]
    with subprocess.Popen(command, env={"PATH": str(checkout / "bin")}) as boot:
        eventually((begun / "kernel").exists, "a kernel")
        assert are_there(begun)
        boot.send_signal(number)
    eventually(lambda: not are_there(begun), "the end of all of it")


@pytest.fixture
def writing(begun: Path) -> Iterator[Path]:
    """The disk that a kernel writes without end."""
    program(begun.parent.parent.parent, "linux.uml", "while :; do echo written >>disk.cow; /bin/sleep 0.01; done")
    (begun / "machine.json").write_text(json.dumps({"name": "one", "address": "127.1.1.1"}))
    kernel = subprocess.Popen([begun.parent.parent.parent / "bin/linux.uml"], cwd=begun, start_new_session=True)
    (begun / "kernel").write_text(str(kernel.pid))
    try:
        eventually((begun / "disk.cow").exists, "a disk")
        yield begun / "disk.cow"
    finally:
        os.killpg(kernel.pid, signal.SIGKILL)
        kernel.wait()


def test_a_copy_is_what_the_disk_is_at_one_moment(checkout: Path, writing: Path) -> None:
    """Its kernel writes nothing while it is copied, and goes on then."""
    slow = 'before=$(/bin/cat "$2"); /bin/sleep 0.3; [ "$before" = "$(/bin/cat "$2")" ] && /bin/cp "$2" "$3"'
    program(checkout, "cp", slow)
    assert metal(checkout, "copy", "one", "two") == (0, "")
    copied = (writing.parent.parent / "two/disk.cow").read_text()
    assert set(copied.splitlines()) == {"written"}
    made = json.loads((writing.parent.parent / "two/machine.json").read_text())
    assert made["name"] == "two"
    assert made["address"] not in ("", "127.1.1.1")
    eventually(lambda: len(writing.read_text()) > len(copied), "a kernel that goes on")


def test_a_copy_that_fails_leaves_the_machine_as_it_was(checkout: Path, writing: Path) -> None:
    program(checkout, "cp", "echo no room; exit 1")
    status, said = metal(checkout, "copy", "one", "two")
    assert (status, said.partition(" --")[0]) == (1, "tools/metal: cp")
    before = len(writing.read_text())
    eventually(lambda: len(writing.read_text()) > before, "a kernel that goes on")
    assert metal(checkout, "boot", "two") == (
        1,
        "tools/metal: two: there is no such machine. Make it: tools/metal up two\n",
    )


def are_there(directory: Path) -> bool:
    """Whether any process runs in the directory of a machine."""
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if path.readlink() == directory:
                return True
    return False
