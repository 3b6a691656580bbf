"""What a prepare command has left is part of the release, and decides which one it is."""

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from gunicorn_fastapi_controller.problem import InputError
from projects import Project

COMMAND = "python -m assets"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def output(project: Project, name: str = "1.tar.gz", **files: str) -> str:
    """An archive as a host makes it."""
    path = project.root / "cache/prepared" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        top = tarfile.TarInfo("prepared")
        top.type, top.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(top)
        for file, text in files.items():
            info = tarfile.TarInfo(f"prepared/{file}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return str(path)


def test_its_files_are_in_the_release(project: Project) -> None:
    archive = output(project, **{"static/a.css": "made", "main.py": "changed"})
    contents = project.contents(prepare_command=COMMAND, prepared=archive)
    assert contents["app/static/a.css"] == "made"
    assert contents["app/main.py"] == "changed"


def test_equal_output_is_the_same_release_and_another_one_is_another(project: Project) -> None:
    def release(name: str, text: str) -> Any:
        return project.bundle(prepare_command=COMMAND, prepared=output(project, name, made=text))["release"]

    assert release("1.tar.gz", "x") == release("2.tar.gz", "x") != release("3.tar.gz", "y")


def test_a_release_that_waits_for_it_is_no_change_yet(project: Project) -> None:
    waiting = project.bundle(prepare_command=COMMAND)
    assert (waiting["changed"], waiting["diff"], waiting["warnings"]) == (False, [], [])
    assert project.bundle(prepare_command=COMMAND, prepared=output(project))["changed"]
    # Nothing came of it, as in check mode.
    assert project.bundle(prepare_command=COMMAND, prepared="none")["changed"]


def test_it_runs_again_for_what_it_can_see(project: Project) -> None:
    def key(**changes: Any) -> str:
        return str(project.bundle(**{"prepare_command": COMMAND, **changes})["prepare"])

    first = key()
    assert key() == first == key(prepared=output(project, made="x"))
    assert key(files=project.arguments["files"] | {"systemd/x.service": "ExecStart=/other\n"}) == first
    assert key(credentials="secret") == first
    project.write("main.py", "app = 2\n")
    project.write("data/x", "")
    source = key()
    others = {
        key(prepare_command="make"),
        key(files={"etc/environment": 'A="2"\n'}),
        key(identity={"python": "3.13", "python_path": "/usr/bin/python3"}),
        key(state=project.arguments["state"] | {"working_directory": "data"}),
    }
    assert len(others | {source, first}) == 6
    assert project.bundle()["prepare"] == ""


def test_an_archive_of_a_host_is_not_trusted(project: Project) -> None:
    with pytest.raises(InputError, match=r"has \.\. in its name"):
        project.bundle(prepare_command=COMMAND, prepared=output(project, **{"../../x": ""}))


def test_archives_that_no_run_has_used_go(project: Project) -> None:
    old, archive = output(project, "old.tar.gz"), output(project, made="x")
    os.utime(old, (0, 0))
    os.utime(archive, (0, 0))
    project.bundle(prepare_command=COMMAND, prepared=archive)
    assert not Path(old).exists()
    assert Path(archive).exists()
