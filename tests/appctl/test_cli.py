"""The command line of NAMEctl."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from appctl import background, cli, process, status, talk
from appctl.process import CtlError
from ctl_host import Host


@pytest.fixture(autouse=True)
def talking(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command line sets is as before afterwards."""
    monkeypatch.setattr(talk, "quiet", talk.quiet)
    monkeypatch.setattr(talk, "said", [])


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


@pytest.mark.parametrize(
    "words",
    [
        ["rollback", "--lock-wait="], ["restart", "--lock-wait=nan"], ["handover", "aaa1", "--lock-wait=inf"],
        ["build", "--lock-wait=-1"], ["preflight", "aaa1", "--lock-wait=soon"], ["probe", "main", "/", "--timeout=nan"],
        ["run", "--timeout=inf"], ["shell", "--timeout=nan"],
    ],
)  # fmt: skip
def test_a_time_without_an_end_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever waits for the lock would wait for ever."""
    with pytest.raises(SystemExit):
        cli.main("fastapi", words)
    assert f"invalid seconds value: {words[-1].partition('=')[2]!r}" in capsys.readouterr().err


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


@pytest.mark.parametrize("words", [[], ["rolback"], ["a\x1b]0;b"], [""]], ids=["none", "unknown", "unsafe", "empty"])
def test_what_is_no_command_is_told_with_the_next_step(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main("shop", words)

    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert told.startswith("shopctl: ")
    assert told.endswith("Try: shopctl --help\n")
    assert not set(told) & set("\x1b\x00")
    assert "settled" not in told


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


WORDS: dict[str, list[str]] = {
    "status": [],
    "list": [],
    "diff": ["aaa1", "bbb3"],
    "history": [],
    "logs": ["--since=-1h", "--grep=a b", "--request-id=a4c280b389aac9ee", "--process=web"],
    "packages": ["aaa1"],
    "preflight": ["aaa1"],
    "handover": ["aaa1"],
    "rollback": ["aaa1"],
    "restart": [],
    "release-command": ["aaa1"],
    "scale": ["worker=2"],
    "run": ["--", "true"],
    "shell": [],
    "timers": [],
    "timed": ["begin", "night", "aaa1"],
    "runs": [],
    "ran": ["0123abcd"],
    "tasks": [],
    "maintenance": [],
    "pause": ["--end"],
    "backup": ["/nowhere/file"],
    "restore": ["/nowhere/file"],
    "prune": [],
    "uninstall": [],
    "build": [],
    "python": [],
    "prepare": [],
    "prepared": [],
    "lock": [],
    "locked": [],
    "keep": [],
    "resolve": [],
    "edge": [],
    "surround": [],
    "probe": ["main", "/healthz", "--timeout=0.1"],
    "stop": ["main"],
    "backoff": [],
    "begin": ["main"],
    "begun": ["fastapi-worker-aaa1@1-1.service"],
    "metrics": [],
    "traffic": [],
    "execute": ["aaa1"],
    "watch": ["aaa1"],
    "settle": [],
    "settled": [],
}
"""What is given to each command, in a host whose systemd says nothing."""

FAIL_THERE = {
    "tasks", "build", "python", "prepare", "prepared", "lock", "locked", "keep", "resolve", "edge", "surround",
    "probe", "execute", "uninstall", "release-command", "run", "scale", "shell", "diff", "backup", "restore", "watch",
}  # fmt: skip
"""They have no request, no process, nothing that could be started, or no record of what is theirs or of files."""


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_answers_in_json(
    command: str, host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nothing_started(*_: object, **__: object) -> None:
        raise CtlError("it is not installed on this host")

    host.serves("aaa1")
    monkeypatch.setattr(cli, "App", lambda _: host)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda *_, **__: None)
    monkeypatch.setattr(os, "fchown", lambda *_: None)
    monkeypatch.setattr(process, "finish", lambda *_: (0, "", ""))
    monkeypatch.setattr(process, "started", nothing_started)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    monkeypatch.setattr(talk, "said", [])
    monkeypatch.setattr(talk, "quiet", False)
    executed = subprocess.CompletedProcess([], 0, stdout='{"said": ["it is done"]}', stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: executed)
    failed = False
    try:
        cli.main("fastapi", [command, "--json", *WORDS[command]])
    except SystemExit as end:
        failed = end.code == 1
    written = capsys.readouterr()
    assert written.err == ""
    answer = json.loads(written.out)
    assert failed == (command in FAIL_THERE), answer
    if isinstance(answer, dict):
        assert all(isinstance(line, str) for line in answer["said"])
        assert bool(answer.get("failed")) == failed
        assert not failed or answer["reason"]
    else:
        assert not failed
        assert all(isinstance(row, dict) for row in answer)


def test_the_answer_of_the_unit_is_read_as_json(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def unit(status: int, written: str, errors: str = "") -> Callable[..., subprocess.CompletedProcess[str]]:
        def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
            assert command[command.index("execute") :][:4] == ["execute", "aaa1", "--lock-wait=1", "--json"]
            return subprocess.CompletedProcess(command, status, written, errors)

        return run

    monkeypatch.setattr(talk, "quiet", True)
    monkeypatch.setattr(talk, "said", [])
    monkeypatch.setattr(subprocess, "run", unit(0, '{"said": ["one\\ntwo", "three"]}'))
    background.execute_in_a_unit(host, "aaa1", "the handover", [], 1)
    assert talk.said == ["one\ntwo", "three"]
    monkeypatch.setattr(subprocess, "run", unit(1, '{"failed": true, "reason": "it is broken", "said": ["four"]}', "x"))
    with pytest.raises(CtlError, match=r"^it is broken$"):
        background.execute_in_a_unit(host, "aaa1", "the handover", [], 1)
    assert talk.said == ["one\ntwo", "three", "four"]
    # One that was killed, or could not begin, has no answer.
    for written, errors, reason in [
        ("", "", f"{host.handover} exited with status 9"),
        ("[", "no memory\n", "no memory"),
    ]:
        monkeypatch.setattr(subprocess, "run", unit(9, written, errors))
        with pytest.raises(CtlError, match=f"^{reason}$"):
            background.execute_in_a_unit(host, "aaa1", "the handover", [], 1)
