"""Which list of packages counts, and what uv is asked about it."""

import base64
import hashlib
import json
from pathlib import Path

import pytest
from gunicorn_fastapi_controller import compared, lists
from gunicorn_fastapi_controller.problem import InputError
from gunicorn_fastapi_controller.requirements import Entry
from gunicorn_fastapi_controller.server import Host
from projects import HASH, Project

HOST = Host("3.13.5", "x86_64")
PROJECT = '[project]\nname = "shop"\nversion = "1"\ndependencies = ["fastapi"]\n'


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return tmp_path


def write(top: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


LOCK = '[[package]]\nname = "httptools"\nversion = "0.1"\n'
HASHED, OPEN = f"six==1 {HASH}\n", "six\n"


@pytest.mark.parametrize(
    ("files", "application", "found", "kind"),
    [
        (
            {"requirements.txt": HASHED, "requirements.in": OPEN, "pyproject.toml": PROJECT},
            "",
            "requirements.txt",
            "list",
        ),
        ({"requirements.txt": OPEN, "requirements.in": OPEN}, "", "requirements.txt", "compile"),
        ({"requirements.in": OPEN, "pyproject.toml": PROJECT}, "", "requirements.in", "compile"),
        (
            {"requirements.txt": "# none: the role has all\n-i https://example.com/simple\n"},
            "",
            "requirements.txt",
            "list",
        ),
        ({"requirements.txt": "-r base.txt\n"}, "", "requirements.txt", "compile"),
        ({"pdm.lock": "", "requirements.txt": HASHED}, "", "pdm.lock", "pins"),
        ({"poetry.lock": "", "pdm.lock": ""}, "", "poetry.lock", "pins"),
        ({"uv.lock": "", "poetry.lock": ""}, "", "uv.lock", "uv"),
        ({"pylock.toml": "", "uv.lock": ""}, "", "pylock.toml", "pylock"),
        ({"pyproject.toml": PROJECT}, "", "pyproject.toml", "project"),
        # The workspace's lock counts for its member, and what belongs to another directory does not.
        ({"uv.lock": "", "api/pyproject.toml": PROJECT}, "api", "uv.lock", "uv"),
        ({"requirements.txt": HASHED, "api/pyproject.toml": PROJECT}, "api", "api/pyproject.toml", "project"),
        ({"requirements.txt": HASHED, "api/main.py": ""}, "api", "requirements.txt", "list"),
        ({"uv.lock": "", "api/requirements.txt": OPEN}, "api", "api/requirements.txt", "compile"),
        # A pyproject.toml for tools alone is none.
        ({"pyproject.toml": PROJECT, "api/pyproject.toml": "[tool.ruff]\n"}, "api", "pyproject.toml", "project"),
    ],
)
def test_the_nearest_list_counts(top: Path, files: dict[str, str], application: str, found: str, kind: str) -> None:
    write(top, files)
    assert lists.find(top, top / application, "") == lists.Found(top / found, kind)


def test_none_above_the_source_counts(top: Path) -> None:
    write(top, {"requirements.txt": HASHED, "source/main.py": ""})
    with pytest.raises(InputError, match=r"has no list of packages, and neither has .* Write one, or name it in"):
        lists.find(top / "source", top / "source", "")


def test_the_one_that_is_named_counts(top: Path) -> None:
    write(top, {"uv.lock": "", "locks/prod.txt": HASHED})
    assert lists.find(top, top, "locks/prod.txt").kind == "list"
    with pytest.raises(InputError, match="is outside of the source"):
        lists.find(top, top, "../other.txt")


def question(top: Path, application: str = "", **more: object) -> dict[str, object]:
    asked: dict[str, object] = {"extras": [], "groups": [], "date": "", "host": HOST, "upgrade": [], **more}
    found = lists.find(top, top / application, "")
    words = [asked[name] for name in ("extras", "groups", "host", "date", "upgrade")]
    return lists.question(found, top, top / application, *words)  # type: ignore[arg-type]


def test_a_workspace_s_lock_is_exported_for_its_member(top: Path) -> None:
    write(top, {"uv.lock": LOCK, "pyproject.toml": "", "api/pyproject.toml": PROJECT, ".venv/pyproject.toml": ""})
    asked = question(top, "api", extras=["pg"], groups=["extra"])
    assert asked["directory"] == "api"
    assert sorted(asked["files"]) == ["api/pyproject.toml", "pyproject.toml", "uv.lock"]  # type: ignore[call-overload]
    words = {"export", "--frozen", "--no-default-groups", "--extra=pg", "--group=extra", "--no-emit-workspace"}
    assert words <= set(asked["command"])  # type: ignore[call-overload]
    assert not asked["resolves"]


def test_a_lock_is_changed_for_what_is_to_be_upgraded_and_for_nothing_else(top: Path) -> None:
    exact = """[project]
dependencies = ["httptools[x]==0.1; python_version > '3'", 'six==1']
[project.optional-dependencies]
pg = ["httptools==0.1"]
"""
    write(top, {"uv.lock": LOCK, "pyproject.toml": exact})
    asked = question(top, upgrade=["HttpTools"])
    assert "--upgrade-package=httptools" in asked["command"]  # type: ignore[operator]
    assert "--frozen" not in asked["command"]  # type: ignore[operator]
    assert asked["resolves"]
    sent = asked["files"]["pyproject.toml"]  # type: ignore[index]
    assert sent == exact.replace("[x]==0.1;", "[x] ;").replace('"httptools==0.1"', '"httptools"')
    assert asked["key"] != question(top)["key"]
    with pytest.raises(InputError, match=r"^gunicorn_fastapi_upgrade: .*uv.lock has no package httptool\. Correct"):
        question(top, upgrade=["httptool"])


WORKSPACE = """version = 1
[[package]]
name = "api"
source = { virtual = "apps/api" }
dependencies = [
    { name = "shared" },
]
[[package]]
name = "shared"
source = { editable = "libs/shared" }
dependencies = [{ name = "idna" }, { name = "deep", extra = ["x"],
  }]
[[package]]
name = "deep"
source = { directory = "libs/deep" }
[[package]]
name = "jobs"
source = { editable = "apps/jobs" }
[[package]]
name = "idna"
source = { registry = "https://example.com/simple" }
"""


def test_members_that_the_application_needs_are_sent_to_be_built(top: Path) -> None:
    for name in ("apps/api", "apps/jobs", "libs/shared", "libs/deep"):
        write(top, {f"{name}/pyproject.toml": PROJECT, f"{name}/src/x.py": name, f"{name}/dist/old.whl": ""})
    write(top, {"uv.lock": WORKSPACE, "pyproject.toml": ""})
    asked = question(top, "apps/api")
    assert sorted(asked["sources"]) == [  # type: ignore[call-overload]
        f"libs/{name}/{file}" for name in ("deep", "shared") for file in ("pyproject.toml", "src/x.py")
    ]
    assert base64.b64decode(asked["sources"]["libs/shared/src/x.py"]) == b"libs/shared"  # type: ignore[index]
    words = asked["command"]
    assert {"--no-emit-project", "--no-editable", "--frozen"} <= set(words)  # type: ignore[call-overload]
    assert "--no-emit-workspace" not in words  # type: ignore[operator]
    write(top, {"apps/api/main.py": "x = 1", "apps/jobs/src/x.py": "y"})
    assert question(top, "apps/api")["key"] == asked["key"]
    write(top, {"libs/deep/src/x.py": "y = 1"})
    assert question(top, "apps/api")["key"] != asked["key"]


def test_a_package_from_elsewhere_is_refused(top: Path) -> None:
    write(top, {"uv.lock": WORKSPACE.replace("libs/deep", "../deep"), "apps/api/pyproject.toml": PROJECT})
    write(top, {"libs/shared/pyproject.toml": PROJECT})
    with pytest.raises(InputError, match=r"has a package from ../deep, which is no directory below it"):
        question(top, "apps/api")


def test_a_list_without_hashes_is_loosened_for_it(top: Path) -> None:
    text = (
        "uvicorn[standard]==0.20.0 ; python_version > '3'\nsix==1\n-c pins.txt\nuvicorn @ https://example.com/x.whl\n"
    )
    write(top, {"requirements.txt": text, "pins.txt": "Uvicorn==0.20.0\n"})
    files = question(top, upgrade=["uvicorn"])["files"]
    first = 'uvicorn[standard] ; python_version > "3"\n'
    assert files["requirements.txt"] == first + text.partition("\n")[2]  # type: ignore[index]
    assert files["pins.txt"] == "Uvicorn\n"  # type: ignore[index]


def test_a_list_with_hashes_is_not_upgraded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^gunicorn_fastapi_upgrade: .* is installed as it stands\. Remove"):
        Project(tmp_path).bundle(upgrade=["six"])


def test_what_is_refused_in_a_lock_is_told_with_the_upgrade(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("requirements.txt", "httptools==0.6.1\nuvicorn==0.20\n")
    said = r"httptools 0.6.1 is older .* Then lock it again\. Or, .*: gunicorn_fastapi_upgrade: \[uvicorn, httptools\]$"
    with pytest.raises(InputError, match=said):
        project.bundle(locked=f"httptools==0.6.1 {HASH}\nuvicorn==0.20 {HASH}\n")


def test_the_resolver_is_told_which_servers_are_supported(top: Path) -> None:
    write(top, {"pyproject.toml": PROJECT})
    asked = question(top, date="2023-06-30")
    assert asked["files"][lists.CONSTRAINTS] == "uvicorn>=0.30,<0.55\ngunicorn>=21.2,<28\nhttptools>=0.6.3\n"  # type: ignore[index]
    command = asked["command"]
    assert {f"--constraints={lists.CONSTRAINTS}", "--generate-hashes", "--no-build"} <= set(command)  # type: ignore[call-overload]
    assert command[-1] == "--exclude-newer=2023-06-30"  # type: ignore[index]


def test_an_answer_is_kept_for_what_decides_it(top: Path) -> None:
    write(top, {"pyproject.toml": PROJECT})
    key = question(top)["key"]
    write(top, {"pyproject.toml": PROJECT.replace('"1"', '"2"') + "[tool.ruff]\n"})
    assert question(top)["key"] == question(top, host=Host("3.13.9", "x86_64"))["key"] == key
    others = [
        question(top, host=Host("3.12.1", "x86_64")), question(top, host=Host("3.13.5", "aarch64")),
        question(top, date="2023-06-30"), question(top, groups=["a"]), question(top, extras=["a"]),
    ]  # fmt: skip
    write(top, {"pyproject.toml": PROJECT.replace("fastapi", "fastapi>=1")})
    keys = {key, *(other["key"] for other in (*others, question(top)))}
    assert len(keys) == 7


def test_a_list_is_sent_with_those_that_it_names_and_without_what_stays_here(top: Path) -> None:
    text = "# why\n-r api/base.txt # x\n-e .\n.[all]\n--index-url https://example.com/simple\nsix>=1 # y\n"
    write(top, {"requirements.txt": text, "api/base.txt": "-c ../pins.txt\nidna\n", "pins.txt": "idna==3\n"})
    asked = question(top)
    files = dict(asked["files"])  # type: ignore[call-overload]
    del files[lists.CONSTRAINTS]
    assert files == {
        "requirements.txt": "-r api/base.txt\nsix>=1\n",
        "api/base.txt": "-c ../pins.txt\nidna\n",
        "pins.txt": "idna==3\n",
    }
    assert lists.index_lines(lists.find(top, top, ""), top) == ["--index-url https://example.com/simple"]
    write(top, {"pins.txt": "-r ../../secret.txt\n"})
    with pytest.raises(InputError, match="names a list outside of the source"):
        question(top)


def test_a_list_has_neither_extras_nor_groups(tmp_path: Path) -> None:
    project = Project(tmp_path)
    write(project.source, {"requirements.txt": OPEN})
    with pytest.raises(InputError, match=r"^gunicorn_fastapi_groups: .* has none of them"):
        question(project.source, groups=["x"])
    write(project.source, {"requirements.txt": HASHED})
    for variable in ("extras", "groups"):
        with pytest.raises(InputError, match=f"^gunicorn_fastapi_{variable}: .* has none of them"):
            project.bundle(**{variable: ["x"], "locked": HASHED})


def test_what_poetry_alone_can_resolve_is_said(top: Path) -> None:
    write(top, {"pyproject.toml": '[tool.poetry.dependencies]\npython = "^3.11"\nfastapi = "^0.100"\n'})
    with pytest.raises(InputError, match=r"Make its lock \(poetry lock\)"):
        question(top)


def test_a_release_has_what_uv_has_made(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("requirements.txt", "--extra-index-url https://example.com/simple\nfastapi\n")
    text = project.contents(locked=f"fastapi==1.0 {HASH}\n")["requirements.txt"]
    assert text.startswith(f"--extra-index-url https://example.com/simple\nfastapi==1.0 {HASH}\n")
    with pytest.raises(InputError, match="names no package that is needed here"):
        project.bundle()


def test_lists_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write(
        "uv.lock", '[[package]]\nname = "fastapi"\nversion = "2.0"\n[[package]]\nname = "six"\nversion = "1"\n'
    )
    project.write("requirements.in", "fastapi==1.*\nsix==2\n")
    (warning,) = project.bundle(requirements="requirements.txt")["warnings"]
    assert warning.startswith(
        "requirements.txt, which counts, has fastapi 1.0, and uv.lock beside it has 2.0. Make one"
    )
    entries = [Entry("fastapi", "2.0"), Entry("six", "1")]
    (first, second) = compared.contradictions(project.source / "pylock.toml", entries)
    assert "requirements.txt beside it has 1.0." in first
    assert "has six 1, and requirements.in beside it has 2." in second


def test_the_key_is_of_json_that_does_not_depend_on_order(top: Path) -> None:
    write(top, {"pyproject.toml": PROJECT})
    assert question(top, groups=["a", "b"])["key"] == question(top, groups=["b", "a"])["key"]
    assert json.dumps(question(top))


def test_a_release_has_the_wheels_that_were_built_for_it(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("requirements.txt", "docopt\n")
    content = b"content of a wheel" * 1000
    texts = [base64.b64encode(content[i : i + 12_000]).decode() for i in range(0, len(content), 12_000)]
    wheel = "docopt-0.6.2-py3-none-any.whl"
    locked = f"./wheels/{wheel} --hash=sha256:{hashlib.sha256(content).hexdigest()}\n"
    made = project.bundle(locked=locked, wheels={wheel: texts})
    assert {"name": "docopt", "version": "0.6.2"}.items() <= made["manifest"]["packages"][0].items()
    assert project.contents(locked=locked, wheels={wheel: texts})[f"wheels/{wheel}"] == content.decode()
    assert f"./wheels/{wheel} --hash=sha256:" in made["list"]
    with pytest.raises(InputError, match="has a hash that is not the wheel's"):
        project.bundle(locked=locked, wheels={wheel: texts[:1]})
    with pytest.raises(InputError, match="names a path that does not exist"):
        project.bundle(locked=locked)
