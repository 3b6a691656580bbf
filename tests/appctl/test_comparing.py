"""What is said of two releases, and what is not."""

import argparse
import json
from typing import Any

import pytest
from appctl import cli, comparing, talk
from appctl.process import CtlError
from ctl_host import Host

SECRET = "correct horse"


def release(host: Host, name: str, files: dict[str, str], **facts: Any) -> None:
    """A release with these files, whose manifest lists them."""
    for path, text in files.items():
        (host.release(name) / path).parent.mkdir(parents=True, exist_ok=True)
        (host.release(name) / path).write_text(text.replace("NAME", name))
    unit = host.release(name) / "systemd/fastapi.service"
    if not unit.exists():
        unit.parent.mkdir(exist_ok=True)
        unit.write_text("")
    manifest = {"release": name, "files": files, "packages": [], **facts}
    (host.release(name) / "manifest.json").write_text(json.dumps(manifest))


def package(name: str, version: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "version": version, "condition": "", "hashes": [], **more}


@pytest.fixture
def pair(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Releases aaa1 and bbb3; secrets are decrypted by their file's name."""
    load = "LoadCredentialEncrypted={0}:/opt/fastapi/credentials/NAME/{0}\n"
    both = load.format("gunicorn_fastapi_environment") + load.format("token")
    release(
        host, "aaa1",
        {
            "app/main.py": "1", "app/gone.py": "1", "app/same.py": "1", "lib/gunicorn_fastapi/hooks.py": "1",
            "etc/environment": f"# A comment.\nDEBUG='{SECRET}'\nSAME='it'\\''s\nX=y'\n",
            "etc/logging.conf": "level=INFO\n",
            "systemd/fastapi.service": f"Description=release NAME\nTasksMax=1\n{both}",
        },
        packages=[package("starlette", "1.0"), package("old", "2"), package("nt", "1", applies=False)],
        python="3.11.2", app_module="main:app",
    )  # fmt: skip
    release(
        host, "bbb3",
        {
            "app/main.py": "2", "app/new.py": "1", "app/same.py": "1", "lib/gunicorn_fastapi/hooks.py": "2",
            "etc/environment": f"DEBUG='{SECRET} 2'\nNEW=''\nSAME='it'\\''s\nX=y'\n",
            "etc/logging.conf": "level=WARNING\n",
            "systemd/fastapi.service": f"Description=release NAME\nTasksMax=2\n{both}",
        },
        packages=[package("starlette", "1.1"), package("new", "3"), package("nt", "2", applies=False)],
        python="3.13.5", app_module="main:app",
    )  # fmt: skip

    def decrypt(*command: str) -> str:
        assert command[:2] == ("systemd-creds", "decrypt")
        if "environment" in command[2]:
            return f"KEY='{SECRET}'\n" + ("MORE='x'\n" if "bbb3" in command[3] else "")
        return SECRET + command[3]

    monkeypatch.setattr(comparing, "run", decrypt)
    monkeypatch.setattr(talk, "said", [])
    return host


def diff(host: Host, before: str = "aaa1", after: str = "bbb3") -> dict[str, Any]:
    return comparing.command_diff(host, argparse.Namespace(before=before, after=after))


def test_all_kinds_of_differences_are_told(pair: Host, capsys: pytest.CaptureFixture[str]) -> None:
    diff(pair)
    assert capsys.readouterr().out.splitlines() == [
        "aaa1 -> bbb3",
        "  python    3.11.2 -> 3.13.5",
        "  code      gone.py removed",
        "  code      main.py changed",
        "  code      new.py added",
        "  settings  logging.conf changed",
        "            -level=INFO",
        "            +level=WARNING",
        "  unit      fastapi.service changed",
        "            -TasksMax=1",
        "            +TasksMax=2",
        "  package   new - -> 3",
        "  package   old 2 -> -",
        "  package   starlette 1.0 -> 1.1",
        "  variable  DEBUG changed",
        "  variable  NEW added",
        "  secret    MORE added",
        "  secret    token changed",
        "  server    1 files of the role's own server differ",
    ]


def test_no_value_that_may_be_secret_is_told_in_any_form(pair: Host, capsys: pytest.CaptureFixture[str]) -> None:
    found = diff(pair)
    assert SECRET not in json.dumps(found) + capsys.readouterr().out
    assert found["variables"] == [{"name": "DEBUG", "change": "changed"}, {"name": "NEW", "change": "added"}]
    assert found["packages"][0] == {"name": "new", "change": "added", "from": None, "to": "3"}


def test_a_release_and_itself(pair: Host, capsys: pytest.CaptureFixture[str]) -> None:
    diff(pair, after="aaa1")
    assert capsys.readouterr().out == "aaa1 -> aaa1: nothing differs\n"


def test_a_secret_that_cannot_be_decrypted_is_named(pair: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: str) -> str:
        raise CtlError("no key")

    monkeypatch.setattr(comparing, "run", fail)
    with pytest.raises(CtlError, match=r"^release aaa1: its credential gunicorn_fastapi_environment: no key\. Deploy"):
        diff(pair)


def test_by_itself_it_is_of_the_last_change() -> None:
    asked = cli.parser("fastapi", "diff").parse_args(["diff"])
    assert (asked.before, asked.after) == ("previous", "current")


def test_a_file_of_variables_that_is_damaged(pair: Host) -> None:
    (pair.release("bbb3") / "etc/environment").write_text("A='x\n")
    with pytest.raises(CtlError, match=r"^the variables of a release cannot be read\. Deploy it again"):
        diff(pair)
