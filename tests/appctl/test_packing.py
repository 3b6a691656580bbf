"""What an application may have put into its directory, packed and unpacked."""

import io
import json
import os
import socket
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from appctl import packing


@pytest.fixture
def state(tmp_path: Path) -> Path:
    directory = tmp_path / "state"
    directory.mkdir()
    return directory


def packed(state: Path) -> tuple[bytes, dict[str, object]]:
    stream = io.BytesIO()
    told = packing.pack(state, stream)
    return stream.getvalue(), told


def restored(state: Path, tmp_path: Path) -> Path:
    content, _ = packed(state)
    target = tmp_path / "restored"
    target.mkdir()
    packing.unpack(io.BytesIO(content), target)
    return target


def test_files_directories_links_and_modes_come_back(state: Path, tmp_path: Path) -> None:
    (state / "a/b").mkdir(parents=True)
    (state / "a/b/file").write_bytes(b"x" * 100_000)
    (state / "empty").touch()
    (state / "a/b/file").chmod(0o640)
    (state / "a").chmod(0o750)
    os.utime(state / "a/b/file", (1, 1))
    os.utime(state / "a/b", (2, 2))
    (state / "link").symlink_to("a/b/file")
    (state / "out").symlink_to("/etc/shadow")
    (state / "nö\udc80me").write_text("odd")
    found = restored(state, tmp_path)
    assert (found / "a/b/file").read_bytes() == b"x" * 100_000
    assert (found / "a/b/file").stat().st_mode & 0o7777 == 0o640
    assert (found / "a").stat().st_mode & 0o7777 == 0o750
    assert (found / "a/b/file").stat().st_mtime == 1
    assert (found / "a/b").stat().st_mtime == 2
    assert str((found / "link").readlink()) == "a/b/file"
    assert str((found / "out").readlink()) == "/etc/shadow"
    assert (found / "nö\udc80me").read_text() == "odd"
    assert {path.name for path in found.iterdir()} == {path.name for path in state.iterdir()}


def test_what_would_keep_us_waiting_is_left_out_and_named(state: Path) -> None:
    os.mkfifo(state / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(state / "sock"))
    content, told = packed(state)
    assert told["left out"] == ["pipe", "sock"]
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert archive.getnames() == []


def test_a_name_that_becomes_a_pipe_meanwhile_is_not_waited_for(state: Path) -> None:
    os.mkfifo(state / "pipe")
    (state / "link").symlink_to("/etc/passwd")
    assert packing.opened(state / "pipe") is None
    assert packing.opened(state / "link") is None
    assert packing.opened(state / "gone") is None


def test_no_mode_gives_more_rights_than_the_user_has(state: Path, tmp_path: Path) -> None:
    (state / "tool").touch()
    (state / "tool").chmod(0o4755)
    assert (restored(state, tmp_path) / "tool").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_database_is_as_between_two_transactions(state: Path, tmp_path: Path, mode: str) -> None:
    """Though its file is not: here all is in the log beside it, or half of a transaction in the file."""
    writer = sqlite3.connect(state / "shop.db", isolation_level=None)
    writer.execute(f"PRAGMA journal_mode={mode}")
    writer.execute("CREATE TABLE t (x)")
    writer.executemany("INSERT INTO t VALUES (?)", [(number,) for number in range(1000)])
    writer.execute("BEGIN")
    writer.execute("INSERT INTO t VALUES (-1)")
    assert {path.name for path in state.iterdir()} >= {"shop.db", "shop.db-wal" if mode == "wal" else "shop.db-journal"}
    found = restored(state, tmp_path)
    writer.execute("ROLLBACK")
    writer.close()
    assert [path.name for path in found.iterdir()] == ["shop.db"]
    with sqlite3.connect(found / "shop.db") as copy:
        assert copy.execute("SELECT count(*), min(x) FROM t").fetchone() == (1000, 0)
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_journal_of_nobody_s_is_a_file(state: Path, tmp_path: Path) -> None:
    (state / "notes-wal").write_text("mine")
    (state / "notes").write_text("text")
    assert sorted(path.name for path in restored(state, tmp_path).iterdir()) == ["notes", "notes-wal"]


def test_a_damaged_database_is_named(state: Path) -> None:
    (state / "odd.db").write_bytes(packing.SQLITE + b"\xff" * 4096)
    with pytest.raises(packing.PackingError, match=r"^odd\.db is a database that SQLite cannot copy: .*Repair it"):
        packed(state)


def test_a_file_that_shrinks_is_named(state: Path) -> None:
    (state / "log").write_bytes(b"x" * 10)
    member = tarfile.TarInfo("log")
    with (state / "log").open("rb") as file, tarfile.open(fileobj=io.BytesIO(), mode="w|") as archive:
        file.seek(5)
        with pytest.raises(packing.PackingError, match=r"^log became shorter while it was copied\. Try again$"):
            packing.add(archive, member, file)


def test_how_much_it_is(state: Path) -> None:
    (state / "a").mkdir()
    (state / "a/file").write_bytes(b"x" * 1000)
    with sqlite3.connect(state / "shop.db") as database:
        database.execute("CREATE TABLE t (x)")
    size = (state / "shop.db").stat().st_size
    assert packing.measure(state) == {"bytes": 1000 + size, "entries": 3, "database": size}


def archive_with(*members: tarfile.TarInfo) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w|gz") as archive:
        for member in members:
            archive.addfile(member)
    return io.BytesIO(stream.getvalue())


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "..", "./x", "a//b", "a/.."])
def test_an_archive_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(packing.PackingError, match=r"leads out of the directory\. It is no backup$"):
        packing.unpack(archive_with(member(name)), tmp_path / "in")
    assert [path.name for path in tmp_path.rglob("*")] == ["in"]


def test_nothing_is_written_through_a_link_of_the_archive(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    with pytest.raises(OSError, match="No such file"):
        packing.unpack(archive_with(member("l", tarfile.SYMTYPE, "../out"), member("l/x")), tmp_path / "in")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.LNKTYPE])
def test_an_archive_with_something_else_is_refused(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(packing.PackingError, match="is neither a file nor a directory nor a link"):
        packing.unpack(archive_with(member("x", kind, "y")), tmp_path)


def run(verb: str, directory: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-IS", packing.__file__, verb, str(directory)]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


def test_the_program_by_itself(state: Path, tmp_path: Path) -> None:
    (state / "file").write_text("x")
    done = run("pack", state)
    assert json.loads(done.stderr) == {"files": 1, "databases": 0, "left out": []}
    (tmp_path / "new").mkdir()
    assert json.loads(run("unpack", tmp_path / "new", done.stdout).stderr) == {"files": 1}
    assert (tmp_path / "new/file").read_text() == "x"
    assert json.loads(run("measure", state).stderr)["bytes"] == 1


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        (lambda whole: whole[: len(whole) // 2], "."),
        (lambda _: b"no archive", "the archive is damaged"),
        (lambda _: b"", "."),
    ],
)
def test_a_damaged_archive_ends_with_a_sentence(state: Path, tmp_path: Path, damaged: object, said: str) -> None:
    (state / "file").write_bytes(os.urandom(10_000))
    whole = packed(state)[0]
    (tmp_path / "new").mkdir()
    done = run("unpack", tmp_path / "new", damaged(whole))  # type: ignore[operator]
    assert done.returncode == 3
    assert said in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
