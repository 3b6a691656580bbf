"""Sources that are commits of git repositories."""

import base64
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from gunicorn_fastapi_controller import git, origin
from gunicorn_fastapi_controller.location import Location
from gunicorn_fastapi_controller.problem import InputError
from gunicorn_fastapi_controller.source import Source
from projects import HASH, Project
from repositories import Repository


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "shop.git")
    made.commit()
    return made


class Controller:
    """Finds sources as a run does."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache

    def found(self, source: str, run: str = "1", path: str = "", version: str = "") -> origin.Origin:
        return origin.found(source, path, version, self.cache, run)


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    return Controller(tmp_path / "cache")


def test_a_branch_a_tag_and_a_commit(repository: Repository, controller: Controller) -> None:
    first = repository.git("rev-parse", "HEAD")
    repository.git("tag", "-a", "v1", "-m", "the first")
    second = repository.commit(text="app = 2\n")
    address = f"git+file://{repository.path}"
    for ref, commit in {
        "": second, "@main": second, "@v1": first, f"@{first}": first, f"@{first[:8]}": first,
        "@refs/tags/v1": first, "@refs/heads/main": second,
    }.items():  # fmt: skip
        found = controller.found(f"{address}{ref}")
        assert found.facts["commit"] == commit
        assert (found.directory / "main.py").read_text() == ("app = None\n" if commit == first else "app = 2\n")


def test_a_run_gets_one_commit_and_the_next_one_the_latest(repository: Repository, controller: Controller) -> None:
    first = controller.found(f"git+file://{repository.path}@main", run="1").facts["commit"]
    second = repository.commit(text="app = 2\n")
    assert controller.found(f"git+file://{repository.path}@main", run="1").facts["commit"] == first
    assert controller.found(f"git+file://{repository.path}@main", run="2").facts["commit"] == second


def test_a_commit_that_is_there_is_not_asked_for(repository: Repository, controller: Controller) -> None:
    commit = repository.git("rev-parse", "HEAD")
    controller.found(f"git+file://{repository.path}@{commit}")
    repository.path.rename(repository.path.with_name("gone"))
    assert controller.found(f"git+file://{repository.path}@{commit}", run="2").facts["commit"] == commit


def test_files_of_a_commit_that_were_half_written_are_written_again(
    repository: Repository, controller: Controller
) -> None:
    found = controller.found(f"git+file://{repository.path}@main")
    (found.directory / "main.py").unlink()
    next(found.directory.parent.parent.glob("whole-*")).unlink()
    assert (controller.found(f"git+file://{repository.path}@main").directory / "main.py").is_file()


def test_files_of_commits_that_nobody_uses_go(repository: Repository, controller: Controller) -> None:
    old = controller.found(f"git+file://{repository.path}@main").directory
    os.utime(old.parent.parent / f"whole-{old.name}", (1, 1))
    repository.commit(text="app = 2\n")
    new = controller.found(f"git+file://{repository.path}@main", run="2").directory
    assert new.is_dir()
    assert not old.exists()


def test_clones_that_nobody_uses_go(repository: Repository, controller: Controller, tmp_path: Path) -> None:
    other = Repository(tmp_path / "other.git")
    other.commit()
    for path in (other.path, repository.path):
        controller.found(f"git+file://{path}@main")
        (unused,) = (controller.cache / "sources").iterdir()
        os.utime(unused / "lock", (1, 1))
    assert git.Clone(Location("git", f"file://{repository.path}"), controller.cache).directory == unused


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("@mian", r"has no branch, tag or commit mian. It has main. Correct what follows the @"),
        ("@" + "0" * 40, "has no commit 0{40}. Correct it"),
        ("@0123abc", "has no branch, tag or commit 0123abc"),
        ("-gone@main", "there is no such repository"),
        ("@both", r"has a branch and a tag both, which differ. Write refs/heads/both or refs/tags/both"),
    ],
)
def test_what_is_not_there_is_told(repository: Repository, controller: Controller, address: str, says: str) -> None:
    repository.git("tag", "both")
    repository.git("checkout", "--quiet", "-b", "both")
    repository.commit(text="app = 2\n")
    repository.git("checkout", "--quiet", "main")
    repository.git("branch", "--quiet", "other")
    repository.git("branch", "--quiet", "-D", "other")
    with pytest.raises(InputError, match=says.replace("It has main.", r"It has main.*\.")):
        controller.found(f"git+file://{repository.path}{address}")


def test_a_controller_without_git_says_so(
    repository: Repository, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(InputError, match=r"git is not there on the controller\. Install it"):
        controller.found(f"git+file://{repository.path}")


def test_submodules_are_part_of_it(repository: Repository, controller: Controller, tmp_path: Path) -> None:
    part = Repository(tmp_path / "part.git")
    part.commit("part.py", "part = 1\n")
    part.commit(".gitignore", "kept.py\n")
    part.commit("kept.py", "kept = 1\n")
    repository.git("submodule", "--quiet", "add", "../part.git", "part")
    repository.git("commit", "--quiet", "--message", "a submodule")
    found = controller.found(f"git+file://{repository.path}@main")
    assert {"part/part.py", "part/kept.py"} <= set(Source(found.application, [".git"], []).members)


def test_a_pointer_of_git_lfs_is_named(
    repository: Repository, controller: Controller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "git-lfs" else real(name))
    repository.commit("static/film.mp4", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    found = controller.found(f"git+file://{repository.path}@main")
    project = Project(tmp_path)
    (found.directory / "requirements.txt").write_text(f"fastapi==1.0 {HASH}\n")
    source = {"source": str(found.directory), "origin": found.facts}
    with pytest.raises(InputError, match=r"static/film.mp4 is a pointer of git-lfs.* Install git-lfs"):
        project.bundle(**source)
    assert project.bundle(**source, exclude=[".git", "*.mp4"])["warnings"] == []
    warnings = project.bundle(**{**source, "origin": {"kind": "directory"}})["warnings"]
    assert [text for text in warnings if "git lfs pull" in text]


def test_nothing_of_a_repository_is_executed(repository: Repository, controller: Controller, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    repository.commit(".gitattributes", "* filter=evil\n")
    repository.git("config", "filter.evil.clean", f"touch {ran}")
    repository.git("config", "core.fsmonitor", f"touch {ran}")
    repository.write("main.py", "app = 3\n")
    assert git.state(repository.path) == (repository.git("rev-parse", "HEAD"), True)
    controller.found(f"git+file://{repository.path}@main")
    assert not ran.exists()


def test_the_state_of_a_directory(repository: Repository, tmp_path: Path) -> None:
    commit = repository.git("rev-parse", "HEAD")
    assert git.state(repository.path) == (commit, False)
    repository.write("api/new.py", "")
    assert git.state(repository.path) == (commit, True)
    repository.commit(".gitignore", "out/\n")
    repository.write("out/main.py", "")
    assert git.state(repository.path / "out") == ("", False)
    (tmp_path / "plain").mkdir()
    assert git.state(tmp_path / "plain") == ("", False)


def test_a_commit_and_a_directory_with_its_files_are_one_release(
    repository: Repository, controller: Controller, tmp_path: Path
) -> None:
    project = Project(tmp_path)
    for name in ("api/main.py", "api/requirements.txt"):
        repository.commit(name, (project.source / name.rpartition("/")[2]).read_text())
    (repository.path / "api/main.py").chmod(0o755)
    repository.git("commit", "--quiet", "-a", "-m", "x")
    (project.source / "main.py").chmod(0o755)
    found = controller.found(f"git+file://{repository.path}@main", path="api", version="v1")
    made = project.bundle(source=str(found.directory), app_path="api", origin=found.facts)
    assert made["release"] == project.bundle()["release"]
    assert made["manifest"]["origin"] == {
        "kind": "git", "source": f"file://{repository.path}", "ref": "main", "path": "api", "version": "v1",
        "commit": repository.git("rev-parse", "HEAD"), "dirty": False, "by": origin.deployer(),
    }  # fmt: skip
    assert "origin" not in project.bundle()["manifest"]


def test_the_rules_above_the_application_s_directory_count(tmp_path: Path) -> None:
    for name, text in {".gitignore": "*.log\n", "api/main.py": "", "api/x.log": ""}.items():
        (tmp_path / "top" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "top" / name).write_text(text)
    assert set(Source(tmp_path / "top/api", [], [], tmp_path / "top").members) == {"main.py"}


@pytest.mark.parametrize(
    ("path", "says"), [("nowhere", "nowhere is not a directory of the source. It has api"), ("main.py", "is not a dir")]
)
def test_a_directory_that_the_source_has_not(
    repository: Repository, controller: Controller, path: str, says: str
) -> None:
    repository.commit("api/main.py")
    with pytest.raises(InputError, match=f"gunicorn_fastapi_app_path: .*{says}"):
        controller.found(str(repository.path), path=path)


@pytest.fixture
def server(repository: Repository) -> Iterator[tuple[str, list[str]]]:
    """A server of the repository that wants a user and a password, and what it was told."""
    repository.git("update-server-info")
    told: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.append(self.headers.get("Authorization", ""))
            path = repository.path / ".git" / self.path.partition("?")[0].removeprefix("/shop.git/")
            allowed = told[-1] == "Basic " + base64.b64encode(b"me:s3cr3t").decode()
            self.send_response(401 if not allowed else 200 if path.is_file() else 404)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.end_headers()
            if allowed and path.is_file():
                self.wfile.write(path.read_bytes())

        def log_message(self, *_: object) -> None:
            pass

    served = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}/shop.git", told
    served.shutdown()
    thread.join()
    served.server_close()


@pytest.fixture
def plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TLS, which only this test does."""
    real = git.git

    def asked(*words: Any, variables: dict[str, str] | None = None) -> str:
        return real(*words, variables={**(variables or {}), "GIT_ALLOW_PROTOCOL": "http"})

    monkeypatch.setattr(git, "git", asked)


@pytest.mark.usefixtures("plain_http")
def test_a_token_is_used_and_is_nowhere(
    server: tuple[str, list[str]], tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, told = server
    kept = tmp_path / "kept-by-helper"
    (tmp_path / "gitconfig").write_text(f"[credential]\n\thelper = store --file {kept}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    asked: list[list[str]] = []
    real = subprocess.run

    def noted(command: list[str], **given: Any) -> Any:
        asked.append(command)
        return real(command, **given)

    monkeypatch.setattr(subprocess, "run", noted)
    clone = git.Clone(Location("git", url, "main", "me", "s3cr3t"), tmp_path / "cache")
    commit, tree = clone.checked_out("1")
    assert commit == repository.git("rev-parse", "HEAD")
    assert (tree / "main.py").is_file()
    assert any(told)
    assert asked
    assert "s3cr3t" not in str(asked)
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"s3cr3t" in path.read_bytes()]
    assert not kept.exists()
    assert stat.S_IMODE(clone.directory.stat().st_mode) == 0o700


@pytest.mark.usefixtures("plain_http")
def test_a_wrong_token_is_denied_and_not_repeated(server: tuple[str, list[str]], tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        git.Clone(Location("git", server[0], "main", "me", "wr0ng"), tmp_path / "cache").checked_out("1")
    assert "access is denied" in str(caught.value)
    assert "wr0ng" not in str(caught.value)


def played(directory: Path, tasks: list[dict[str, Any]], *options: str, **play: Any) -> str:
    """What a play on this machine prints, which knows the role's modules."""
    root = Path(__file__).parent.parent
    known = {"ansible.builtin.import_role": {"name": "gunicorn_fastapi", "tasks_from": "status"}, "when": False}
    whole = {"hosts": "all", "connection": "local", "gather_facts": False, "tasks": [known, *tasks], **play}
    (directory / "play.yml").write_text(json.dumps([whole]))
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", *options, directory / "play.yml"],
        env={**os.environ, "ANSIBLE_CONFIG": str(root / "ansible.cfg"), "ANSIBLE_ROLES_PATH": str(root / "roles")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


FETCH = {"cache": "{{ __gunicorn_fastapi_cache }}", "path": "", "version": "", "module": ""}
FETCH |= {"build_command": ""}


def test_all_hosts_of_a_run_get_one_commit(repository: Repository, tmp_path: Path) -> None:
    """Also those of a later batch, when somebody has pushed meanwhile."""
    before = repository.commit(text="from fastapi import FastAPI\napp = FastAPI()\n")
    commit = f"git -C {repository.path} -c user.name=t -c user.email=t@t commit --quiet --allow-empty -m x"
    tasks: list[dict[str, Any]] = [
        {"gunicorn_fastapi_source": FETCH, "register": "found"},
        {"ansible.builtin.debug": {"msg": "{{ inventory_hostname }} gets {{ found.origin.commit }}"}},
        {"ansible.builtin.command": commit},
    ]
    variables = {
        "gunicorn_fastapi_app_source": f"git+file://{repository.path}@main",
        "gunicorn_fastapi_build_environment": {},
        "__gunicorn_fastapi_cache": str(tmp_path / "cache"),
        "ansible_python_interpreter": sys.executable,
    }
    said = played(tmp_path, tasks, "--inventory=one,two,", serial=1, vars=variables)
    assert repository.git("rev-parse", "HEAD") != before
    assert (f"one gets {before}" in said, f"two gets {before}" in said) == (True, True), said


def test_no_output_of_a_run_has_the_token(tmp_path: Path) -> None:
    """With all that -vvv prints, of the checks and of the task that fetches."""
    variables = {
        "gunicorn_fastapi_app_source": "git+https://s3cr3t@127.0.0.1:1/shop.git@main",
        "__gunicorn_fastapi_cache": str(tmp_path / "cache"),
    }
    role: dict[str, Any] = {"name": "gunicorn_fastapi", "tasks_from": "input", "public": True}
    tasks: list[dict[str, Any]] = [{"ansible.builtin.include_role": role}, {"gunicorn_fastapi_source": FETCH}]
    said = played(tmp_path, tasks, "-vvv", "--inventory=localhost,", vars=variables)
    assert "its host cannot be reached" in said
    assert "s3cr3t" not in said
