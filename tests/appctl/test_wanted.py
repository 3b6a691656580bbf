"""Which addresses NAMEctl takes from whoever may call it."""

import json
from typing import Any

import pytest
from appctl.app import App
from appctl.background import hand_over
from appctl.process import CtlError
from appctl.wanted import wanted

GIVEN: dict[str, Any] = {
    "bind": ["0.0.0.0:80", "[::1]:8080", "/run/shop.sock"],
    "backlog": 4096,
    "mode": "0660",
    "user": "root",
    "group": "www-data",
}
INJECTED = "\nExecStartPre=/usr/bin/touch /root/mine"


def test_what_a_playbook_gives_is_taken() -> None:
    assert wanted(json.dumps(GIVEN)) == GIVEN
    assert wanted("") is None


@pytest.mark.parametrize(
    "change",
    [
        {"mode": f"0666{INJECTED}"},
        {"user": f"root{INJECTED}"},
        {"group": f"root{INJECTED}"},
        {"backlog": f"1{INJECTED}"},
        {"backlog": True},
        {"backlog": 0},
        {"backlog": 2**40},
        {"bind": [f"/run/x{INJECTED}"]},
        {"bind": [f"0.0.0.0:80{INJECTED}"]},
        {"bind": [f"[::1{INJECTED}]:80"]},
        {"bind": ["/run/x\n"]},
        {"bind": ["/run/../etc/x"]},
        {"bind": ["/run/x\x85y"]},
        {"bind": ["/run/%n"]},
        {"bind": ["/run/" + 110 * "x"]},
        {"bind": ["127.0.0.1:0"]},
        {"bind": ["127.0.0.1:65536"]},
        {"bind": ["[fe80::1%eth0]:80"]},
        {"bind": ["127.0.0.1"]},
        {"bind": []},
        {"bind": "/run/x"},
        {"bind": [7]},
        {"bind": None},
        {"mode": 438},
    ],
)
def test_nothing_but_addresses_gets_into_a_unit(change: dict[str, Any]) -> None:
    with pytest.raises(CtlError, match="no addresses"):
        wanted(json.dumps(GIVEN | change))


@pytest.mark.parametrize("text", ["{", "[]", "7", '{"bind": ["0.0.0.0:80"]}', "[" * 100_000, "1" * 5000])
def test_what_is_no_such_object_is_refused(text: str) -> None:
    with pytest.raises(CtlError, match="no addresses"):
        wanted(text)


def test_a_handover_refuses_it_before_it_begins(monkeypatch: pytest.MonkeyPatch, host: App) -> None:
    begun: list[object] = []
    monkeypatch.setattr("appctl.background.in_the_background", lambda *words: begun.append(words))
    monkeypatch.setattr("appctl.handover.is_settled", lambda *_: True)
    with pytest.raises(CtlError, match="no addresses"):
        hand_over(host, "aaa1", 1.0, addresses=json.dumps(GIVEN | {"mode": f"0666{INJECTED}"}))
    with pytest.raises(CtlError, match="no addresses"):
        hand_over(host, "aaa1", 1.0, again=True, addresses=json.dumps(GIVEN | {"mode": f"0666{INJECTED}"}))
    assert begun == []
