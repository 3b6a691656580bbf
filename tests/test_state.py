"""Paths of the source that the application writes: links of a release, and what they begin with."""

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from gunicorn_fastapi import seeding
from gunicorn_fastapi_controller.problem import InputError
from projects import Project, below
from test_checks import problems, refused


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def state(project: Project, paths: list[str], scratch: list[str] | None = None, directory: str = "") -> dict[str, Any]:
    """What a release is told of its state."""
    return {
        "directory": str(project.root / "state"),
        "paths": paths,
        "scratch": scratch or [],
        "working_directory": directory,
    }


def unpacked(project: Project, **more: Any) -> Path:
    """A release on a made-up host."""
    made = project.bundle(**more)
    releases = project.root / "releases"
    with tarfile.open(made["archive"]) as archive:
        archive.extractall(releases, filter="fully_trusted")
    return releases / str(made["release"])


def test_what_the_application_writes_outlives_its_release(project: Project) -> None:
    project.write("app/logs/.keep", "")
    project.write("app/main.py", "1")
    project.write("data.json", "first")
    asked = state(project, ["app/logs", "data.json", "mlflow.db", ".files", "conf.d/"])
    first = unpacked(project, state=asked)
    assert json.loads((first / "etc/state.json").read_text())["state"] == {
        "app/logs": "directory", "data.json": "file", "mlflow.db": "file", ".files": "directory", "conf.d": "directory",
    }  # fmt: skip
    seeding.main(first)
    app = first / "app"
    assert (app / "app/logs/.keep").read_text() == (app / "app/main.py").read_text()[1:] == ""
    assert (app / ".files").is_dir()
    assert (app / "conf.d").is_dir()
    assert (app / "data.json").read_text() == "first"
    assert not (app / "mlflow.db").exists()
    for name in ("app/logs/log", "data.json", "mlflow.db", ".files/x"):
        (app / name).write_text("written")
    project.write("data.json", "second")
    second = unpacked(project, state=asked)
    assert second != first
    seeding.main(second)
    for name in ("app/logs/log", "data.json", "mlflow.db", ".files/x"):
        assert (second / "app" / name).read_text() == "written"
    assert (second / "seed/data.json").read_text() == "second"


def test_what_a_release_has_for_itself_is_fresh(project: Project) -> None:
    project.write("front/index.html", "first")
    asked = state(project, [], ["front", "made"])
    first = unpacked(project, state=asked)
    seeding.main(first)
    (first / "app/front/index.html").write_text("rewritten")
    (first / "app/made/x").touch()
    seeding.main(first)  # a restart
    assert (first / "app/front/index.html").read_text() == "rewritten"
    project.write("front/index.html", "second")
    second = unpacked(project, state=asked)
    seeding.main(second)
    assert (second / "app/front/index.html").read_text() == "second"
    assert (first / "app/front/index.html").read_text() == "rewritten"
    first.rename(project.root / "gone")  # pruned
    seeding.main(second)
    assert [path.name for path in (project.root / "state/.scratch").iterdir()] == [second.name]


def test_another_instance_may_do_the_same(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("logs/.keep", "")
    project.write("data.json", "first")
    release = unpacked(project, state=state(project, ["logs", "data.json"]))
    seeding.main(release)
    monkeypatch.setattr(os.path, "lexists", lambda _: False)  # it was made after this one has looked
    (release / "app/data.json").write_text("written")
    (release / "app/logs/log").touch()
    seeding.main(release)
    monkeypatch.undo()
    assert (release / "app/data.json").read_text() == "written"
    assert (release / "app/logs/log").exists()
    names = {str(path.relative_to(project.root / "state")) for path in (project.root / "state").rglob("*")}
    assert names == {"logs", "logs/.keep", "logs/log", "data.json"}


def test_a_release_without_such_paths_is_as_before(project: Project) -> None:
    with tarfile.open(str(project.bundle()["archive"])) as archive:
        assert "etc/state.json" not in {below(member.name) for member in archive}


def test_equal_paths_are_an_equal_release(project: Project) -> None:
    asked = [state(project, ["a"]), state(project, ["a"]), state(project, ["b"]), state(project, [], ["a"])]
    names = [project.bundle(state=one)["release"] for one in asked]
    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_a_link_of_the_source_may_lead_into_the_state(project: Project) -> None:
    (project.source / "uploads").symlink_to("/var/lib/shop/uploads")
    with tarfile.open(str(project.bundle()["archive"])) as archive:
        links = {below(member.name): member.linkname for member in archive if member.issym()}
    assert links["app/uploads"] == "/var/lib/shop/uploads"
    for outside in ("/var/lib/shop/../shop2/x", "/var/lib/shop2"):
        (project.source / "uploads").unlink()
        (project.source / "uploads").symlink_to(outside)
        with pytest.raises(InputError, match="points out of the source"):
            project.bundle()


def test_a_path_through_a_file_is_refused(project: Project) -> None:
    with pytest.raises(InputError, match=r"leads through main\.py, which is no directory"):
        project.bundle(state=state(project, ["main.py/x"]))


def test_a_working_directory_is_one_of_the_release(project: Project) -> None:
    project.write("data/x", "")
    assert project.bundle(state=state(project, [], None, "data"))["release"]
    with pytest.raises(InputError, match="gunicorn_fastapi_working_directory: other is no directory of the release"):
        project.bundle(state=state(project, [], None, "other"))


@pytest.mark.parametrize("path", ["/var/log", "../x", "a/../b", ".", "a//b", "./a", ".scratch/x", "a\nb", "a'b", "a*"])
def test_no_path(path: str) -> None:
    for variable in ("state_paths", "scratch_paths"):
        assert json.dumps(path) in refused(**{variable: [path]})
    assert refused(working_directory=path) if path != ".scratch/x" else True


def test_paths_that_pass() -> None:
    assert (
        problems(state_paths=["app/logs", ".files/", "my db.sqlite"], scratch_paths=["front"], working_directory="a/b")
        == []
    )
    assert "or in the same path" in refused(state_paths=["a", "a/b"])
    assert "or in the same path" in refused(state_paths=["a/b"], scratch_paths=["a"])
