"""What root takes over from a build, and how it knows later that it is still so."""

import errno
import os
import resource
import subprocess
import sys
import tracemalloc
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
    with pytest.raises(CtlError, match="bin/link: what was built has a link to a place outside, "):
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
    with pytest.raises(CtlError, match="64 nested directories"):
        tree.copy(built, tmp_path / "copy")


def test_too_many_files_are_refused(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MOST_FILES", 3)
    with pytest.raises(CtlError, match="more than 3 files"):
        tree.copy(built, tmp_path / "copy")


def test_what_would_fill_the_disk_is_refused_before_it_is_written(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with holes takes no room where it is, and would take all of it where it is copied to."""
    os.truncate(built / "bin/tool", 1 << 43)
    monkeypatch.setattr(tree, "MOST_BYTES", 1 << 60)
    with pytest.raises(
        CtlError, match=rf"^bin/tool needs .* are free on the disk of {tmp_path}/copy/bin\. Free disk space"
    ):
        tree.copy(built, tmp_path / "copy")
    assert list((tmp_path / "copy/bin").iterdir()) == []


def test_more_than_anybody_needs_is_refused(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MOST_BYTES", 10)
    with pytest.raises(CtlError, match="what was built has more than 0 GiB"):
        tree.copy(built, tmp_path / "copy")


def test_a_full_disk_is_named(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "sendfile", full)
    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}/copy'"):
        tree.copy(built, tmp_path / "copy")


def test_a_directory_of_millions_is_not_listed_whole(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "MOST_FILES", 100)
    for number in range(10_000):
        (built / f"{number:0220}").touch()
    tracemalloc.start()
    try:
        with pytest.raises(CtlError, match="more than 100 files"):
            tree.copy(built, tmp_path / "copy")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_names_without_an_end_are_refused(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "SEAL_MAX", 100)
    with pytest.raises(CtlError, match="the names of what was built have more than 0 MiB"):
        tree.seal(built, {})
    assert not (built / tree.SEAL).exists()


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
    assert tree.broken(built) == f"{built}/bin/tool is missing, and 1 more differ from what was built"
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


def test_a_large_tree_has_facts_too(built: Path) -> None:
    for number in range(5000):
        (built / f"{number:0220}").touch()
    tree.seal(built, {"minor": "3.13"})
    assert (built / tree.SEAL).stat().st_size > 1024 * 1024
    assert tree.facts(built) == {"minor": "3.13"}
    assert tree.broken(built) == ""


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


# --- Removal of what an application or a package has made ---------------------------------------------


def nested(top: Path, levels: int) -> None:
    """Directories in each other, deeper than a path can tell."""
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for level in range(levels):
        os.mkdir("d", dir_fd=here)
        os.close(os.open(f"f{level}", os.O_CREAT, 0o600, dir_fd=here))
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def test_a_tree_of_any_depth_goes(tmp_path: Path) -> None:
    nested(tmp_path / "deep", 5000)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, limits[1]))
    try:
        tree.remove(tmp_path / "deep")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert not os.path.lexists(tmp_path / "deep")


def test_a_removal_follows_no_link_and_takes_all_kinds_of_files(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    top = tmp_path / "top"
    (top / "a/b").mkdir(parents=True)
    (top / "a/b/link").symlink_to(kept)
    (top / "a/dangling").symlink_to("nowhere")
    (top / ".0").mkdir()
    os.mkfifo(top / "a/fifo")
    (top / "a/closed").mkdir(mode=0)
    for number in range(5000):
        (top / "a/b" / f"{number}").touch()
    tree.remove(top)
    assert not top.exists()
    tree.remove(top)  # what is not there is no error
    (tmp_path / "to").symlink_to(kept)
    tree.remove(tmp_path / "to")
    assert (kept / "file").exists()


@pytest.mark.parametrize("place", ["top", "top/in", "top/a/b/in"])
def test_what_is_mounted_below_stays(tmp_path: Path, place: str) -> None:
    kept = tmp_path / "kept"
    (kept / "below").mkdir(parents=True)
    (kept / "below/file").touch()
    (kept / "file").touch()
    (tmp_path / place).mkdir(parents=True)
    script = (
        f"mount --bind {kept} {tmp_path / place} && exec {sys.executable} -c 'import sys; from pathlib import Path; "
        'from appctl import tree; tree.remove(Path(sys.argv[1]))\' "$0"'
    )
    program = Path(str(tree.__file__)).parents[1]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, str(tmp_path / "top")],
        check=False, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(program)},
    )  # fmt: skip
    if "Operation not permitted" in done.stderr:
        pytest.skip("only root can mount")
    assert "mount point" in done.stderr
    assert (kept / "file").exists()
    assert (kept / "below/file").exists()


def test_what_does_not_move_goes_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an overlay's lower layer."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    nested(tmp_path / "top", 5)
    monkeypatch.setattr(os, "rename", refuse)
    tree.remove(tmp_path / "top")
    assert not (tmp_path / "top").exists()


def test_what_could_not_be_removed_is_named_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, **_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", name)

    (tmp_path / "release").mkdir()
    (tmp_path / "release/.seal").touch()
    monkeypatch.setattr(os, "unlink", fail)
    with pytest.raises(OSError, match="Read-only") as failure:
        tree.remove(tmp_path / "release")
    assert failure.value.filename == str(tmp_path / "release")
