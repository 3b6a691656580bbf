"""The command line of NAMEctl."""

import io
import json
import os
import sys
from collections.abc import Callable

import pytest
from appctl import cli, status, talk


@pytest.mark.parametrize("words", [["handover", "aaa1"], ["rollback"], ["restart"], ["prune"], ["list"]])
def test_what_needs_root_says_so(
    monkeypatch: pytest.MonkeyPatch, words: list[str], run_main: Callable[[list[str]], str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run_main(words) == f"fastapictl: fastapictl {words[0]} needs root. Try: sudo fastapictl {words[0]}"


@pytest.fixture
def run_main() -> Callable[[list[str]], str]:
    def run(words: list[str]) -> str:
        with pytest.raises(SystemExit) as end:
            cli.main("fastapi", words)
        return str(end.value)

    return run


def test_a_fault_of_ours_shows_no_text_raw(
    monkeypatch: pytest.MonkeyPatch, run_main: Callable[[list[str]], str], capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        """Fail."""
        raise RuntimeError("\x1b[2J\u202e of an application")

    monkeypatch.setattr(status, "command_status", fail)
    told = run_main(["status"])
    assert "this is a bug in fastapictl, please report it" in told
    assert "RuntimeError: \\x1b[2J\\u202e of an application" in told
    assert "\x1b" not in told
    with pytest.raises(SystemExit):
        cli.main("fastapi", ["status", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["failed"]
    assert "RuntimeError: \\x1b[2J\\u202e of an application" in answer["reason"]


def test_what_the_locale_cannot_write_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def say(*_: object) -> None:
        """Say."""
        talk.out("ValueError: größer → \U0001f600")

    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(status, "command_status", say)
    cli.main("fastapi", ["status"])
    sys.stdout.flush()
    assert written.getvalue() == b"ValueError: gr\\xf6\\xdfer \\u2192 \\U0001f600\n"


def test_a_reader_that_has_gone_is_no_error(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def say(*_: object) -> None:
        """Say."""
        talk.out("one line")

    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(status, "command_status", say)
        with pytest.raises(SystemExit) as end:
            cli.main("fastapi", ["status"])
    assert end.value.code == 1
    assert capfd.readouterr().err == ""
