"""The build of a release on the host: what runs, in which order, and when the release counts as complete."""

from pathlib import Path
from typing import Any

import pytest
from gunicorn_fastapi_build import Build


class FailedError(Exception):
    """What a module does that fails."""


class Module:
    """An AnsibleModule that notes its commands, and whether the release was complete by then."""

    def __init__(self, root: Path, fails: str = "") -> None:
        self.release = root / "releases/aaa1"
        self.release.mkdir(parents=True)
        (self.release / "manifest.building").write_text("{}")
        self.params = {
            "release": str(self.release),
            "group": "root",
            "virtualenv": str(root / "virtualenvs/bbb2"),
            "uv": "uv",
            "python": "/usr/bin/python3",
            "index": ["--offline"],
        }
        self.fails = fails
        self.ran: list[tuple[str, bool]] = []

    def run_command(self, command: list[str], cwd: str) -> tuple[int, str, str]:
        assert cwd == str(self.release)
        self.ran.append((" ".join(command), (self.release / "manifest.json").exists()))
        return (1, "", "it is too full") if command[0] == self.fails else (0, "", "")

    def fail_json(self, **result: Any) -> None:
        raise FailedError(result["msg"])


def test_a_release_is_on_the_disk_before_it_is_complete(tmp_path: Path) -> None:
    module = Module(tmp_path)
    Build(module).declare_complete()
    assert module.ran == [("sync --file-system .", False), ("sync .", True)]


def test_what_is_not_on_the_disk_is_not_complete(tmp_path: Path) -> None:
    module = Module(tmp_path, fails="sync")
    with pytest.raises(FailedError, match="it is too full"):
        Build(module).declare_complete()
    assert not (module.release / "manifest.json").exists()


def test_uv_says_why_it_could_not_install(tmp_path: Path) -> None:
    module = Module(tmp_path, fails="uv")
    with pytest.raises(FailedError, match="it is too full"):
        Build(module).make_virtualenv()


def test_only_wheels_with_a_known_digest_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Build, "close", lambda *_: None)  # the group may not be there
    module = Module(tmp_path)
    build = Build(module)
    build.virtualenv.mkdir(parents=True)
    build.make_virtualenv()
    made, installed = (command for command, _ in module.ran)
    assert " --clear " in made
    assert {"--require-hashes", "--no-build", "--offline"} <= set(installed.split())
