"""Programs that root starts, but not as root."""

import grp
import pwd
from typing import Any

import pytest
from appctl import sandbox
from appctl.process import CtlError


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The commands that were started. The unit is not there."""
    commands: list[tuple[str, ...]] = []

    def finish(command: tuple[str, ...], *_: Any) -> tuple[int, str, str]:
        commands.append(command)
        return 0, "", ""

    monkeypatch.setattr(sandbox, "run", lambda *_, **__: "inactive\n")
    monkeypatch.setattr(sandbox, "finish", finish)
    return commands


def none(name: str) -> Any:
    raise KeyError(name)


@pytest.mark.parametrize(("module", "find", "kind"), [(pwd, "getpwnam", "user"), (grp, "getgrnam", "group")])
def test_a_build_does_not_get_the_rights_of_a_user_that_is_called_like_it(
    monkeypatch: pytest.MonkeyPatch, started: list[tuple[str, ...]], module: Any, find: str, kind: str
) -> None:
    monkeypatch.setattr(pwd, "getpwnam", none)
    monkeypatch.setattr(grp, "getgrnam", none)
    sandbox.confined("shop-build.service", ["true"], sandbox.CONFINED)
    assert len(started) == 1
    monkeypatch.setattr(module, find, lambda name: name if name == "shop-build" else none(name))
    with pytest.raises(CtlError, match=f"the host has a {kind} shop-build"):
        sandbox.confined("shop-build.service", ["true"], sandbox.CONFINED)
    assert len(started) == 1
    sandbox.confined("shop-build.service", ["true"], ["User=shop"])
    assert len(started) == 2
