"""The server's own packages: what fits a list is added, and what breaks a promise is refused."""

from pathlib import Path

import pytest
from gunicorn_fastapi_controller.problem import InputError
from gunicorn_fastapi_controller.requirements import read
from gunicorn_fastapi_controller.server import TESTED, Host, check, supplied
from packaging.version import Version
from projects import HASH, Project

LISTS = Path(__file__).parent / "lists"
FILES = LISTS.parent.parent / "roles/gunicorn_fastapi/files"
HOST = Host("3.13.5", "x86_64")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def added(project: Project, *pins: str) -> dict[str, str]:
    """What the role adds to a list of these, once it is known to fit."""
    project.write("requirements.txt", "".join(f"{pin} {HASH}\n" for pin in pins))
    supply = [read(FILES / f"server-requirements{name}.txt", FILES) for name in ("", "-older")]
    entries = supplied(project.read(), HOST, *supply)
    check(project.read(), entries, HOST, project.source / "requirements.txt")
    return {entry.key: entry.version for entry in entries}


@pytest.mark.parametrize(
    ("uvicorn", "worker"), [("0.30.0", "0.3.0"), ("0.34.3", "0.3.0"), ("0.35.9", "0.3.0"), ("0.36.0", "0.4.0")]
)
def test_the_worker_fits_the_uvicorn_of_the_list(project: Project, uvicorn: str, worker: str) -> None:
    assert added(project, f"uvicorn[standard]=={uvicorn}")["uvicorn-worker"] == worker


def test_no_more_is_added_than_the_server_is_made_of(project: Project) -> None:
    server = {"gunicorn", "uvicorn", "uvicorn-worker", "httptools", "uvloop", "websockets"}
    assert set(added(project, "fastapi==0.165.0")) == {*server, "click", "h11"}


@pytest.mark.parametrize(
    ("pins", "reason"),
    [
        (["uvicorn==0.29.0"], r"uvicorn 0.29.0 is older than 0.30, .* Require uvicorn>=0.30, or remove it"),
        (["gunicorn==20.1.0"], r"gunicorn 20.1.0 is older than 21.2"),
        (["httptools==0.6.2"], r"httptools 0.6.2 is older than 0.6.3"),
        (["uvicorn==0.54.0", "uvicorn-worker==0.3.0"], r"uvicorn-worker 0.3.0 does not fit uvicorn 0.54.0"),
        (["uvicorn==0.34.0", "uvicorn-worker==0.4.0"], r"uvicorn-worker 0.4.0 does not fit uvicorn 0.34.0"),
        (["uvicorn-worker==0.2.0"], r"uvicorn-worker 0.2.0 does not fit uvicorn 0.54.0"),
    ],
)
def test_what_breaks_a_promise_is_refused(project: Project, pins: list[str], reason: str) -> None:
    with pytest.raises(InputError, match=rf"^gunicorn_fastapi_requirements: .*requirements.txt: .*{reason}"):
        added(project, *pins)


@pytest.mark.parametrize(
    ("pin", "python", "warning"),
    [
        ("uvicorn==0.54.9", "3.13.5", ""),
        ("uvicorn==0.55.0", "3.13.5", "uvicorn 0.55.0 is newer than 0.54, the last one that was tested."),
        ("gunicorn==27.9.0", "3.13.5", ""),
        ("gunicorn==28.0.0", "3.13.5", "gunicorn 28.0.0 is newer than 27, the last one that was tested."),
        ("starlette==0.37.2", "3.13.5", "starlette 0.37.2 has known vulnerabilities (CVE-"),
        (
            "starlette==0.49.1",
            "3.13.5",
            "starlette 0.49.1 has known vulnerabilities "  # noqa: ISC004
            "(CVE-2026-48710, PYSEC-2026-248, PYSEC-2026-249). Upgrade to 1.3.1",
        ),
        ("starlette==1.3.0", "3.13.5", "starlette 1.3.0 has known vulnerabilities (PYSEC-2026-249). Upgrade to 1.3.1"),
        ("starlette==1.3.1", "3.13.5", ""),
        ("python-multipart==0.0.30", "3.13.5", ""),
        ("python-multipart==0.0.9", "3.13.5", "python-multipart 0.0.9 has known vulnerabilities (CVE-"),
        ("six==1.17.0", "3.14.1", ""),
        ("six==1.17.0", "3.15.0", "Python 3.15.0 of the host is newer than 3.14, the last one that was tested."),
    ],
)
def test_what_may_not_hold_is_said(project: Project, pin: str, python: str, warning: str) -> None:
    project.write("requirements.txt", f"{pin} {HASH}\n")
    said = check(project.read(), (), Host(python, "x86_64"), Path("list.txt"))
    assert len(said) == bool(warning)
    assert all(line.startswith(f"list.txt: {warning}") for line in said)


def test_the_supported_range_has_lists_at_both_ends(project: Project) -> None:
    for name, end in (("oldest", 0), ("newest", 1)):
        listed = read(LISTS / f"{name}.txt", LISTS)
        pinned = HOST.installs(listed)
        for package, bounds in TESTED.items():
            bound = Version(bounds[end]).release if bounds[end] else ()
            assert Version(pinned[package].version).release[: len(bound)] == bound, package
        missing = added(project, *(f"{key}=={entry.version}" for key, entry in pinned.items()))
        assert missing == {}, name
