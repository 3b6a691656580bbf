"""What is installed is what the list says, or the build fails."""

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest
from appctl import packages
from appctl.process import CtlError


def entry(name: str, version: str, condition: str = "") -> dict[str, Any]:
    return {"name": name, "version": version, "condition": condition, "hashes": ["sha256:0"]}


def install(site: Path, directory: str, metadata: str) -> None:
    (site / directory).mkdir(parents=True)
    (site / directory / "METADATA").write_text(metadata)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    install(
        tmp_path, "fastapi-0.165.0.dist-info", "Metadata-Version: 2.4\nName: FastAPI\nVersion: 0.165.0\n\nName: x\n"
    )
    install(tmp_path, "typing_extensions-4.16.0.dist-info", "Name: typing_extensions\nVersion: 4.16.0\n")
    return tmp_path


LISTED = [entry("fastapi", "0.165.0"), entry("typing-extensions", "4.16.0")]


def test_what_is_listed_and_nothing_else_is_installed(site: Path) -> None:
    packages.check(LISTED, site)


def test_a_package_that_the_list_does_not_show_fails_the_build(site: Path) -> None:
    install(site, "hidden-1.0.dist-info", "Name: hidden\nVersion: 1.0\n")
    with pytest.raises(CtlError, match=r"hidden 1\.0 is installed but not in the lock file"):
        packages.check(LISTED, site)


def test_a_package_that_is_not_there_fails_the_build(site: Path) -> None:
    with pytest.raises(CtlError, match="starlette is in the lock file but not installed"):
        packages.check([*LISTED, entry("starlette", "1.10.0")], site)


def test_another_version_fails_the_build(site: Path) -> None:
    with pytest.raises(CtlError, match=r"fastapi 0\.165\.0 is installed, and the lock file has 0\.164\.0"):
        packages.check([entry("fastapi", "0.164.0"), LISTED[1]], site)


def test_entries_with_a_condition_may_be_missing_and_come_in_several_versions(site: Path) -> None:
    listed = [
        entry("fastapi", "0.165.0", "python_version >= '3.12'"),
        entry("fastapi", "0.116.0", "python_version < '3.12'"),
        LISTED[1],
        entry("pywin32", "310", "sys_platform == 'win32'"),
    ]
    packages.check(listed, site)


def test_a_package_twice_fails_the_build(site: Path) -> None:
    install(site, "FastAPI-0.165.0.dist-info", "Name: FastAPI\nVersion: 0.165.0\n")
    with pytest.raises(CtlError, match="fastapi is installed 2 times"):
        packages.check(LISTED, site)


@pytest.mark.parametrize("metadata", ["", "Name: odd\n", "\n\nName: odd\nVersion: 1\n", "\0" * 100])
def test_a_package_that_hides_its_name_fails_the_build(site: Path, metadata: str) -> None:
    install(site, "odd-1.dist-info", metadata)
    with pytest.raises(CtlError, match="odd-1"):
        packages.check(LISTED, site)


def test_a_description_that_is_a_fifo_or_a_link_is_not_waited_for(site: Path) -> None:
    (site / "odd-1.dist-info").mkdir()
    (site / "odd-1.dist-info/METADATA").symlink_to("/dev/zero")
    with pytest.raises(CtlError, match="without its description"):
        packages.check(LISTED, site)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.0", "1.0.0"),
        ("v1.0", "1"),
        ("2024.07.04", "2024.7.4"),
        ("1.0-alpha.1", "1.0a1"),
        ("1.0-1", "1.0.post1"),
        ("1.0.RC2", "1.0c2"),
        ("1.0.dev", "1.0.dev0"),
        ("1!2.0", "1!2"),
        ("2.1+cu118", "2.1.0+CU118"),
        ("1.0+a-b", "1.0+a.b"),
    ],
)
def test_two_ways_to_write_a_version_are_one(one: str, other: str) -> None:
    assert packages.canonical(one) == packages.canonical(other)


@pytest.mark.parametrize(
    ("one", "other"), [("1.0", "1.0.post1"), ("1.0a1", "1.0"), ("2!1", "1"), ("1.10", "1.1"), ("1+a", "1")]
)
def test_two_versions_are_two(one: str, other: str) -> None:
    assert packages.canonical(one) != packages.canonical(other)


@pytest.mark.parametrize("ending", ["Dist-Info", "DIST-INFO", "Egg-Info"])
def test_a_package_that_python_sees_is_seen(site: Path, ending: str) -> None:
    (site / f"hidden-1.0.{ending}").mkdir()
    for name in ("METADATA", "PKG-INFO"):
        (site / f"hidden-1.0.{ending}" / name).write_text("Name: hidden\nVersion: 1.0\n")
    assert "hidden" in {found.name for found in importlib.metadata.distributions(path=[str(site)])}
    with pytest.raises(CtlError, match=r"hidden 1\.0 is installed but not in the lock file"):
        packages.check(LISTED, site)


@pytest.mark.parametrize("odd", ["Name: x\nVersion: " + "1" * 5000, "Name: " + "x" * 100_000 + "\nVersion: 1"])
def test_what_a_package_says_of_itself_has_a_length(tmp_path: Path, odd: str) -> None:
    install(tmp_path, "x-1.dist-info", odd + "\n")
    with pytest.raises(CtlError, match=r"^the package x-1\.dist-info was installed and does not tell its name"):
        packages.check([entry("x", "1" * 5000)], tmp_path)


def test_a_version_of_any_length_is_compared() -> None:
    assert packages.differences([entry("x", "1" * 5000)], [("x", "1" * 5000)]) == []
