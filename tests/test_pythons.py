"""Builds of Python that stand alone: which one is meant, and that its archive is what it says."""

import hashlib
import http.server
import io
import re
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gunicorn_fastapi_controller import hosts, pythons
from gunicorn_fastapi_controller.problem import InputError

KNOWN = (Path(__file__).parent.parent / "roles/gunicorn_fastapi/files/pythons.sha256").read_text()


def file_of(version: str, date: str = "20260127", machine: str = "x86_64", end: str = "install_only_stripped") -> str:
    return f"cpython-{version}+{date}-{machine}-unknown-linux-gnu-{end}.tar.gz"


def elf(number: int = 62, loader: bytes = b"/lib64/ld-linux-x86-64.so.2") -> bytes:
    """The head of a program."""
    return b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00" + number.to_bytes(2, "little") + bytes(44) + loader + b"\0"


def made(path: Path, program: bytes | None = None, *more: tarfile.TarInfo) -> str:
    """Write an archive like those that are published; its digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in (
            ("python/bin/python3.14", elf() if program is None else program),
            ("python/lib/a.py", b""),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("python/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, "python3.14"
        for info in (link, *more):
            tar.addfile(info)
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Mirror:
    """A directory on the controller with builds."""

    def __init__(self, top: Path) -> None:
        self.top = top
        top.mkdir()

    def put(self, version: str, *odd: Any, date: str = "20260127", said: str | None = None) -> str:
        """Add a build for x86_64, and its digest to SHA256SUMS."""
        path = self.top / date / file_of(version, date)
        digest = made(path, *odd)
        with (path.parent / "SHA256SUMS").open("a") as sums:
            sums.write(f"{said or digest}  {path.name}\n" if said != "" else "")
        return digest

    def build(self, version: str = "3.14") -> dict[str, str]:
        found: dict[str, str] = pythons.wanted(version, str(self.top), KNOWN)["builds"]["x86_64"]
        return found


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path / "mirror")


def test_the_list_of_the_role_has_builds_of_all_that_is_supported() -> None:
    builds = list(pythons.listed(KNOWN))
    assert len(builds) == len(KNOWN.splitlines()) > 50
    for machine in pythons.MACHINES:
        series = {build.version.rpartition(".")[0] for build in builds if build.machine == machine}
        assert {"3.11", "3.12", "3.13", "3.14"} <= series


def test_a_name_is_no_version() -> None:
    assert pythons.wanted("python3", "", KNOWN) == {}
    assert pythons.wanted("/opt/python3.14/bin/python", "", KNOWN) == {}


def test_a_version_is_the_newest_of_it() -> None:
    known = "".join(f"{'1' * 64}  20260101/{file_of(version)}\n" for version in ("3.14.9", "3.14.10", "3.15.0"))
    found = pythons.wanted("3.14", "https://example.org/builds/", known)
    build = found["builds"]["x86_64"]
    assert build["version"] == "3.14.10" == found["newest"]
    assert build["name"] == f"3.14.10-20260127-{'1' * 12}"
    assert build["place"] == f"https://example.org/builds/20260127/{file_of('3.14.10').replace('+', '%2B')}"
    exactly = pythons.wanted("3.14.9", "https://example.org", known)
    assert exactly["builds"]["x86_64"]["version"] == "3.14.9"
    assert exactly["newest"] == "3.14.10"


def test_without_a_mirror_there_is_no_place() -> None:
    """But what a host has is known by its name."""
    build = pythons.wanted("3.14", "", KNOWN)["builds"]["x86_64"]
    assert build["place"] == ""
    assert build["name"].startswith("3.14.")


def test_a_directory_has_the_newest_that_it_holds(mirror: Mirror, tmp_path: Path) -> None:
    mirror.put("3.14.2")
    digest = mirror.put("3.14.11", date="20270101")
    (mirror.top / "20270101/cpython-3.14.12+20270101-x86_64-unknown-linux-musl-install_only.tar.gz").touch()
    build = mirror.build()
    assert (build["version"], build["digest"], build["date"]) == ("3.14.11", digest, "20270101")
    archive = pythons.archive(build, tmp_path / "cache")
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == digest
    (mirror.top / "20270101" / build["file"]).unlink()
    assert pythons.archive(build, tmp_path / "cache") == archive


def test_a_digest_of_the_role_counts_more_than_one_of_the_mirror(mirror: Mirror, tmp_path: Path) -> None:
    known = next(build for build in pythons.listed(KNOWN) if (build.machine, build.version) == ("x86_64", "3.14.2"))
    made(mirror.top / known.date / known.file)
    (mirror.top / known.date / "SHA256SUMS").write_text(f"{'2' * 64}  {known.file}\n")
    build = mirror.build("3.14.2")
    assert build["digest"] == known.digest
    with pytest.raises(
        InputError, match=f"has the sha256 [0-9a-f]{{64}}, and has to have {known.digest}. Fetch it again"
    ):
        pythons.archive(build, tmp_path / "cache")
    assert list((tmp_path / "cache/pythons").glob("*fetching*")) == []


def test_without_a_checksum_nothing_is_taken(mirror: Mirror, tmp_path: Path) -> None:
    mirror.put("3.14.99", said="")
    with pytest.raises(InputError, match=r"3.14.99.* has no checksum, .* Put the SHA256SUMS"):
        pythons.archive(mirror.build(), tmp_path / "cache")


def link_to(target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo("python/lib/x")
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def device() -> tarfile.TarInfo:
    info = tarfile.TarInfo("python/dev")
    info.type = tarfile.CHRTYPE
    return info


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        ((elf(183),), "python/bin/python3.14 is for aarch64"),
        ((elf(3),), "python/bin/python3.14 is for the machine 3 of ELF"),
        ((elf(62, b"/lib/ld-musl-x86_64.so.1"),), "python/bin/python3.14 is for musl, another C library"),
        ((b"MZ" + bytes(100),), "python/bin/python3.14 is no program of Linux"),
        ((b"",), "it has no python/bin/python3.14"),
        ((None, tarfile.TarInfo("elsewhere/x")), "it holds elsewhere/x, which is not below python/"),
        ((None, tarfile.TarInfo("python/../x")), "it holds python/../x, which is not below python/"),
        ((None, tarfile.TarInfo("/python/x")), "it holds /python/x, which is not below python/"),
        ((None, link_to("../../../etc/passwd")), "python/lib/x is a link out of it, to ../../../etc/passwd"),
        ((None, link_to("/etc/passwd")), "python/lib/x is a link out of it, to /etc/passwd"),
        ((None, device()), "python/dev is neither a file, a directory nor a link"),
    ],
)
def test_what_is_no_such_python_is_refused(mirror: Mirror, tmp_path: Path, odd: tuple[Any, ...], why: str) -> None:
    mirror.put("3.14.2", *odd)
    with pytest.raises(InputError) as refused:
        pythons.archive(mirror.build("3.14.2") | {"digest": mirror_digest(mirror)}, tmp_path / "cache")
    assert f"is no build of Python 3.14.2 for x86_64: {why}. Nothing of it was unpacked." in str(refused.value)
    assert not list((tmp_path / "cache/pythons").glob("*.tar.gz"))


def mirror_digest(mirror: Mirror) -> str:
    (path,) = mirror.top.glob("*/cpython-*")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_no_archive_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    mirror.put("3.14.99")
    (path,) = mirror.top.glob("*/cpython-*")
    path.write_bytes(path.read_bytes()[:40])
    build = mirror.build() | {"digest": mirror_digest(mirror)}
    with pytest.raises(InputError, match="it cannot be unpacked"):
        pythons.archive(build, tmp_path / "cache")


def test_an_archive_that_would_fill_the_disk_is_refused(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pythons, "SIZE_MAX", 100)
    mirror.put("3.14.99", elf() + bytes(1000))
    with pytest.raises(InputError, match="it has more files than a Python"):
        pythons.archive(mirror.build(), tmp_path / "cache")


@pytest.fixture
def server(mirror: Mirror) -> Iterator[str]:
    """The mirror by HTTP."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given, directory=str(mirror.top))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_build_from_a_server(mirror: Mirror, server: str, tmp_path: Path) -> None:
    digest = mirror.put("3.14.99")
    known = f"{digest}  20260127/{file_of('3.14.99')}\n"
    build = pythons.wanted("3.14", server, known)["builds"]["x86_64"]
    assert hashlib.sha256(pythons.archive(build, tmp_path / "cache").read_bytes()).hexdigest() == digest
    other = pythons.wanted("3.14", server, known.replace("3.14.99", "3.14.98"))["builds"]["x86_64"]
    with pytest.raises(InputError, match=r"/20260127/cpython-3.14.98.* cannot be fetched: .*404"):
        pythons.archive(other | {"digest": "3" * 64}, tmp_path / "cache")


@pytest.mark.parametrize(
    ("version", "mirror", "why"),
    [
        ("3.14", "", "gunicorn_fastapi_python_mirror does not say where builds that stand alone come from. Give a URL"),
        ("3.14", "https://example.org", "no checksum of cpython-3.14.N"),
        ("3.14", "DIRECTORY", "has no cpython-3.14.N.*: it has cpython-3.13.5.*. Put it there"),
        ("3.14.2", "EMPTY", "has no cpython-3.14.2.*: it has none of any version. Put it there"),
        ("3.99", "", "builds that stand alone are known of 3.11, 3.12, 3.13, 3.14, 3.15 alone. Ask for one of these"),
    ],
)
def test_a_host_without_it_is_refused(tmp_path: Path, version: str, mirror: str, why: str) -> None:
    made(tmp_path / "mirror/20260127" / file_of("3.13.5"))
    (tmp_path / "empty").mkdir()
    place = {"DIRECTORY": str(tmp_path / "mirror"), "EMPTY": str(tmp_path / "empty")}.get(mirror, mirror)
    found = {"python": "", "machine": "x86_64", "pythons": pythons.wanted(version, place, KNOWN)}
    told = hosts.python(found, {pythons.VARIABLE: version, pythons.MIRROR: place})
    start = f"gunicorn_fastapi_python: the host has no Python {version}, apt knows no package of it, and "
    assert told.startswith(start)
    assert re.search(why, told)


def test_a_version_that_is_too_old_is_refused() -> None:
    found = {"python": "3.10.4", "python_path": "/usr/bin/python3.10", "machine": "x86_64", "pythons": {}}
    told = hosts.python(found, {pythons.VARIABLE: "3.10", pythons.MIRROR: ""})
    assert told == (
        "gunicorn_fastapi_python: 3.10 is 3.10.4; 3.11 or later is required. Install it, or set another interpreter."
    )
