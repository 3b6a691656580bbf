"""The packed release: named after its content, the same for everybody, and nothing unpinned in it."""

import os
import re
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from projects import NEW, Project, below


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_equal_content_is_an_equal_release(project: Project) -> None:
    release = project.bundle()["release"]
    os.utime(project.source / "main.py", (1, 1))
    (project.source / "main.py").chmod(0o600)
    project.write(".git/HEAD", "another commit")
    project.write("cache.pyc", "compiled")
    assert project.bundle()["release"] == release


@pytest.mark.parametrize(
    "change",
    [
        {"identity": NEW},
        {"credentials": "c2VjcmV0"},
        {"files": {"etc/environment": 'A="2"\n'}},
        {"exclude": []},
    ],
)
def test_whatever_differs_is_another_release(project: Project, change: dict[str, Any]) -> None:
    project.write("cache.pyc", "compiled")
    assert project.bundle(**change)["release"] != project.bundle()["release"]


def test_source_name_and_mode_count(project: Project) -> None:
    releases = [project.bundle()["release"]]
    project.write("main.py", "app = 1\n")
    releases.append(project.bundle()["release"])
    (project.source / "main.py").rename(project.source / "other.py")
    releases.append(project.bundle()["release"])
    (project.source / "other.py").chmod(0o755)
    releases.append(project.bundle()["release"])
    (project.root / "lib/worker.py").write_text("# another worker\n")
    releases.append(project.bundle()["release"])
    assert len(set(releases)) == len(releases)


def test_the_archive_knows_no_owner_and_no_time(project: Project) -> None:
    with tarfile.open(str(project.bundle()["archive"])) as archive:
        assert {(m.uid, m.gid, m.mtime) for m in archive} == {(0, 0, 0)}
        assert {below(m.name): m.mode for m in archive}["etc/environment"] == 0o640


def test_the_release_knows_its_own_name(project: Project) -> None:
    release = project.bundle()["release"]
    assert project.contents()["systemd/x.service"] == f"ExecStart=/opt/x/releases/{release}/venv\n"


def test_names_are_long_and_shown_short(project: Project) -> None:
    unit = "Description=x, release @RELEASE_SHORT@\n"
    files = {**project.arguments["files"], "systemd/x.service": unit}
    made = project.bundle(files=files)
    assert re.fullmatch("[0-9a-f]{40}", made["release"])
    assert re.fullmatch("[0-9a-f]{40}", made["virtualenv"])
    assert project.contents(files=files)["systemd/x.service"] == f"Description=x, release {made['release'][:12]}\n"
    assert {entry["after_header"].split("/")[0] for entry in made["diff"]} == {made["release"][:12]}


def test_the_words_in_a_variable_stay(project: Project) -> None:
    files = {"etc/environment": 'A="@RELEASE@ @RELEASE_SHORT@"\n', "systemd/x.service": "@RELEASE@\n"}
    assert project.contents(files=files)["etc/environment"] == files["etc/environment"]


def test_the_words_in_the_source_stay(project: Project) -> None:
    project.write("main.py", "text = '@RELEASE@'\n")
    assert project.contents()["app/main.py"] == "text = '@RELEASE@'\n"


def test_the_library_is_packed_with_its_packages(project: Project) -> None:
    packed = {name: text for name, text in project.contents().items() if name.startswith("lib/")}
    assert packed == {
        "lib/gunicorn_fastapi/worker.py": "# worker\n",
        "lib/gunicorn_fastapi/log/journal.py": "# journal\n",
    }


def test_what_would_change_is_shown_by_text_or_by_name(project: Project) -> None:
    first = project.bundle()
    assert first["changed"]
    before = {
        "release": first["release"],
        "files": first["manifest"]["files"],
        "configuration": {"systemd/x.service": "old unit\n"},
    }
    assert not project.bundle(before=before)["changed"]
    assert project.bundle(before=before)["diff"] == []

    project.write("main.py", "app = 2\n")
    files = {"etc/environment": 'SECRET="2"\n', "systemd/x.service": "new unit\n"}
    second = project.bundle(before=before, files=files)
    shown = {entry["after_header"].split("/", 1)[1]: entry for entry in second["diff"]}
    assert shown["systemd/x.service"]["before"] == "old unit\n"
    assert shown["systemd/x.service"]["after"] == "new unit\n"
    others = shown[" (other files)"]
    for side in ("before", "after"):
        assert [line.split()[0] for line in others[side].splitlines()] == ["app/main.py", "etc/environment"]
    assert "SECRET" not in str(second["diff"])


def test_archives_that_nobody_uses_go(project: Project) -> None:
    unused = Path(str(project.bundle()["archive"]))
    long_ago = time.time() - 2 * 86400
    os.utime(unused, (long_ago, long_ago))
    project.bundle(identity=NEW)
    assert not unused.exists()


def test_an_archive_in_use_stays(project: Project) -> None:
    used = Path(str(project.bundle()["archive"]))
    long_ago = time.time() - 2 * 86400
    os.utime(used, (long_ago, long_ago))
    project.bundle()
    project.bundle(identity=NEW)
    assert used.exists()


def test_secrets_leave_no_trace_in_the_release(project: Project) -> None:
    release = project.bundle(credentials="c2VjcmV0")
    assert project.bundle(credentials="c2VjcmV1")["release"] != release["release"]
    packed = project.contents(credentials="c2VjcmV0")
    assert not [name for name, text in packed.items() if "c2VjcmV0" in text]
    assert release["manifest"] == {**project.bundle()["manifest"], "release": release["release"]}


def test_the_archive_is_one_directory_that_only_its_owner_may_enter(project: Project) -> None:
    made = project.bundle()
    with tarfile.open(str(made["archive"])) as archive:
        first, *others = archive.getmembers()
    assert (first.name, first.isdir(), first.mode) == (made["release"], True, 0o750)
    assert all(member.name.startswith(f"{first.name}/") for member in others)


COMMAND = {"etc/release-command": "alembic upgrade head\n", "etc/environment": 'A="1"\n'}


def test_a_release_command_has_one_name_on_all_hosts(project: Project) -> None:
    name = project.bundle(files=COMMAND)["release_command"]
    other = project.bundle(files={**COMMAND, "systemd/shop.service": "[Service]\n"}, identity=NEW)
    assert name
    assert other["release_command"] == name
    assert other["manifest"]["release_command"] == name
    assert other["release"] != project.bundle(files=COMMAND)["release"]
    assert project.bundle()["release_command"] == ""


@pytest.mark.parametrize(
    "change",
    [
        {"files": {**COMMAND, "etc/release-command": "alembic upgrade +1\n"}},
        {"files": {**COMMAND, "etc/environment": 'DATABASE="other"\n'}},
        {"files": COMMAND, "credentials": "c2VjcmV0"},
    ],
)
def test_what_it_works_with_makes_another_name(project: Project, change: dict[str, Any]) -> None:
    assert project.bundle(**change)["release_command"] != project.bundle(files=COMMAND)["release_command"]
    project.write("main.py", "app = 2\n")
    assert project.bundle(files=COMMAND)["release_command"] != project.bundle(**change)["release_command"]
