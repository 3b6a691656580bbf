"""The application's source: what of it goes into a release, and what is said about the rest."""

import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest
from gunicorn_fastapi_controller import archive, release, source
from gunicorn_fastapi_controller.ignored import docker_rule, git_rule, octets
from gunicorn_fastapi_controller.problem import InputError
from projects import Project, below


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def packed(project: Project, **changes: object) -> set[str]:
    """The names of the source's files in the release."""
    with tarfile.open(str(project.bundle(**changes)["archive"])) as tar:
        names = {below(member.name) for member in tar if not member.isdir()}
    return {name.removeprefix("app/") for name in names if name.startswith("app/")}


GIVEN = {"main.py", "requirements.txt"}


def test_a_missing_source_is_refused(project: Project) -> None:
    with pytest.raises(InputError, match=r"gunicorn_fastapi_app_source: .*nowhere is not a directory"):
        project.bundle(source="nowhere")
    with pytest.raises(InputError, match="is not a directory on the controller"):
        project.bundle(source="a" * 5000)


def test_a_link_out_of_the_source_is_refused(project: Project) -> None:
    (project.source / "secret").symlink_to("/etc/shadow")
    with pytest.raises(InputError, match="secret points out of the source, to /etc/shadow"):
        project.bundle()


def test_a_link_in_the_source_stays_a_link(project: Project) -> None:
    (project.source / "alias.py").symlink_to("main.py")
    with tarfile.open(str(project.bundle()["archive"])) as tar:
        assert {below(m.name): m.linkname for m in tar}["app/alias.py"] == "main.py"


def test_a_socket_in_the_source_is_refused(project: Project) -> None:
    os.mkfifo(project.source / "pipe")
    with pytest.raises(InputError, match="pipe is neither a file nor a directory"):
        project.bundle()


def test_an_absolute_link_into_the_source_is_made_relative(project: Project) -> None:
    project.write("static/v1/site.css", "")
    (project.source / "static/current").symlink_to(project.source / "static/v1")
    (project.source / "css").mkdir()
    (project.source / "css/site.css").symlink_to(f"../../{project.source.name}/static/v1/site.css")
    with tarfile.open(str(project.bundle()["archive"])) as tar:
        links = {below(member.name): member.linkname for member in tar if member.issym()}
    assert (links["app/static/current"], links["app/css/site.css"]) == ("v1", "../static/v1/site.css")


def test_a_link_to_what_is_left_out_is_refused(project: Project) -> None:
    project.write(".env", "A=1\n")
    (project.source / "settings").symlink_to(".env")
    with pytest.raises(InputError, match=r"settings points to .env, which is left out .* gunicorn_fastapi_include"):
        project.bundle()
    assert packed(project, include=[".env"]) == {*GIVEN, ".env", "settings"}


def test_a_link_to_itself_is_refused(project: Project) -> None:
    (project.source / "again").symlink_to("again")
    with pytest.raises(InputError, match="again is a link that leads to itself"):
        project.bundle()


def test_a_name_that_is_not_utf_8_is_refused_by_name(project: Project) -> None:
    Path(os.fsdecode(os.fsencode(project.source) + b"/caf\xe9.txt")).touch()
    with pytest.raises(InputError, match=r"caf\\xe9.txt has a name that is not UTF-8. Rename it"):
        project.bundle()
    assert packed(project, exclude=["caf*"]) == GIVEN


def test_what_cannot_be_read_is_refused_by_name(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("private/key", "")
    scandir = os.scandir

    def closed(path: Path) -> object:
        if path.name == "private":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(InputError, match=r"private/? cannot be read: Permission denied. Make it readable"):
        project.bundle()


def test_git_and_docker_say_what_is_left_out(project: Project) -> None:
    project.write(".gitignore", "/static/dist/\n*.log\n!keep.log\nbuild\n")
    project.write("package/.gitignore", "generated_*\n!generated_kept.py\n")
    project.write(".dockerignore", "tests\n**/*.md\n!README.md\n")
    for name in ("static/dist/app.js", "a.log", "deep/keep.log", "deep/build/x", "package/generated_a.py"):
        project.write(name, "")
    for name in ("package/generated_kept.py", "tests/test_a.py", "deep/notes.md", "README.md", "deep/tests/x"):
        project.write(name, "")
    kept = {".gitignore", ".dockerignore", "package/.gitignore"}
    kept |= {"deep/keep.log", "package/generated_kept.py", "README.md", "deep/tests/x"}
    assert packed(project) == GIVEN | kept
    brought_back = {"static/dist/app.js", "tests/test_a.py"}
    assert packed(project, include=["static/dist", "/tests/"]) == GIVEN | kept | brought_back


def test_what_git_tracks_is_in_the_release_although_it_is_ignored(project: Project) -> None:
    project.write(".gitignore", "data/\n*.csv\n")
    project.write("data/model.bin", "")
    project.write("data/other.bin", "")
    project.write("table.csv", "")

    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=project.source, check=True, capture_output=True)

    git("init")
    git("add", "--force", "data/model.bin")
    assert packed(project) == {*GIVEN, ".gitignore", "data/model.bin"}


def test_an_ignored_directory_that_the_operator_names_is_packed(project: Project) -> None:
    (project.root / ".git").mkdir()
    (project.root / ".gitignore").write_text("source/\n*.tmp\n")
    project.write("a.tmp", "")
    assert packed(project) == {*GIVEN, "a.tmp"}
    (project.root / ".gitignore").write_text("*.tmp\n")
    assert packed(project) == GIVEN


def test_what_belongs_to_a_developer_stays_there_and_is_named(project: Project) -> None:
    for name in (".env", ".env.production", ".env.example", "shop.db", "data/shop.sqlite3", "node_modules/a/index.js"):
        project.write(name, "")
    made = project.bundle()
    assert packed(project) == {*GIVEN, ".env.example"}
    secret, database = made["warnings"]
    assert re.search(
        r"^gunicorn_fastapi_app_source: .env, .env.production is not .* by gunicorn_fastapi_environment", secret
    )
    assert re.search(r"data/shop.sqlite3, shop.db is not .* /var/lib/NAME; .* in gunicorn_fastapi_include", database)
    before = {"release": made["release"], "files": {}, "configuration": {}}
    assert project.bundle(before=before)["warnings"] == []
    assert packed(project, include=["*.db", ".env"]) == {*GIVEN, ".env.example", ".env", "shop.db"}
    assert packed(project, include=["node_modules"]) == {*GIVEN, ".env.example", "node_modules/a/index.js"}
    assert packed(project, include=["*.db"], exclude=["shop.db"]) == {*GIVEN, ".env.example"}


@pytest.mark.parametrize("name", ["gunicorn.conf.py", "conf/gunicorn_conf.py", "gunicorn_config.py"])
def test_a_configuration_of_gunicorn_that_is_not_read_is_named_once(project: Project, name: str) -> None:
    project.write("gunicorn.py", "")
    project.write("other.conf.py", "")
    assert project.bundle()["warnings"] == []
    project.write(name, "workers = 3\n")
    made = project.bundle()
    (warning,) = made["warnings"]
    assert warning.startswith(f"gunicorn_fastapi_app_source: {name} is not read: ")
    assert "by gunicorn_fastapi_gunicorn_settings" in warning
    assert name in packed(project)
    before = {"release": made["release"], "files": {}, "configuration": {}}
    assert project.bundle(before=before)["warnings"] == []


def test_the_largest_directories_of_a_large_source_are_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "LARGE", 3 * 2**20)
    project.write("data/a", "x" * 2**20)
    assert project.bundle()["warnings"] == []
    project.write("data/b", "x" * 2**20)
    project.write("media/c", "x" * 2**20)
    (warning,) = project.bundle()["warnings"]
    assert "the source has 3 MB, most of it in data/ 2 MB, media/ 1 MB, " in warning


@pytest.mark.parametrize("text", ["app = 1234\n", "", "app = None\n\n"])
def test_a_file_that_changes_while_it_is_packed_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    pack = archive.pack

    def writing(name: str, members: list[archive.Member], path: Path) -> None:
        project.write("main.py", text)
        pack(name, members, path)

    monkeypatch.setattr(release, "pack", writing)
    with pytest.raises(InputError, match=r"main.py changed while it was packed. Wait until nothing writes"):
        project.bundle()
    assert not list((project.root / "cache").iterdir())


def test_archives_go_after_a_day_and_one_that_another_task_removes_meanwhile_is_none(project: Project) -> None:
    cache = project.root / "cache"
    cache.mkdir()
    old, new, vanished = (cache / f"release-{name}.tar.gz" for name in ("old", "new", "vanished"))
    for archived in (old, new):
        archived.touch()
    os.utime(old, (0, 0))
    vanished.symlink_to("nothing")  # its name is found, and then there is no file
    made = Path(str(project.bundle()["archive"]))
    assert set(cache.iterdir()) == {new, vanished, made}


def test_directories_have_a_mode_of_their_own(project: Project) -> None:
    project.write("package/data/x", "")
    (project.source / "package").chmod(0o700)
    with tarfile.open(str(project.bundle()["archive"])) as tar:
        modes = {below(member.name): member.mode for member in tar if member.isdir()}
    assert modes.pop("") == 0o750
    assert {"app", "app/package", "app/package/data", "etc", "lib/gunicorn_fastapi/log"} <= set(modes)
    assert set(modes.values()) == {0o755}


@pytest.mark.parametrize(
    ("pattern", "fits", "others"),
    [
        ("build", ["build", "a/build"], ["builds", "build/x"]),
        ("/build", ["build"], ["a/build"]),
        ("a/b", ["a/b"], ["x/a/b"]),
        ("**/b", ["b", "a/b", "x/a/b"], ["ab"]),
        ("a/**", ["a/b", "a/b/c"], ["a"]),
        ("a/**/b", ["a/b", "a/x/y/b"], ["ab", "a/xb"]),
        ("*.py[co]", ["x.pyc", "a/x.pyo"], ["x.py", "x.pyx"]),
        ("[!a]b", ["xb"], ["ab", "/b"]),
        ("a?c", ["abc"], ["a/c"]),
        (r"\#x", ["#x"], ["x"]),
        ("trailing  ", ["trailing"], ["trailing  "]),
        ("(a+", ["(a+"], ["aa"]),
        ("[", [], ["a"]),
        ("[a", [], ["a", "[a"]),
        ("//a", [], ["a", "b/a"]),
        (r"[a\-z]", ["a", "-", "z"], ["b"]),
        (r"[\]]", ["]"], ["a"]),
        ("[]a]", ["]", "a"], ["b"]),
        ("[a-c-]", ["b", "-"], ["d"]),
        ("[[:digit:]x]", ["7", "x"], ["a", ":"]),
        ("[^[:alpha:]]", ["7"], ["a"]),
        ("?", ["a"], ["é", "ab"]),
        ("??", ["é", "ab"], ["a"]),
        ("*é", ["é", "caf/café"], ["e"]),
    ],
)
def test_patterns_are_read_as_git_does(pattern: str, fits: list[str], others: list[str], tmp_path: Path) -> None:
    rule = git_rule(pattern, "")
    assert [path for path in [*fits, *others] if rule.pattern.fullmatch(octets(path))] == fits
    # And git itself says the same.
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text(f"{pattern}\n")
    for path in [*fits, *others]:
        if (
            path.startswith("/")
            or path != path.strip()
            or (path not in fits and any(path.startswith(f"{f}/") for f in fits))
        ):
            continue
        asked = ["git", "-C", str(tmp_path), "check-ignore", "--quiet", "--", path]
        assert (subprocess.run(asked, check=False).returncode == 0) == (path in fits), path


@pytest.mark.parametrize(
    ("pattern", "fits", "others"),
    [
        ("build", ["build", "build/x"], ["a/build"]),
        ("/build/", ["build", "build/x"], ["a/build"]),
        ("*/temp*", ["a/temporary", "a/temp/x"], ["a/b/temp"]),
        ("**/*.md", ["a.md", "a/b.md"], ["a.mdx"]),
        ("*", ["a", "a/b"], []),
        ("[!a]b", ["ab", "!b", "ab/x"], ["xb"]),
        ("[^a]b", ["xb"], ["ab", "/b"]),
        ("a**b", ["ab", "a/b", "axyz/b", "axy/z/b"], ["axb"]),
        ("a**", ["a", "ab", "a/b"], ["ba"]),
        ("**a", ["a", "x/a"], ["xa"]),
        ("x/../a", ["a", "a/b"], ["x"]),
        ("./a/", ["a"], ["./a"]),
    ],
)
def test_patterns_are_read_as_docker_does(pattern: str, fits: list[str], others: list[str]) -> None:
    rule = docker_rule(pattern)
    assert [path for path in [*fits, *others] if rule.pattern.fullmatch(path)] == fits


def test_docker_may_leave_out_all_but_something(project: Project) -> None:
    project.write(".dockerignore", "*\n!main.py\n!package\npackage/tests\n")
    project.write("package/a.py", "")
    project.write("package/tests/b.py", "")
    project.write("other/c.py", "")
    assert packed(project) == {"main.py", "package/a.py"}


def test_a_file_of_variables_that_is_given_is_in_no_release(project: Project) -> None:
    project.write("production.env", "A=s3cr3t\n")
    project.write("copies/one", "A=s3cr3t\n")
    assert packed(project) == {*GIVEN, "production.env", "copies/one"}
    assert packed(project, env_file=str(project.source / "production.env")) == GIVEN


def test_a_file_of_variables_that_is_given_is_not_missed(project: Project) -> None:
    project.write(".env", "A=1\n")
    assert [text for text in project.bundle()["warnings"] if "gunicorn_fastapi_env_file" in text]
    assert project.bundle(env_file=str(project.source / ".env"))["warnings"] == []
