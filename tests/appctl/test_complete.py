"""One question for all: is this release complete? Each way in which it can be not, and its reason."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from appctl import complete, credentials, interpreter, tree
from appctl.app import App
from appctl.interpreter import Interpreter
from appctl.process import CtlError

RELEASE, VIRTUALENV = "a" * 40, "b" * 40
PYTHON = str(Path(sys.executable).resolve())


@pytest.fixture
def app(tmp_path: Path) -> App:
    """An application with one complete release."""
    app = App("fastapi", tmp_path)
    directory, virtualenv = app.release(RELEASE), app.virtualenvs / VIRTUALENV
    (directory / "app").mkdir(parents=True)
    (directory / "app/main.py").write_text("x = 1\n")
    (directory / "systemd").mkdir()
    (directory / "systemd/fastapi.service").write_text("[Service]\n")
    (directory / "venv").symlink_to(f"../../virtualenvs/{VIRTUALENV}")
    files = {"app/main.py": hashlib.sha256(b"x = 1\n").hexdigest()}
    (directory / "manifest.json").write_text(json.dumps({"release": RELEASE, "files": files, "packages": []}))
    tree.seal(directory, {"virtualenv": VIRTUALENV})
    (virtualenv / "bin").mkdir(parents=True)
    (virtualenv / "bin/python").symlink_to(PYTHON)
    (virtualenv / "module.py").write_text("y = 1\n")
    tree.seal(virtualenv, {"executable": PYTHON, "minor": "3.12", "mark": interpreter.mark(PYTHON)})
    return app


def test_a_whole_one_is_complete(app: App) -> None:
    assert complete.why_not(app, RELEASE) == ""
    assert complete.why_not(app, RELEASE, thorough=True) == ""


def empty_manifest(app: App) -> None:
    (app.release(RELEASE) / "manifest.json").write_text("")


def anothers_manifest(app: App) -> None:
    manifest = app.release(RELEASE) / "manifest.json"
    manifest.write_text(manifest.read_text().replace(RELEASE, "c" * 40))


def empty_file(app: App) -> None:
    (app.release(RELEASE) / "app/main.py").write_text("")


def no_virtualenv(app: App) -> None:
    shutil.rmtree(app.virtualenvs / VIRTUALENV)


def no_link_to_it(app: App) -> None:
    (app.release(RELEASE) / "venv").unlink()


def no_interpreter(app: App) -> None:
    (app.virtualenvs / VIRTUALENV / "bin/python").unlink()
    (app.virtualenvs / VIRTUALENV / "bin/python").symlink_to("/usr/bin/python3.999")


def empty_seal(app: App) -> None:
    (app.virtualenvs / VIRTUALENV / tree.SEAL).write_text("")


def link_elsewhere(app: App) -> None:
    app.release(RELEASE).rename(app.root / "elsewhere")
    app.release(RELEASE).symlink_to(app.root / "elsewhere")


def no_release(app: App) -> None:
    shutil.rmtree(app.release(RELEASE))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (empty_manifest, "manifest.json"),
        (anothers_manifest, "cccc"),
        (empty_file, "has 0 bytes of 6"),
        (no_virtualenv, "its virtualenv is damaged"),
        (no_link_to_it, "venv is missing"),
        (no_interpreter, "python is not the interpreter that it was built for"),
        (empty_seal, "its virtualenv is damaged"),
        (link_elsewhere, "is a link"),
        (no_release, "not on this host"),
    ],
)
def test_what_is_damaged_is_said_even_by_a_quick_look(app: App, damage: Callable[[App], None], reason: str) -> None:
    assert complete.why_not(app, RELEASE) == ""
    damage(app)
    assert reason in complete.why_not(app, RELEASE)


def test_content_is_compared_after_each_boot_and_when_asked_for(app: App) -> None:
    (app.release(RELEASE) / "app/main.py").write_text("x = 2\n")
    assert "main.py differs from what was deployed" in complete.why_not(app, RELEASE)
    (app.release(RELEASE) / "app/main.py").write_text("x = 1\n")
    assert complete.why_not(app, RELEASE) == ""
    (app.release(RELEASE) / "app/main.py").write_text("x = 2\n")
    assert "main.py differs from what was deployed" in complete.why_not(app, RELEASE, thorough=True)
    shutil.rmtree(app.runtime)  # as a reboot does
    assert "main.py differs from what was deployed" in complete.why_not(app, RELEASE)


def test_a_virtualenv_is_compared_after_each_boot_and_when_asked_for(app: App) -> None:
    assert complete.why_not(app, RELEASE) == ""
    (app.virtualenvs / VIRTUALENV / "module.py").write_text("")
    assert "module.py has 0 bytes of 6" in complete.why_not(app, RELEASE, thorough=True)
    shutil.rmtree(app.runtime)
    assert "module.py has 0 bytes of 6" in complete.why_not(app, RELEASE)


def test_a_release_without_a_seal_is_known_by_its_digests(app: App) -> None:
    (app.release(RELEASE) / tree.SEAL).unlink()
    (app.virtualenvs / VIRTUALENV / tree.SEAL).unlink()
    assert complete.why_not(app, RELEASE) == ""
    (app.release(RELEASE) / "app/main.py").write_text("")
    shutil.rmtree(app.runtime)
    assert "main.py differs from what was deployed" in complete.why_not(app, RELEASE)


def test_an_interpreter_that_was_updated_in_place_is_asked_once(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def tried(_: App, path: str, __: list[str]) -> Interpreter:
        asked.append(path)
        return Interpreter("3.12.99", path)

    monkeypatch.setattr(interpreter, "tried", tried)
    tree.seal(app.virtualenvs / VIRTUALENV, {"executable": PYTHON, "minor": "3.12", "mark": [1, 2]})
    assert complete.why_not(app, RELEASE) == ""
    assert complete.why_not(app, RELEASE) == ""
    assert asked == [PYTHON]


def test_an_interpreter_of_another_minor_version_or_a_broken_one_is_not_its_own(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.seal(app.virtualenvs / VIRTUALENV, {"executable": PYTHON, "minor": "3.12", "mark": [1, 2]})
    monkeypatch.setattr(interpreter, "tried", lambda _, path, __: Interpreter("3.13.0", path))
    assert "built for Python 3.12" in complete.why_not(app, RELEASE)

    def broken(*_: object) -> Interpreter:
        raise CtlError("the interpreter does not run")

    monkeypatch.setattr(interpreter, "tried", broken)
    assert complete.why_not(app, RELEASE) == "the interpreter does not run"


class Creds:
    """systemd-creds, which decrypts as long as the host has the key."""

    def __init__(self) -> None:
        self.works = True
        self.asked = 0

    def __call__(self, command: tuple[str, ...], _: float) -> tuple[int, str, str]:
        assert command[:2] == ("systemd-creds", "decrypt")
        self.asked += 1
        return (0, "secret", "") if self.works else (1, "", "Failed to decrypt: No such file or directory\n")


@pytest.fixture
def creds(app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Creds:
    """The release has a credential."""
    (app.credentials / RELEASE).mkdir(parents=True)
    path = app.credentials / RELEASE / "password"
    path.write_text("sealed")
    unit = app.release(RELEASE) / "systemd/fastapi.service"
    unit.write_text(f"[Service]\nLoadCredentialEncrypted=password:{path}\n")
    tree.seal(app.release(RELEASE), {"virtualenv": VIRTUALENV})
    (tmp_path / "credential.secret").write_text("key")
    monkeypatch.setattr(credentials, "HOST_KEY", tmp_path / "credential.secret")
    creds = Creds()
    monkeypatch.setattr(credentials, "finish", creds)
    return creds


def test_credentials_are_decrypted_once_and_again_when_the_hosts_key_is_another(
    app: App, creds: Creds, tmp_path: Path
) -> None:
    assert complete.why_not(app, RELEASE) == ""
    assert complete.why_not(app, RELEASE) == ""
    assert creds.asked == 1
    creds.works = False
    (tmp_path / "credential.secret").unlink()
    assert complete.why_not(app, RELEASE) == (
        "the credential password cannot be decrypted: Failed to decrypt: No such file or directory"
    )


def test_a_credential_that_is_gone_is_said(app: App, creds: Creds) -> None:
    assert complete.why_not(app, RELEASE) == ""
    shutil.rmtree(app.credentials)
    assert "password is missing" in complete.why_not(app, RELEASE)
    assert creds.asked == 1


@pytest.mark.parametrize("text", ["", "[]", "\0", '{"whole": 1}', "[" * 100_000])
def test_what_is_remembered_may_be_damaged(app: App, text: str) -> None:
    app.private.mkdir(parents=True)
    (app.private / "complete.json").write_text(text)
    assert complete.why_not(app, RELEASE) == ""
