"""The interpreter is tried as the application, and what keeps it from running there is named."""

import shutil
from pathlib import Path

import pytest
from appctl import interpreter, sandbox
from appctl.app import App
from appctl.process import CtlError

UNIT = """
[Service]
User=fastapi
ProtectHome=yes
# ProtectSystem=no
SystemCallFilter=@system-service
CapabilityBoundingSet=
ExecStart=/opt/fastapi/current/venv/bin/gunicorn
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A file that every user may execute."""
    for directory in [tmp_path, *list(tmp_path.parents)[:-2]]:
        directory.chmod(0o755)
    (tmp_path / "bin").mkdir(mode=0o755)
    shutil.copy("/bin/true", tmp_path / "bin/python")
    return tmp_path / "bin/python"


def test_nothing_is_in_the_way_of_a_program_for_all(program: Path) -> None:
    assert interpreter.obstacle(str(program)) == ""


def test_what_is_in_the_way_is_named(program: Path) -> None:
    program.chmod(0o700)
    assert interpreter.obstacle(str(program)) == f"{program} is not executable for others (mode 0700)"
    program.parent.chmod(0o750)
    assert interpreter.obstacle(str(program)) == f"the directory {program.parent} is closed to others (mode 0750)"
    assert "lies below /root, which the service cannot see" in interpreter.obstacle("/root/.local/bin/python3.12")
    assert "No such file" in interpreter.obstacle("/usr/bin/python3.999")


def test_a_link_is_followed_to_what_is_in_the_way(program: Path) -> None:
    link = program.with_name("link")
    link.symlink_to("/home/alice/python")
    assert interpreter.obstacle(str(link)).startswith(f"{link}, which is /home/alice/python, lies below /home")


def ended(monkeypatch: pytest.MonkeyPatch, code: int, out: str, err: str = "") -> list[list[str]]:
    """Have units end like that; gives the properties of those that ran."""
    ran: list[list[str]] = []

    def confined(_: str, __: object, properties: list[str]) -> tuple[int, str, str]:
        ran.append(properties)
        return code, out, err

    monkeypatch.setattr(sandbox, "confined", confined)
    return ran


def test_it_runs_under_the_units_own_protections_and_not_as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = ended(monkeypatch, 0, '["3.13.5", "/usr/bin/python3.13"]\n')
    found = interpreter.tried(App("nobody"), "/usr/bin/python3", [UNIT, "[Service]\nProtectHome=no\n"])
    assert (found.version, found.executable, found.minor) == ("3.13.5", "/usr/bin/python3.13", "3.13")
    assert ran == [
        [
            "User=nobody",
            "ProtectHome=yes",
            "SystemCallFilter=@system-service",
            "CapabilityBoundingSet=",
            "ProtectHome=no",
        ]
    ]


def test_a_broken_one_is_refused_with_its_own_words(monkeypatch: pytest.MonkeyPatch, program: Path) -> None:
    ended(monkeypatch, 127, "", "python: error while loading shared libraries: libx.so.1\n")
    with pytest.raises(CtlError, match=r"python does not run as the application: .*libx\.so\.1\. Install one"):
        interpreter.tried(App("nobody"), str(program), [UNIT])


@pytest.mark.parametrize("out", ["", "null", "[]", '["3.13.5"]', '["", "/x"]', '["3.13.5", "x"]', "3"])
def test_what_answers_odd_things_is_refused(monkeypatch: pytest.MonkeyPatch, program: Path, out: str) -> None:
    ended(monkeypatch, 0, out)
    with pytest.raises(CtlError, match=r"does not run as the application: it answers what no Python does\. Install"):
        interpreter.tried(App("nobody"), str(program), [UNIT])
