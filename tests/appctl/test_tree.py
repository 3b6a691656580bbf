"""What root takes over from a build, and how it knows later that it is still so."""

import os
from pathlib import Path

import pytest
from appctl import tree
from appctl.process import CtlError


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A small virtualenv, as somebody else has made it."""
    top = tmp_path / "built"
    (top / "lib/python3.13").mkdir(parents=True)
    (top / "lib/python3.13/module.py").write_text("x = 1\n")
    (top / "bin").mkdir()
    (top / "bin/tool").write_text("#!/bin/sh\n")
    (top / "bin/tool").chmod(0o6777)
    (top / "lib64").symlink_to("lib")
    os.utime(top / "lib/python3.13/module.py", ns=(1, 1_700_000_000_000_000_123))
    return top


def test_modes_are_ours_and_times_are_theirs(built: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        tree.copy(built, tmp_path / "copy")
    finally:
        os.umask(before)
    modes = {path: mode & 0o7777 for path, mode, _, _ in tree.entries(tmp_path / "copy") if path != "lib64"}
    assert modes == {
        "bin": 0o755,
        "bin/tool": 0o755,
        "lib": 0o755,
        "lib/python3.13": 0o755,
        "lib/python3.13/module.py": 0o644,
    }
    assert (tmp_path / "copy/lib/python3.13/module.py").stat().st_mtime_ns == 1_700_000_000_000_000_123
    assert (tmp_path / "copy/lib64").readlink() == Path("lib")


def test_what_is_copied_is_another_file(built: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("theirs")
    os.link(tmp_path / "outside", built / "bin/linked")
    tree.copy(built, tmp_path / "copy")
    (tmp_path / "outside").write_text("changed later")
    assert (tmp_path / "copy/bin/linked").read_text() == "theirs"


@pytest.mark.parametrize("target", ["/etc/passwd", "../../etc", "tool/../x", "../.."])
def test_a_link_that_leads_out_is_refused(built: Path, tmp_path: Path, target: str) -> None:
    (built / "bin/link").symlink_to(target)
    with pytest.raises(CtlError, match="bin/link: what was built has a link that leads out"):
        tree.copy(built, tmp_path / "copy")


def test_what_is_no_file_is_refused_without_waiting_for_it(built: Path, tmp_path: Path) -> None:
    os.mkfifo(built / "bin/fifo")
    with pytest.raises(CtlError, match="bin/fifo"):
        tree.copy(built, tmp_path / "copy")


def test_a_tree_without_end_is_refused(built: Path, tmp_path: Path) -> None:
    deep = built
    for _ in range(tree.MOST_LEVELS + 2):
        deep = deep / "d"
        deep.mkdir()
    with pytest.raises(CtlError, match="64 directories"):
        tree.copy(built, tmp_path / "copy")


def test_too_many_files_are_refused(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MOST_FILES", 3)
    with pytest.raises(CtlError, match="more than 3 files"):
        tree.copy(built, tmp_path / "copy")


def test_the_top_itself_is_no_link(built: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(built)
    with pytest.raises(OSError, match="Not a directory"):
        tree.copy(tmp_path / "link", tmp_path / "copy")


def test_a_sealed_tree_is_as_it_was(built: Path) -> None:
    tree.seal(built, {"minor": "3.13"})
    assert tree.facts(built) == {"minor": "3.13"}
    (built / "bin/new").touch()
    assert tree.broken(built) == ""


def test_a_file_of_0_bytes_a_missing_one_and_another_mode_are_seen(built: Path) -> None:
    tree.seal(built, {})
    module = built / "lib/python3.13/module.py"
    module.write_text("")
    assert tree.broken(built) == f"{module} has 0 bytes of 6"
    (built / "bin/tool").unlink()
    assert tree.broken(built) == f"{built}/bin/tool is missing, and 1 more are not as they were built"
    (built / "bin/tool").write_text("#!/bin/sh\n")
    (built / "bin/tool").chmod(0o6777)
    module.write_text("x = 1\n")
    module.chmod(0o600)
    assert tree.broken(built) == f"{module} has another mode or target"


def test_a_seal_that_was_cut_off_is_said(built: Path) -> None:
    tree.seal(built, {})
    (built / tree.SEAL).write_text('{"a": 1}\n["bin", 16877\n')
    assert "cannot be compared" in tree.broken(built)
    (built / tree.SEAL).write_text("")
    with pytest.raises(CtlError, match="cannot be read"):
        tree.facts(built)


def test_without_a_seal_there_are_no_facts(built: Path) -> None:
    assert tree.facts(built) is None


def test_what_was_built_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    for name in ("new", "place"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    tree.put(tmp_path / "new", tmp_path / "place")
    assert (tmp_path / "place/new").exists()
    assert (tmp_path / "new/place").exists()  # for the caller to remove
    tree.put(tmp_path / "place", tmp_path / "free")
    assert (tmp_path / "free/new").exists()
