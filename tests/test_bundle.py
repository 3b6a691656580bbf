"""The packed release: named after its content, the same for everybody, and nothing unpinned in it."""

import os
import re
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from gunicorn_fastapi_controller.problem import InputError
from gunicorn_fastapi_controller.release import bundle
from gunicorn_fastapi_controller.requirements import logical_lines, requirement_name

HASH = "--hash=sha256:" + "0" * 64
OLD = {"python": "3.11", "python_path": "/usr/bin/python3"}
NEW = {**OLD, "python": "3.13"}


def below(name: str) -> str:
    """A member's path in the release's directory."""
    return name.partition("/")[2]


class Project:
    """An application's source and the role's share of a release, on a made-up controller."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.source = root / "source"
        self.source.mkdir()
        self.write("main.py", "app = None\n")
        self.write("requirements.txt", f"fastapi==1.0 {HASH}\n")
        (root / "supply.txt").write_text(f"gunicorn==2.0 {HASH}\nuvicorn-worker==3.0 {HASH}\n")
        (root / "lib/log").mkdir(parents=True)
        (root / "lib/worker.py").write_text("# worker\n")
        (root / "lib/log/journal.py").write_text("# journal\n")
        self.arguments: dict[str, Any] = {
            "source": str(self.source),
            "exclude": [".git", "*.pyc"],
            "requirements": "requirements.txt",
            "supply": str(root / "supply.txt"),
            "library": str(root / "lib"),
            "files": {"etc/environment": 'A="1"\n', "systemd/x.service": "ExecStart=/opt/x/releases/@RELEASE@/venv\n"},
            "identity": OLD,
            "credentials": "",
            "directory": str(root / "cache"),
            "before": {"release": "", "files": {}, "configuration": {}},
        }

    def write(self, name: str, text: str) -> None:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def bundle(self, **changes: Any) -> dict[str, Any]:
        return bundle(**{**self.arguments, **changes})

    def contents(self, **changes: Any) -> dict[str, str]:
        with tarfile.open(str(self.bundle(**changes)["archive"])) as archive:
            files = {below(member.name): archive.extractfile(member) for member in archive if member.isfile()}
            return {name: file.read().decode() for name, file in files.items() if file}


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


def test_only_what_the_list_lacks_is_supplied(project: Project) -> None:
    project.write("requirements.txt", f"FastAPI==1.0 {HASH}\nUvicorn_Worker==0.1 \\\n    {HASH}\n")
    text = project.contents()["requirements.txt"]
    assert [line.split()[0] for line in logical_lines(text)] == ["FastAPI==1.0", "Uvicorn_Worker==0.1", "gunicorn==2.0"]


def test_a_complete_list_stays_as_it_is(project: Project) -> None:
    text = f"gunicorn==1.0 {HASH}\nuvicorn-worker==1.0 {HASH}\n"
    project.write("requirements.txt", text)
    assert project.contents()["requirements.txt"] == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("fastapi\n", "'fastapi' has no --hash"),
        (f"fastapi==1.0 {HASH}\nuvicorn==2.0\n", "'uvicorn==2.0' has no --hash"),
        ("-r other.txt\n", "names another file"),
        ("--requirement other.txt\n", "names another file"),
        ("-c constraints.txt\n", "names another file"),
        ("-e .\n", "names another file"),
    ],
)
def test_an_open_list_is_refused(project: Project, text: str, reason: str) -> None:
    project.write("requirements.txt", text)
    with pytest.raises(InputError, match=f"^gunicorn_fastapi_requirements: .*{reason}"):
        project.bundle()


def test_a_missing_list_is_refused(project: Project) -> None:
    with pytest.raises(InputError, match=r"gunicorn_fastapi_requirements: .*none.txt cannot be read"):
        project.bundle(requirements="none.txt")


def test_a_missing_source_is_refused(project: Project) -> None:
    with pytest.raises(InputError, match=r"gunicorn_fastapi_app_source: .*nowhere is not a directory"):
        project.bundle(source="nowhere")


def test_a_link_out_of_the_source_is_refused(project: Project) -> None:
    (project.source / "secret").symlink_to("/etc/shadow")
    with pytest.raises(InputError, match="secret points out of the source, to /etc/shadow"):
        project.bundle()


def test_a_link_in_the_source_stays_a_link(project: Project) -> None:
    (project.source / "alias.py").symlink_to("main.py")
    with tarfile.open(str(project.bundle()["archive"])) as archive:
        assert {below(m.name): m.linkname for m in archive}["app/alias.py"] == "main.py"


def test_a_socket_in_the_source_is_refused(project: Project) -> None:
    os.mkfifo(project.source / "pipe")
    with pytest.raises(InputError, match="pipe is neither a file nor a directory"):
        project.bundle()


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


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("Foo.Bar_baz==1.0 --hash=x", "foo-bar-baz"),
        ("uvicorn[standard]==1.0", "uvicorn"),
        ("uvloop==1 ; sys_platform != 'win32'", "uvloop"),
        ("pkg @ https://example.com/pkg.whl", "pkg"),
        ("--index-url x", ""),
    ],
)
def test_requirement_names_are_normalized(line: str, name: str) -> None:
    assert requirement_name(line) == name


def test_secrets_leave_no_trace_in_the_release(project: Project) -> None:
    release = project.bundle(credentials="c2VjcmV0")
    assert project.bundle(credentials="c2VjcmV1")["release"] != release["release"]
    packed = project.contents(credentials="c2VjcmV0")
    assert not [name for name, text in packed.items() if "c2VjcmV0" in text]
    assert release["manifest"] == {**project.bundle()["manifest"], "release": release["release"]}


def test_the_manifest_lists_every_package(project: Project) -> None:
    other = "--hash=sha256:" + "1" * 64
    text = f"Fast_API[all]==1.0 \\\n  {HASH} \\\n  {other} # via x\n--only-binary=:all:\n"
    project.write("requirements.txt", f'{text}win==2 ; os_name == "nt" {HASH}\n')
    zeros, ones = "sha256:" + "0" * 64, "sha256:" + "1" * 64
    assert project.bundle()["manifest"]["packages"] == [
        {"name": "fast-api", "version": "1.0", "condition": "", "hashes": [zeros, ones]},
        {"name": "gunicorn", "version": "2.0", "condition": "", "hashes": [zeros]},
        {"name": "uvicorn-worker", "version": "3.0", "condition": "", "hashes": [zeros]},
        {"name": "win", "version": "2", "condition": 'os_name == "nt"', "hashes": [zeros]},
    ]


def test_the_archive_is_one_directory_that_only_its_owner_may_enter(project: Project) -> None:
    made = project.bundle()
    with tarfile.open(str(made["archive"])) as archive:
        first, *others = archive.getmembers()
    assert (first.name, first.isdir(), first.mode) == (made["release"], True, 0o750)
    assert all(member.name.startswith(f"{first.name}/") for member in others)


def test_equal_requirements_share_a_virtualenv(project: Project) -> None:
    first = project.bundle()
    project.write("main.py", "app = 2\n")
    second = project.bundle()
    assert second["release"] != first["release"]
    assert second["virtualenv"] == first["virtualenv"]
    with tarfile.open(str(second["archive"])) as archive:
        link = archive.getmember(f"{second['release']}/venv")
    assert link.linkname == f"../../virtualenvs/{first['virtualenv']}"


def test_other_requirements_and_another_interpreter_make_another_virtualenv(project: Project) -> None:
    names = [project.bundle()["virtualenv"], project.bundle(identity=NEW)["virtualenv"]]
    project.write("requirements.txt", f"fastapi==1.1 {HASH}\n")
    names.append(project.bundle()["virtualenv"])
    assert len(set(names)) == 3
