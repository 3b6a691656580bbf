"""Log records of all of an application's units, and what may be asked of journalctl."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from appctl import journal, logs, process
from appctl.process import CtlError
from ctl_host import Host


def asked(**given: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    logs.add_logs(parser)
    arguments = parser.parse_args([])
    for name, value in given.items():
        assert hasattr(arguments, name)
        setattr(arguments, name, value)
    return arguments


@pytest.fixture(autouse=True)
def timestamps(monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd-analyze knows one time."""

    def run(*words: str, **_: object) -> str:
        if words[-1] != "-1h":
            raise CtlError("Invalid argument")
        return ""

    monkeypatch.setattr(logs, "run", run)


def test_journalctl_gets_no_option_but_ours(host: Host) -> None:
    assert logs.matches(host, asked()) == ["--unit=fastapi.slice", "--unit=fastapi.service"]
    found = logs.matches(host, asked(since="-1h", grep="--file=/etc/shadow", request_id="a/b=1", process="web"))
    assert found == [
        "--unit=fastapi.service", "--unit=fastapi-candidate.service", "--since=-1h", "--grep=--file=/etc/shadow",
        "REQUEST_ID=a/b=1",
    ]  # fmt: skip


def test_a_process_is_not_another_one_with_a_longer_name(host: Host) -> None:
    assert logs.units(host, "mail") == ["fastapi-mail.service", "fastapi-mail@*.service", "fastapi-mail-*.service"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("since", "soon", "--since: soon is not a time. Give one"),
        ("since", "-1h\n", "is not a time"),
        ("grep", "a\x1b", "--grep: give a regular expression"),
        ("grep", "a" * 513, "at most 512 characters"),
        ("request_id", "a b", "--request-id: a b is not the id of a request. It is in the header"),
        ("process", "web*", "is not the name of a process. Give one such as web"),
        ("process", "../x", "is not the name"),
    ],
)
def test_what_means_something_else_is_refused(host: Host, name: str, value: str, said: str) -> None:
    with pytest.raises(CtlError) as failure:
        logs.matches(host, asked(**{name: value}))
    assert said in str(failure.value)


@pytest.mark.parametrize("words", [["--lines=0"], ["--lines=-1"], ["--lines=100001"], ["--lines=all"]])
def test_a_number_of_records(words: list[str]) -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    logs.add_logs(parser)
    with pytest.raises(argparse.ArgumentError):
        parser.parse_args(words)


RECORD = (
    b"__REALTIME_TIMESTAMP=1795392309291351\n_SYSTEMD_UNIT=fastapi.service\n"
    b"PRIORITY=3\nRELEASE=aaa1\nMESSAGE=no\x1b[2J\n\n"
)


def test_whatever_a_record_has_is_shown_safely(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = b"__REALTIME_TIMESTAMP=never\nPRIORITY=99\nMESSAGE\n\x03\0\0\0\0\0\0\0\xff\n\x00\n\n"

    def chunks(*command: str, **_: object) -> Iterator[bytes]:
        assert command[:2] == ("journalctl", "--quiet")
        yield odd + RECORD

    monkeypatch.setattr(process, "chunks", chunks)
    monkeypatch.setattr(journal, "synchronize", lambda: None)
    last, first = logs.command_logs(host, asked(lines=5))
    assert last["message"] == "no\\x1b[2J"
    assert (last["time"], last["priority"], last["release"]) == ("2026-11-23T00:05:09.291351+00:00", 3, "aaa1")
    assert (first["time"], first["priority"], first["unit"]) == ("1970-01-01T00:00:00.000000+00:00", 6, "")
    assert logs.line(last) == "2026-11-23T00:05:09.291Z fastapi: no\\x1b[2J"


def test_following_ends_with_who_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """journalctl would go on for ever; here it is a program that does."""
    (tmp_path / "record").write_bytes(RECORD)
    program = tmp_path / "journalctl"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/record\nexec sleep 1000\n")
    program.chmod(0o755)
    monkeypatch.setattr(process, "ENVIRONMENT", {"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    reader, writer = os.pipe()
    shown = logs.row

    def last_row(record: journal.Record) -> dict[str, object]:
        os.close(writer)  # nobody reads any more
        return shown(record)

    monkeypatch.setattr(logs, "row", last_row)
    with os.fdopen(reader) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        logs.follow([], argparse.Namespace(**vars(asked(until_eof=True)), json=True))
    assert json.loads(capfd.readouterr().out)["message"] == "no\\x1b[2J"
