"""The lock file: what is installed is what was read, and what two programs read differently is refused."""

import hashlib
import tarfile
from pathlib import Path

import pytest
from gunicorn_fastapi_controller.lines import logical_lines
from gunicorn_fastapi_controller.problem import InputError
from projects import HASH, NEW, OLD, Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_only_what_the_list_lacks_is_supplied(project: Project) -> None:
    project.write("requirements.txt", f"FastAPI==1.0 {HASH}\nUvicorn_Worker==0.1 \\\n    {HASH}\n")
    text = project.contents()["requirements.txt"]
    assert [line.split()[0] for _, line in logical_lines(text)] == [
        "FastAPI==1.0",
        "Uvicorn_Worker==0.1",
        "gunicorn==2.0",
    ]


def test_a_complete_list_stays_as_it_is(project: Project) -> None:
    text = f"gunicorn==27.0 {HASH}\nuvicorn-worker==1.0 {HASH}\n"
    project.write("requirements.txt", text)
    assert project.contents()["requirements.txt"] == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("fastapi\n", "'fastapi' has no --hash"),
        (f"fastapi==1.0 {HASH}\nuvicorn==2.0\n", "'uvicorn==2.0' has no --hash"),
        (f"-r other.txt\nsix==1 {HASH}\n", "names another file"),
        (f"--requirement other.txt\nsix==1 {HASH}\n", "names another file"),
        (f"-c constraints.txt\nsix==1 {HASH}\n", "names another file"),
        ("-e .\n", "names source that would have to be built"),
    ],
)
def test_an_open_list_is_refused(project: Project, text: str, reason: str) -> None:
    project.write("requirements.txt", text)
    with pytest.raises(InputError, match=f"^gunicorn_fastapi_requirements: .*{reason}"):
        project.bundle(locked=text)  # what uv has made of a list without hashes is read as strictly


def test_a_missing_list_is_refused(project: Project) -> None:
    with pytest.raises(InputError, match=r"gunicorn_fastapi_requirements: .*none.txt cannot be read"):
        project.bundle(requirements="none.txt")


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("Foo.Bar_baz==1.0", "foo-bar-baz"),
        ("uvicorn[standard]==1.0", "uvicorn"),
        ("uvloop==1 ; sys_platform != 'win32'", "uvloop"),
        ("pkg @ https://example.com/pkg-1-py3-none-any.whl", "pkg"),
        ("https://example.com/a_pkg-1-py3-none-any.whl", "a-pkg"),
    ],
)
def test_requirement_names_are_normalized(project: Project, line: str, name: str) -> None:
    project.write("requirements.txt", f"{line} {HASH}\n--index-url https://example.com/simple\n")
    assert [entry.key for entry in project.read().entries] == [name]


def test_the_manifest_lists_every_package(project: Project) -> None:
    other = "--hash=sha256:" + "1" * 64
    text = f"Fast_API[all]==1.0 \\\n  {HASH} \\\n  {other} # via x\n--only-binary=:all:\n"
    project.write("requirements.txt", f'{text}win==2 ; os_name == "nt" {HASH}\n')
    zeros, ones = "sha256:" + "0" * 64, "sha256:" + "1" * 64
    assert project.bundle()["manifest"]["packages"] == [
        {"name": "fast-api", "version": "1.0", "condition": "", "applies": True, "hashes": [zeros, ones]},
        {"name": "gunicorn", "version": "2.0", "condition": "", "applies": True, "hashes": [zeros]},
        {"name": "uvicorn-worker", "version": "3.0", "condition": "", "applies": True, "hashes": [zeros]},
        {"name": "win", "version": "2", "condition": 'os_name == "nt"', "applies": False, "hashes": [zeros]},
    ]


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


def entries(project: Project, text: str) -> list[str]:
    """The lines of the release's own list that come from this text."""
    project.write("requirements.txt", text)
    return str(project.read()).splitlines()


@pytest.mark.parametrize(
    "text",
    [
        f"fastapi==1.0 {HASH}\n# a comment that ends with a backslash \\\nsix==1.17.0 {HASH}\n",
        f"\ufefffastapi==1.0 {HASH}\r\nsix==1.17.0 \\\r\n  {HASH}\r\n",
        f"fastapi == 1.0 \\\n\t--hash {HASH[7:]}\n\n \nsix==1.17.0 {HASH} #x\n",
        f"fastapi (==1.0) {HASH} {HASH}\nsix==1.17.0 {HASH} \\",
        f"--require-hashes\n--only-binary :all:\n--pre\nfastapi==1.0 {HASH}\nsix==1.17.0 {HASH}",
        f"fastapi==1.0 {HASH}\rsix==1.17.0 {HASH}\r",
    ],
)
def test_what_is_installed_is_what_was_read(project: Project, text: str) -> None:
    assert entries(project, text) == [f"fastapi==1.0 {HASH}", f"six==1.17.0 {HASH}"]
    manifest = project.bundle()["manifest"]["packages"]
    assert [package["name"] for package in manifest] == ["fastapi", "gunicorn", "six", "uvicorn-worker"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            f"fastapi==1.0 {HASH} # why \\\nsix==1 {HASH}\n",
            ":1: 'fastapi==1.0' has a comment that ends with a backslash",
        ),
        (f"fast\\\napi==1.0 {HASH}\n", ":2: .*continues a word"),
        (f"fastapi==1.0 \\ \n {HASH}\n", ":1: .*backslash that is not at the end"),
        (f"# a\u2028six==1 {HASH}\n", r":1: '# a\\u2028six==1' has a control character"),
        (f"# a\x0csix==1 {HASH}\n", ":1: .*has a control character"),
        (f"fastapi==${{VERSION}} {HASH}\n", "depends on a variable of whoever"),
        (
            f"--index-url https://me:secret@example.com/simple\nsix==1 {HASH}\n",
            "'--index-url https://...@example.com/simple' contains",
        ),
        (f"six @ https://token@example.com/six-1-py3-none-any.whl {HASH}\n", "contains a user or password"),
        (
            "--index-url https://example.com/simple?key=secret\n",
            r"'--index-url https://example.com/simple\?\.\.\.' has",
        ),
        (f"https://example.com/six-1-py3-none-any.whl?X-Sig=token {HASH}\n", "has an address with a query"),
        (f"six @ ftp://example.com/six-1-py3-none-any.whl {HASH}\n", "an address that is neither"),
        (f"six>=1 {HASH}\n", "'six>=1' is not pinned to one version"),
        (f"six==1.* {HASH}\n", "is not pinned to one version"),
        (f"six==1,<2 {HASH}\n", "is not pinned to one version"),
        (f"six ==1 ; python_versio > '3' {HASH}\n", "is not valid: "),
        ("six==1 --hash=md5:d41d8cd98f00b204e9800998ecf8427e\n", "has a hash that is no sha256"),
        ("six==1 --hash=sha256:abc\n", "has a hash that is no sha256"),
        (f"six==1 {HASH} --config-settings=a=b\n", "has '--config-settings=a=b', and only --hash"),
        (f"six==1\n{HASH}\n", "'six==1' has no --hash"),
        (f"six==1 {HASH}\n{HASH}\n", ":2: .*End the line before it with a backslash"),
        (f"git+https://example.com/six {HASH}\n", "names a repository"),
        (f"./six-1.tar.gz {HASH}\n", "names no wheel"),
        (f"https://example.com/six-1.zip {HASH}\n", "names no wheel"),
        (f"other @ https://example.com/six-1-py3-none-any.whl {HASH}\n", "wheel of another package, six"),
        (f"./wheels/six-1-py3-none-any.whl {HASH}\n", "a path that does not exist; it is meant from"),
        (f"../six-1-py3-none-any.whl {HASH}\n", "a path outside of the source"),
        (f"file:///srv/six-1-py3-none-any.whl {HASH}\n", "a path outside of the source"),
        ("--find-links /srv/wheels\n", "a path outside of the source"),
        ("--no-binary :all:\n", "building would run its code as root"),
        ("--trusted-host example.com\n", "disables certificate verification"),
        ("--index-url example\n", "not a URL"),
        ("--use-feature=fast-deps\n", "is an unsupported option"),
        (f"-rother.txt\nsix==1 {HASH}\n", "names another file"),
        (".\n", "names source that would have to be built"),
        (f".[all] {HASH}\n", "names source that would have to be built"),
        ("--editable=file:///srv/shop\n", "names source that would have to be built"),
        (f"six==1 ; 'dev' in extras {HASH}\n", "the condition of six .* can be asked of no host"),
        (f"six==1 ; sys_platform ~= 'linux' {HASH}\n", "the condition of six .* can be asked of no host"),
    ],
)
def test_a_line_with_two_meanings_or_none_is_refused(project: Project, text: str, reason: str) -> None:
    project.write("requirements.txt", text)
    with pytest.raises(InputError, match=f"^gunicorn_fastapi_requirements: .*{reason}") as refused:
        project.bundle(locked=text)
    assert "secret" not in str(refused.value)
    assert "token" not in str(refused.value)


def test_one_package_in_two_versions_is_refused_where_both_apply(project: Project) -> None:
    old, new = f"numpy==1.0 ; python_version < '3.12' {HASH}\n", f"numpy==2.0 ; python_version >= '3.12' {HASH}\n"
    project.write("requirements.txt", old + new)
    applies = {p["version"]: p["applies"] for p in project.bundle()["manifest"]["packages"] if p["name"] == "numpy"}
    assert applies == {"1.0": True, "2.0": False}
    project.write("requirements.txt", old + f"NumPy==2.0 {HASH}\n")
    with pytest.raises(InputError, match=r"has numpy twice for Python 3.11 on x86_64, as 1.0 and as 2.0. Remove one"):
        project.bundle()


def test_a_condition_is_the_hosts(project: Project) -> None:
    project.write("requirements.txt", f"gunicorn==27.0 ; sys_platform == 'win32' {HASH}\n")
    assert project.bundle()["supplied"] == ["gunicorn==2.0", "uvicorn-worker==3.0"]
    project.write("requirements.txt", f"gunicorn==27.0 ; platform_machine == 'aarch64' {HASH}\n")
    assert project.bundle(machine="aarch64")["supplied"] == ["uvicorn-worker==3.0"]
    assert project.bundle(machine="x86_64")["supplied"] == ["gunicorn==2.0", "uvicorn-worker==3.0"]


def test_paths_are_meant_from_where_the_list_stands(project: Project) -> None:
    wheel = "six-1.17.0-py2.py3-none-any.whl"
    project.write(f"deploy/wheels/{wheel}", "a wheel")
    digest = f"--hash=sha256:{hashlib.sha256(b'a wheel').hexdigest()}"
    project.write(
        "deploy/list.txt",
        f"--find-links ./wheels\n./wheels/{wheel} {digest}\nwheels/{wheel}; os_name == 'nt' {digest}\n",
    )
    assert project.contents(requirements="deploy/list.txt")["requirements.txt"].splitlines()[:3] == [
        "--find-links ./app/deploy/wheels",
        f"./app/deploy/wheels/{wheel} {digest}",
        f'./app/deploy/wheels/{wheel} ; os_name == "nt" {digest}',
    ]
    six = next(p for p in project.bundle(requirements="deploy/list.txt")["manifest"]["packages"] if p["name"] == "six")
    assert (six["version"], six["hashes"]) == ("1.17.0", [digest.removeprefix("--hash=")])
    project.write("deploy/list.txt", f"./wheels/{wheel} {HASH}\n")
    with pytest.raises(InputError, match=r"list.txt:1: .* has a hash that is not the wheel's"):
        project.bundle(requirements="deploy/list.txt")
    project.write("deploy/list.txt", f"./wheels/{wheel} {digest}\n")
    project.write(".gitignore", "*.whl\n")
    with pytest.raises(InputError, match=r"is left out of the release. Name it in gunicorn_fastapi_include"):
        project.bundle(requirements="deploy/list.txt")
    assert project.bundle(requirements="deploy/list.txt", include=["deploy/wheels"])["release"]


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("-ihttps://example.com/simple", "--index-url https://example.com/simple"),
        (
            f"HTTPS://example.com/six-1-py3-none-any.whl {HASH}",
            f"six @ HTTPS://example.com/six-1-py3-none-any.whl {HASH}",
        ),
        (
            f"six @ https://example.com/six-1-py3-none-any.whl#egg=six&sha256={'0' * 64}",
            f"six @ https://example.com/six-1-py3-none-any.whl {HASH}",
        ),
    ],
)
def test_other_spellings_of_an_address(project: Project, line: str, read: str) -> None:
    assert entries(project, f"{line}\n") == [read]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_list_in_another_encoding_is_refused_as_such(project: Project, encoding: str) -> None:
    (project.source / "requirements.txt").write_bytes(f"# é\nfastapi==1.0 {HASH}\n".encode(encoding))
    with pytest.raises(InputError, match=r"requirements.txt is not UTF-8 at its byte \d, .* Save it as UTF-8"):
        project.bundle()


@pytest.mark.parametrize(
    ("python", "taken"), [("3.11.2", "1.0"), ("3.14.2+", "1.0"), ("3.15.0a3+", "2.0"), ("3.15.0rc2", "2.0")]
)
def test_a_python_from_between_two_versions(project: Project, python: str, taken: str) -> None:
    project.write("pyproject.toml", '[project]\nname = "x"\nrequires-python = ">=3.11"\n')
    old, new = "python_version < '3.15' and implementation_version < '3.15'", "python_version >= '3.15'"
    project.write("requirements.txt", f"six==1.0 ; {old} {HASH}\nsix==2.0 ; {new} {HASH}\n")
    made = project.bundle(identity={**OLD, "python": python})
    assert [p["version"] for p in made["manifest"]["packages"] if p["name"] == "six" and p["applies"]] == [taken]
    assert any("newer than 3.14" in warning for warning in made["warnings"]) == (taken == "2.0")


def test_an_index_is_no_part_of_a_virtualenv(project: Project) -> None:
    first = project.bundle()
    project.write("requirements.txt", f"-i https://example.com/simple\n# new\nfastapi==1.0 {HASH}\n")
    second = project.bundle()
    assert second["release"] != first["release"]
    assert second["virtualenv"] == first["virtualenv"]
    assert project.contents()["requirements.txt"].startswith("--index-url https://example.com/simple\nfastapi==1.0 ")


@pytest.mark.parametrize(
    ("there", "advised"),
    [
        ("requirements.in", "uv pip compile --generate-hashes --output-file requirements.txt requirements.in$"),
        ("uv.lock", "uv export .* --output-file requirements.txt$"),
        ("poetry.lock", "poetry export .* --output requirements.txt$"),
        ("pyproject.toml", "uv pip compile .* pyproject.toml$"),
        ("notes.md", r"requirements.in \(before that: mv requirements.txt requirements.in\)$"),
    ],
)
def test_advice_names_what_is_there(project: Project, there: str, advised: str) -> None:
    project.write(there, "")
    project.write("requirements.txt", f"six==1\nidna==1 {HASH}\n")
    with pytest.raises(InputError, match=advised):
        project.bundle(requirements="requirements.txt")


def test_another_python_than_the_source_asks_for_is_refused(project: Project) -> None:
    project.write("pyproject.toml", '[project]\nname = "x"\nrequires-python = ">=3.12"\n')
    with pytest.raises(InputError, match=r"the host's Python is 3.11, .* '>=3.12'. Name one .* \"3.14\""):
        project.bundle()
    assert project.bundle(identity=NEW)["release"]
