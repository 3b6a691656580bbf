"""The command line of NAMEctl."""

import os
from collections.abc import Callable

import pytest
from appctl import cli


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
