"""Which instances of a release a handover starts, and where a failure of the new one leaves the old one."""

import contextlib
import json
from collections.abc import Iterator

import pytest
from appctl import counting, handover, systemd, talk
from appctl.app import App
from ctl_host import Host


class Addresses:
    """Public addresses that stay as they are."""

    beside = True
    moves = False
    kept: tuple[str, ...] = ()

    def check(self) -> None: ...


@pytest.fixture
def steps(host: Host, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is started, and what ends, in this order."""
    found: list[str] = []

    @contextlib.contextmanager
    def beside(_app: App, _release: str, kind: str, _more: str = "") -> Iterator[str]:
        found.append(f"{kind} starts")
        yield "1 s"
        found.append(f"{kind} ends")

    def switch(*_: object) -> str:
        found.append("main restarts")
        return "1 s"

    host.serves("aaa1")
    monkeypatch.setattr(handover, "instance", beside)
    monkeypatch.setattr(handover, "Change", lambda *_: Addresses())
    monkeypatch.setattr(handover, "for_candidate", lambda _: "")
    monkeypatch.setattr(handover, "unit_text", lambda *_: "text")
    monkeypatch.setattr(handover, "switch", switch)
    for name in ("too_large", "loosened", "first_words"):
        monkeypatch.setattr(handover, name, lambda *_: "")
    monkeypatch.setattr(counting, "answers", lambda *_: [])
    monkeypatch.setattr(systemd, "active", lambda _: True)
    monkeypatch.setattr(talk, "say", lambda *_, **__: None)
    return found


@pytest.mark.parametrize(
    ("way", "order"),
    [
        ("overlap", ["preflight starts", "preflight ends", "candidate starts", "main restarts", "candidate ends"]),
        ("stop_first", ["preflight starts", "preflight ends", "main restarts"]),
    ],
)
def test_an_application_that_must_not_run_twice_does_not(
    host: Host, steps: list[str], way: str, order: list[str]
) -> None:
    (host.release("bbb3") / "manifest.json").write_text(json.dumps({"handover": way}))
    handover.execute(host, "bbb3", None)
    assert steps == order
