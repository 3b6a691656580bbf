"""Files on the host's disk."""

import errno
import os
import socket
import tracemalloc
from pathlib import Path

import pytest
from appctl import disk
from appctl.disk import durable, read_bounded, swap_link


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_is_replaced_whole_with_the_mode_that_was_asked_for(tmp_path: Path, umask: int, mode: int) -> None:
    path = tmp_path / "fastapi.service"
    path.write_text("old")
    before = os.umask(umask)
    try:
        durable(path, "new \udcff", mode)
    finally:
        os.umask(before)
    assert path.read_bytes() == b"new \xff"
    assert [entry.name for entry in tmp_path.iterdir()] == ["fastapi.service"]
    assert path.stat().st_mode & 0o7777 == mode


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "fastapi.service"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        durable(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["fastapi.service"]


def test_a_link_in_the_way_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / ".unit.building").symlink_to("victim")
    durable(tmp_path / "unit", "new")
    assert (tmp_path / "victim").read_text() == "mine"
    assert (tmp_path / "unit").read_text() == "new"


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_bounded(path, 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_bounded(path, 4)


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "socket", "missing", "device"])
def test_nothing_but_a_regular_file_is_read_and_nothing_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "link":
            (tmp_path / "target").write_text("secret")
            path.symlink_to("target")
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "directory":
            path.mkdir()
        elif kind == "socket":
            listener.bind(str(path))
        elif kind == "device":
            path = Path("/dev/zero")
        with pytest.raises(OSError, match=r"."):
            read_bounded(path, 10)


def test_a_link_is_swapped(tmp_path: Path) -> None:
    link = tmp_path / "current"
    (tmp_path / ".current.building").symlink_to("left over")
    for target in ("releases/a", "releases/b"):
        swap_link(link, target)
        assert os.readlink(link) == target  # noqa: PTH115
    assert [entry.name for entry in tmp_path.iterdir()] == ["current"]


def test_a_replacement_is_put_in_place_and_back(tmp_path: Path) -> None:
    path = tmp_path / "fastapi.service"
    path.write_text("old")
    with disk.staged(path, "new") as replacement:
        assert path.read_text() == "old"
        replacement.put_in_place()
        assert path.read_text() == "new"
        replacement.put_back()
        assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["fastapi.service"]


def test_what_was_not_there_before_is_not_there_after(tmp_path: Path) -> None:
    path = tmp_path / "fastapi.service"
    with disk.staged(path, "new") as replacement:
        replacement.put_in_place()
        assert path.read_text() == "new"
        replacement.put_back()
    assert not list(tmp_path.iterdir())


def test_nothing_is_put_back_that_was_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "fastapi.service"
    path.write_text("old")
    with disk.staged(path, "new") as replacement:
        replacement.put_back()
    assert path.read_text() == "old"


def test_a_replacement_that_stays_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "fastapi.service"
    path.write_text("old")
    with disk.staged(path, "new") as replacement:
        replacement.put_in_place()
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["fastapi.service"]


def test_a_link_is_put_in_place_and_back(tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to("releases/old")
    with disk.staged_link(link, "releases/new") as replacement:
        assert str(link.readlink()) == "releases/old"
        replacement.put_in_place()
        assert str(link.readlink()) == "releases/new"
        replacement.put_back()
        assert str(link.readlink()) == "releases/old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["current"]


def test_a_link_for_which_there_is_no_room_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: str, path: Path, *__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "releases/new", None, str(path))

    monkeypatch.setattr(os, "symlink", full)
    with pytest.raises(OSError, match="No space left") as raised:
        disk.swap_link(tmp_path / "current", "releases/new")
    assert disk.told(raised.value).startswith(f"{tmp_path}/current: No space left on device. Free disk space")
    assert not list(tmp_path.iterdir())


def test_a_file_for_which_there_is_no_room_is_noticed_before_anything_changes(tmp_path: Path) -> None:
    path = tmp_path / "fastapi.service"
    path.write_text("old")
    (tmp_path / ".fastapi.service.building").mkdir()
    with pytest.raises(OSError), disk.staged(path, "new"):  # noqa: PT011 (any will do)
        pass
    assert path.read_text() == "old"


def test_a_file_takes_the_room_of_its_content_and_not_of_what_it_may_have(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"x" * 200_000)
    tracemalloc.start()
    try:
        assert len(read_bounded(tmp_path / "small", 256 * 1024 * 1024)) == 200_000
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
