"""A release as it is sent: what is unpacked, with which modes, and what is refused."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from appctl import contents, unpack
from appctl.process import CtlError

RELEASE = "a" * 40


def pack(path: Path, members: list[tuple[str, Any]]) -> Path:
    """An archive of members: files by content and mode, links by their target, or ready ones."""
    with tarfile.open(path, "w:gz") as tar:
        for name, what in members:
            info = tarfile.TarInfo(name)
            if isinstance(what, tuple):
                content, info.mode = what
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            elif isinstance(what, str):
                info.type, info.linkname = tarfile.SYMTYPE, what
                tar.addfile(info)
            else:
                info.type = what
                tar.addfile(info)
    return path


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    archive = pack(
        tmp_path / "a.tar.gz",
        [
            (f"{RELEASE}/app/deep/main.py", (b"x", 0o644)),
            (f"{RELEASE}/app/run.sh", (b"x", 0o755)),
            (f"{RELEASE}/etc/environment", (b"x", 0o640)),
            (f"{RELEASE}/app/link", "run.sh"),
        ],
    )
    before = os.umask(0o077)
    try:
        unpack.unpack(archive, RELEASE, tmp_path / "release")
    finally:
        os.umask(before)
    modes = {
        str(path.relative_to(tmp_path / "release")): path.lstat().st_mode & 0o777
        for path in (tmp_path / "release").rglob("*")
        if not path.is_symlink()
    }
    assert modes == {
        "app": 0o755,
        "app/deep": 0o755,
        "app/deep/main.py": 0o644,
        "app/run.sh": 0o755,
        "etc": 0o755,
        "etc/environment": 0o640,
    }
    assert (tmp_path / "release/app/link").readlink() == Path("run.sh")


@pytest.mark.parametrize(
    "member",
    [
        ("../outside", (b"x", 0o644)),
        (f"{RELEASE}/../outside", (b"x", 0o644)),
        ("/etc/outside", (b"x", 0o644)),
        ("other/file", (b"x", 0o644)),
        (f"{RELEASE}/fifo", tarfile.FIFOTYPE),
        (f"{RELEASE}/device", tarfile.CHRTYPE),
        (f"{RELEASE}/hard", tarfile.LNKTYPE),
    ],
)
def test_what_is_no_part_of_a_release_is_refused(tmp_path: Path, member: tuple[str, Any]) -> None:
    with pytest.raises(CtlError, match="holds"):
        unpack.unpack(pack(tmp_path / "a.tar.gz", [member]), RELEASE, tmp_path / "release")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "release"]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    archive = pack(
        tmp_path / "a.tar.gz",
        [(f"{RELEASE}/app", str(tmp_path / "outside")), (f"{RELEASE}/app/file", (b"x", 0o644))],
    )
    with pytest.raises(OSError, match="File exists"):
        unpack.unpack(archive, RELEASE, tmp_path / "release")
    assert list((tmp_path / "outside").iterdir()) == []


def test_an_archive_that_was_cut_off_is_said(tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.tar.gz", [(f"{RELEASE}/app/main.py", (os.urandom(5000), 0o644))])
    archive.write_bytes(archive.read_bytes()[:-2000])
    with pytest.raises(CtlError, match=r"cannot be unpacked.* Deploy again"):
        unpack.unpack(archive, RELEASE, tmp_path / "release")


def test_an_archive_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(CtlError, match=r"is missing\. Deploy again"):
        unpack.unpack(tmp_path / "a.tar.gz", RELEASE, tmp_path / "release")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_files_are_compared_with_the_manifest_as_they_were_before_the_name_was_put_in(tmp_path: Path) -> None:
    for name, content in (
        ("app/main.py", b"@RELEASE@"),
        ("systemd/x.service", f"{RELEASE} and {RELEASE[:12]}".encode()),
        ("etc/logging.conf", RELEASE[:12].encode()),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "app/link").symlink_to("main.py")
    manifest = {
        "release": RELEASE,
        "files": {
            "app/main.py": digest(b"@RELEASE@"),
            "app/link": digest(b""),
            "systemd/x.service": digest(b"@RELEASE@ and @RELEASE_SHORT@"),
            "etc/logging.conf": digest(b"@RELEASE_SHORT@"),
        },
    }
    assert contents.changed_files(tmp_path, manifest) == []
    (tmp_path / "app/main.py").write_bytes(b"")
    (tmp_path / "etc/logging.conf").unlink()
    assert contents.changed_files(tmp_path, manifest) == ["app/main.py", "etc/logging.conf"]


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{}", "\0" * 20, '{"release": 1, "files": {}, "packages": []}', "[" * 100_000]
)
def test_what_is_no_manifest_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(CtlError, match=r"manifest\.json"):
        contents.read_manifest(tmp_path / "manifest.json")


def test_a_manifest_of_another_format_is_not_read(tmp_path: Path) -> None:
    manifest = {"release": RELEASE, "files": {}, "packages": [], "format": 2}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CtlError, match="this version does not know"):
        contents.read_manifest(tmp_path / "manifest.json")
