"""Builds on the controller: in a clean copy, once for equal sources, and over when they are over."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from gunicorn_fastapi_controller import bounded, built
from gunicorn_fastapi_controller.problem import InputError
from projects import HASH, Project
from repositories import Repository


class Controller:
    """Builds a repository as a run does."""

    def __init__(self, root: Path) -> None:
        self.cache = root / "cache"
        self.repository = Repository(root / "shop")
        self.repository.commit("api/main.py", "app = None\n")
        self.repository.commit("api/requirements.txt", f"fastapi==1.0 {HASH}\n")
        self.repository.commit("ui/page.txt", "page\n")
        self.repository.commit(".gitignore", "static/\nsecret.txt\n.env\nkept.py\n")
        self.repository.commit("api/kept.py", "kept = 1\n")
        self.repository.write(".env", "A=s3cr3t\n")
        self.repository.write("api/secret.txt", "s3cr3t\n")

    def built(self, command: str, run: str = "1", check: bool = False, **changes: Any) -> tuple[Path, str]:
        given = {
            "environment": {},
            "timeout": 30,
            "again": False,
            "exclude": [".git"],
            "include": ["static"],
            **changes,
        }
        return built.built(self.repository.path, "api", built.Build(command, **given), self.cache, run, check)


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    return Controller(tmp_path)


def names(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}


MAKE = "mkdir api/static ui/node_modules && cp ui/page.txt api/static/ && touch ui/node_modules/x api/x.pyc"


def test_what_it_makes_is_part_of_the_release(controller: Controller, tmp_path: Path) -> None:
    directory, told = controller.built(MAKE, exclude=[".git", "*.pyc"])
    assert re.fullmatch(r"The build of this source took \d+ s", told)
    assert names(directory) == {
        ".gitignore", "ui/page.txt", "api/main.py", "api/requirements.txt", "api/kept.py", "api/static/page.txt"
    }  # fmt: skip
    made = Project(tmp_path).bundle(source=str(directory), app_path="api", built=True, include=["static"])
    packed = {name.removeprefix("app/") for name in made["manifest"]["files"] if name.startswith("app/")}
    assert packed == {"main.py", "requirements.txt", "kept.py", "static/page.txt"}
    assert names(controller.repository.path / "api") == {"main.py", "requirements.txt", "kept.py", "secret.txt"}


def test_it_runs_in_a_clean_copy_with_an_environment_of_its_own(
    controller: Controller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OF_THE_CONTROLLER", "s3cr3t")
    out = tmp_path / "out"
    controller.built(f"find . -type f > {out} && env >> {out}", environment={"B": [1], "NONE": None})
    said = out.read_text()
    assert "./api/main.py" in said
    assert "\nB=[1]\n" in said
    assert not re.search("s3cr3t|secret.txt|[.]env\n|[.]git/|NONE", said)
    assert not [path for path in (controller.cache / "builds").iterdir() if path.name.startswith("building-")]


def test_equal_sources_are_built_once(controller: Controller, tmp_path: Path) -> None:
    count = tmp_path / "count"
    command = f"echo x >> {count}; mkdir api/static; date +%N > api/static/when"
    directory, _ = controller.built(command)
    assert controller.built(command) == (directory, "The build of this source is there")
    assert controller.built(command, run="2")[1].startswith("The build of this source is there, by an earlier run")
    assert count.read_text() == "x\n"
    for changes in ({"environment": {"A": "1"}}, {"run": "3", "again": True}):
        controller.built(command, **changes)
    controller.built(command, run="3", again=True)
    assert count.read_text() == "x\nx\nx\n"
    controller.repository.write("ui/page.txt", "another\n")
    assert controller.built(command)[0] != directory
    assert count.read_text() == "x\nx\nx\nx\n"


def test_check_mode_runs_nothing(controller: Controller, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    assert controller.built(f"touch {ran}", check=True) == (
        controller.repository.path,
        "The build does not run in check mode: what is shown is the source without it",
    )
    assert not ran.exists()
    directory, _ = controller.built(f"touch {ran}")
    assert controller.built(f"touch {ran}", check=True)[0] == directory


def test_its_failure_is_told_with_its_last_lines(controller: Controller) -> None:
    command = "for n in $(seq 30); do echo line $n; done; echo token $TOKEN >&2; exit 3"
    with pytest.raises(InputError) as caught:
        controller.built(command, environment={"TOKEN": "s3cr3t"})
    told = str(caught.value)
    assert "the build failed with status 3, and nothing has changed on any host" in told
    assert "line 30\ntoken ***" in told
    assert "line 10\n" not in told
    assert {path.suffix for path in (controller.cache / "builds").iterdir()} == {".lock", ".run"}


def test_all_hosts_of_a_run_are_told_of_one_failure(controller: Controller, tmp_path: Path) -> None:
    count = tmp_path / "count"
    command = f"echo x >> {count}; echo went wrong; exit 3"
    for run, times in (("1", 1), ("1", 1), ("2", 2)):
        with pytest.raises(InputError, match=r"status 3(.|\n)*went wrong$"):
            controller.built(command, run=run)
        assert count.read_text() == "x\n" * times


def test_a_link_out_of_the_source_is_refused_afterwards(controller: Controller) -> None:
    with pytest.raises(InputError, match="points out of the source"):
        controller.built("ln -s /etc/passwd api/users")


def test_a_build_without_an_end_is_ended(controller: Controller) -> None:
    with pytest.raises(InputError, match="was not over after 1 s"):
        controller.built("echo begun; sleep 1000", timeout=1)


def test_a_build_that_fills_the_disk_is_ended(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "ROOM", 2**60)
    with pytest.raises(InputError, match=r"was ended, because it has left less than .* MB where .*builds is"):
        controller.built("sleep 1000")


@pytest.mark.parametrize(
    "command",
    [
        "sleep 1000 & echo $! > PID",
        "setsid sleep 1000 & echo $! > PID",
        "setsid sh -c 'sleep 1000 & echo $! > PID; exit 0' & while ! [ -s PID ]; do sleep 0.1; done",
        "sleep 1000 >/dev/null 2>&1 & echo $! > PID; exec >&- 2>&-",
    ],
)
def test_nothing_that_it_has_started_goes_on(command: str, tmp_path: Path) -> None:
    status, _ = bounded.run(command.replace("PID", "pid"), tmp_path, {"PATH": os.environ["PATH"]}, 60)
    assert status == 0
    state = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_only_the_end_of_what_it_prints_is_kept(tmp_path: Path) -> None:
    status, said = bounded.run("head -c 3000000 /dev/zero | tr '\\0' x; echo end", tmp_path, dict(os.environ), 60)
    assert status == 0
    assert said.endswith("xend\n")
    assert len(said) == bounded.PIECE


def test_one_that_closes_its_output_is_waited_for(tmp_path: Path) -> None:
    status, _ = bounded.run("exec >&- 2>&-; sleep 0.5; touch done; exit 4", tmp_path, dict(os.environ), 60)
    assert status == 4
    assert (tmp_path / "done").exists()


def test_builds_that_nobody_uses_go(controller: Controller) -> None:
    old, _ = controller.built("true")
    for path in (controller.cache / "builds").iterdir():
        os.utime(path, (1, 1))
    new, _ = controller.built("true # another")
    assert {path.name.partition(".")[0] for path in (controller.cache / "builds").iterdir()} == {new.name}
    assert old != new
