"""A wheel as the source: what it asks for is resolved, and it is installed by its digest."""

import hashlib
import zipfile
from pathlib import Path

import pytest
from gunicorn_fastapi_controller import discover, lists, origin, wheel_source
from gunicorn_fastapi_controller.problem import InputError
from gunicorn_fastapi_controller.server import Host, check_python
from gunicorn_fastapi_controller.toml import load
from projects import HASH, NEW, Project

WHEEL = "shop-1.4-py3-none-any.whl"
METADATA = """\
Metadata-Version: 2.4
Name: Shop
Version: 1.4
Requires-Python: >=3.12
Requires-Dist: fastapi>=0.110
Requires-Dist: tzdata; sys_platform == "win32"
Requires-Dist: psycopg[binary]>=3; (python_version < "3.14") and extra == "pg"
Requires-Dist: redis; extra == 'cache'
Provides-Extra: pg
Provides-Extra: cache

A shop.
"""
MAIN = "from fastapi import FastAPI\napp = FastAPI()\n"


def wheel(top: Path, metadata: str = METADATA, name: str = WHEEL, **files: str) -> Path:
    """A wheel of a package with an application."""
    path = top / name
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("shop/__init__.py", "")
        packed.writestr("shop/main.py", MAIN)
        packed.writestr("shop-1.4.dist-info/METADATA", metadata)
        for file, text in files.items():
            packed.writestr(file, text)
    return path


def found(path: Path) -> origin.Origin:
    return origin.found(str(path), "", "", path.parent / "cache", "1-1")


def test_it_is_a_project_with_what_it_asks_for(tmp_path: Path) -> None:
    source = found(wheel(tmp_path))
    project = load(source.directory / "pyproject.toml", "")
    assert project["project"] == {
        "name": "Shop", "version": "1.4", "requires-python": ">=3.12",
        "dependencies": ["fastapi>=0.110", 'tzdata; sys_platform == "win32"'],
        "optional-dependencies": {
            "pg": [
                'psycopg[binary]>=3 ; python_version < "3.14" and python_version > "0"', 'redis ; python_version < "0"',
            ],
            "cache": [
                'psycopg[binary]>=3 ; python_version < "3.14" and python_version < "0"', 'redis ; python_version > "0"',
            ],
        },
    }  # fmt: skip
    digest = hashlib.sha256((tmp_path / WHEEL).read_bytes()).hexdigest()
    assert source.facts["digest"] == f"sha256:{digest}"
    assert (source.facts["kind"], source.facts["source"], source.facts["version"]) == ("wheel", WHEEL, "1.4")
    assert discover.discover(source.directory)[0] == "shop.main:app"
    with pytest.raises(InputError, match="requires-python"):
        check_python(source.directory, Host("3.11.2", "x86_64"))
    assert wheel_source.line(source.directory / "pyproject.toml") == f"./{WHEEL} --hash=sha256:{digest}"


def test_an_operator_s_name_of_the_version_counts_more(tmp_path: Path) -> None:
    source = origin.found(str(wheel(tmp_path)), "", "spring", tmp_path / "cache", "1-1")
    assert source.facts["version"] == "spring"


def test_what_it_asks_for_is_resolved_once_whatever_the_wheel_is(tmp_path: Path) -> None:
    """Another build of it that asks for the same keeps the list."""

    def key(path: Path) -> str:
        directory = found(path).directory
        listed = lists.find(directory, directory, "")
        assert listed.kind == "project"
        return str(lists.question(listed, directory, directory, [], [], Host("3.13", "x86_64"), "")["key"])

    (tmp_path / "other").mkdir()
    assert key(wheel(tmp_path)) == key(wheel(tmp_path / "other", **{"shop/more.py": ""}))


def test_it_is_installed_beside_what_it_asks_for(tmp_path: Path) -> None:
    project = Project(tmp_path)
    directory = found(wheel(tmp_path)).directory
    listed = project.bundle(source=str(directory), identity=NEW, locked=f"fastapi==1.0 {HASH}")["list"]
    digest = hashlib.sha256((tmp_path / WHEEL).read_bytes()).hexdigest()
    assert f"./app/{WHEEL} --hash=sha256:{digest}" in listed
    assert "fastapi==1.0" in listed
    alone = project.bundle(source=str(directory), identity=NEW, locked="")["list"]
    assert f"./app/{WHEEL}" in alone


@pytest.mark.parametrize(
    "files",
    [
        {"shop/main.py": "", "shop/web/main.py": MAIN},  # whose namespace need not have an __init__.py
        {"shop/main.py": "", "shop/web/__init__.py": "", "shop/web/app/main.py": MAIN, "shop/tests/main.py": MAIN},
        {"shop/main.py": "", "shop/web/main.py": MAIN, "shop/web/inner/main.py": MAIN},
    ],
)
def test_an_application_in_a_package_of_a_package(tmp_path: Path, files: dict[str, str]) -> None:
    path = tmp_path / WHEEL
    with zipfile.ZipFile(path, "w") as packed:
        for name, text in {"shop-1.4.dist-info/METADATA": METADATA, **files}.items():
            packed.writestr(name, text)
        assert wheel_source.application(packed) in ("shop.web.main:app", "shop.web.app.main:app")


def test_what_an_older_role_has_kept_of_it_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = wheel(tmp_path)
    with monkeypatch.context() as older:
        older.setattr(wheel_source, "application", lambda _: "")
        assert "entrypoint" not in (found(path).directory / "pyproject.toml").read_text()
    assert "shop.main:app" in (found(path).directory / "pyproject.toml").read_text()


def test_two_applications_are_none(tmp_path: Path) -> None:
    source = found(wheel(tmp_path, **{"admin/__init__.py": "", "admin/main.py": MAIN}))
    with pytest.raises(InputError, match="gunicorn_fastapi_app_module"):
        discover.discover(source.directory)


@pytest.mark.parametrize(
    ("metadata", "name", "why"),
    [
        (METADATA, "shop.whl", "has no wheel's name. Keep the one"),
        (METADATA.replace("Name: Shop", "Name: other"), WHEEL, "says that it is other. Keep the name"),
        (METADATA.replace("fastapi>=0.110", "fastapi >>"), WHEEL, "asks for 'fastapi >>', which is not valid"),
        (
            METADATA.replace("fastapi>=0.110", "fastapi @ https://example.org/fastapi-1-py3-none-any.whl"), WHEEL,
            "asks for fastapi by an address. Have it ask for a version",
        ),
    ],
)  # fmt: skip
def test_what_is_no_wheel_of_a_package_is_refused(tmp_path: Path, metadata: str, name: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        found(wheel(tmp_path, metadata, name))


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / WHEEL).write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be read: .* Build it again"):
        found(tmp_path / WHEEL)


def test_a_wheel_without_metadata_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / WHEEL, "w") as packed:
        packed.writestr("shop/__init__.py", "")
    with pytest.raises(InputError, match="has no metadata of one package"):
        found(tmp_path / WHEEL)
