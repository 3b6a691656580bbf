"""Archives from anywhere: unpacked as they are meant, or refused by what is wrong, with nothing written beside."""

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from gunicorn_fastapi_controller import unpacked
from gunicorn_fastapi_controller.problem import InputError

Entry = tuple[str, bytes] | tarfile.TarInfo


def info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, link, mode
    return made


def tar_of(path: Path, *entries: Entry) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for entry in entries:
            if isinstance(entry, tuple):
                made = info(entry[0])
                made.size = len(entry[1])
                tar.addfile(made, io.BytesIO(entry[1]))
            else:
                tar.addfile(entry)
    return path


def zip_of(path: Path, *entries: tuple[str, bytes, int]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content, mode in entries:
            made = zipfile.ZipInfo(name)
            made.external_attr, made.create_system = mode << 16, 3
            packed.writestr(made, content)
    return path


def contents(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
        for path in directory.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def test_a_tar_archive(tmp_path: Path) -> None:
    program = info("./run.sh", mode=0o4777)
    archive = tar_of(
        tmp_path / "a.tar.gz",
        info("./", tarfile.DIRTYPE), ("./main.py", b"app"), program, info("./alias.py", tarfile.SYMTYPE, "main.py"),
        info("./same.py", tarfile.LNKTYPE, "./main.py"), ("api/b.py", b"b"),
    )  # fmt: skip
    digest, directory = unpacked.unpacked(archive, tmp_path / "cache")
    assert contents(directory) == {
        "main.py": "app",
        "run.sh": "",
        "alias.py": "-> main.py",
        "same.py": "app",
        "api/b.py": "b",
    }
    assert stat.S_IMODE((directory / "run.sh").stat().st_mode) == 0o755
    assert unpacked.unpacked(archive, tmp_path / "cache") == (digest, directory)


def test_a_zip_archive(tmp_path: Path) -> None:
    archive = zip_of(
        tmp_path / "a.zip",
        ("main.py", b"app", 0), ("run.sh", b"", stat.S_IFREG | 0o755), ("alias.py", b"main.py", stat.S_IFLNK | 0o777),
    )  # fmt: skip
    _, directory = unpacked.unpacked(archive, tmp_path / "cache")
    assert contents(directory) == {"main.py": "app", "run.sh": "", "alias.py": "-> main.py"}
    assert (directory / "run.sh").stat().st_mode & 0o111


def test_one_directory_at_the_top_is_the_source(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a.tar.gz", ("shop-1.0/main.py", b"app"))
    assert contents(unpacked.unpacked(archive, tmp_path / "cache")[1]) == {"main.py": "app"}


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "absolute": (lambda d: tar_of(d / "a.tar.gz", ("/etc/x", b"")), "/etc/x has an absolute name"),
    "above": (lambda d: tar_of(d / "a.tar.gz", ("a/../../x", b"")), "a/../../x has .. in its name"),
    "link out": (lambda d: tar_of(d / "a.tar.gz", info("a/l", tarfile.SYMTYPE, "../../x")), "a/l is a link out of"),
    "absolute link": (lambda d: tar_of(d / "a.tar.gz", info("l", tarfile.SYMTYPE, "/etc")), "l is a link out of"),
    "hard link out": (
        lambda d: tar_of(d / "a.tar.gz", info("l", tarfile.LNKTYPE, "/etc/passwd")),
        "l is a link to what is not in the archive",
    ),
    "through a link": (
        lambda d: tar_of(d / "a.tar.gz", ("b/x", b""), info("b", tarfile.SYMTYPE, ".")), "b is there twice"
    ),
    "below a file": (lambda d: tar_of(d / "a.tar.gz", ("b", b""), ("b/x", b"")), "b/x is there twice"),
    "device": (lambda d: tar_of(d / "a.tar.gz", info("null", tarfile.CHRTYPE)), "null is neither a file, a dir"),
    "pipe": (lambda d: tar_of(d / "a.tar.gz", info("p", tarfile.FIFOTYPE)), "p is neither a file, a dir"),
    "twice": (lambda d: tar_of(d / "a.tar.gz", ("a", b""), ("a", b"2")), "a is there twice"),
    "long name": (lambda d: tar_of(d / "a.tar.gz", ("x" * 2**21, b"")), "has 2097.* bytes of name"),
    "many": (lambda d: tar_of(d / "a.tar.gz", *((str(n), b"") for n in range(12))), "more than 10 entries"),
    "large": (lambda d: tar_of(d / "a.tar.gz", ("a", bytes(3 * 2**20))), "more than 2 MiB"),
    "zip bomb": (lambda d: zip_of(d / "a.zip", ("a", bytes(3 * 2**20), 0)), "more than 2 MiB"),
    "zip absolute": (lambda d: zip_of(d / "a.zip", ("/a", b"", 0)), "/a has an absolute name"),
    "zip above": (lambda d: zip_of(d / "a.zip", ("../a", b"", 0)), "../a has .. in its name"),
    "zip link out": (lambda d: zip_of(d / "a.zip", ("a", b"/etc", stat.S_IFLNK)), "a is a link out of"),
    "zip device": (lambda d: zip_of(d / "a.zip", ("a", b"", stat.S_IFCHR)), "a is neither a file, a dir"),
    "no archive": (lambda d: wrote(d / "a.zip", b"text"), r"cannot be unpacked \(File is not a zip file\)"),
    "cut off": (lambda d: wrote(d / "a.tar.gz", tar_of(d / "b.tgz", ("a", b"x" * 999)).read_bytes()[:60]), "cannot be"),
}  # fmt: skip


def wrote(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("case", BAD)
def test_a_bad_archive_is_refused_by_name(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacked, "ENTRIES_MAX", 10)
    monkeypatch.setattr(unpacked, "BYTES_MAX", 2 * 2**20)
    make, says = BAD[case]
    archive = make(tmp_path)
    with pytest.raises(InputError, match=f"gunicorn_fastapi_app_source: .*({says})"):
        unpacked.unpacked(archive, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache/archives").iterdir()] == ["lock"]


def test_the_same_from_an_archive_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tar_of(tmp_path / "a.tar.gz", ("main.py", b"app"))
    first = unpacked.unpacked(archive, tmp_path / "cache")
    monkeypatch.setattr(unpacked, "unpack", None)
    assert unpacked.unpacked(archive, tmp_path / "cache") == first
