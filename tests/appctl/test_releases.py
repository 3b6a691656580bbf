"""Which releases there are, which one is active, and which one was before."""

import pytest
from appctl import handover, history, releases, systemd
from appctl.process import CtlError
from ctl_host import Host


def test_the_unit_says_which_release_is_current(host: Host) -> None:
    assert releases.current(host) == ""
    host.serves("bbb3")
    assert releases.current(host) == "bbb3"


def test_previous_is_what_served_before_not_what_is_newest(host: Host) -> None:
    host.was("", "bbb3")
    host.was("bbb3", "aaa1")
    host.serves("aaa1")
    assert releases.previous(host) == "bbb3"


def test_a_release_that_failed_is_never_previous(host: Host) -> None:
    host.was("", "aaa1")
    host.was("aaa1", "bbb3")
    host.was("bbb3", "ccc4", "failed")
    host.serves("bbb3")
    assert releases.previous(host) == "aaa1"


def test_a_rollback_can_be_rolled_back(host: Host) -> None:
    host.was("", "aaa1")
    host.was("aaa1", "bbb3")
    host.was("bbb3", "aaa1")
    host.serves("aaa1")
    assert releases.previous(host) == "bbb3"


def test_previous_survives_a_power_loss_between_switch_and_history(host: Host) -> None:
    host.was("", "aaa1")
    host.serves("bbb3")
    with host.history.open("a") as file:
        file.write('{"time": "2026-01-01T00:0')
    assert releases.previous(host) == "aaa1"


def test_previous_is_a_release_that_is_still_there(host: Host) -> None:
    host.was("", "aaa1")
    host.was("aaa1", "gone")
    host.was("gone", "bbb3")
    host.serves("bbb3")
    assert releases.previous(host) == "aaa1"


def test_a_previous_release_that_is_not_complete_is_named(host: Host) -> None:
    host.was("", "aaa1")
    host.was("aaa1", "bbb3")
    host.serves("bbb3")
    host.damaged["aaa1"] = "its interpreter /usr/local/bin/python3.11 is gone"
    with pytest.raises(CtlError, match=r"the previous release, aaa1, is incomplete: its interpreter /usr/local"):
        releases.resolve(host, "previous")


def test_without_history_there_is_no_previous(host: Host) -> None:
    host.serves("aaa1")
    assert releases.previous(host) == ""
    with pytest.raises(CtlError, match="no previous release to roll back to"):
        releases.resolve(host, "previous")


def test_a_release_is_found_by_its_beginning(host: Host) -> None:
    assert releases.resolve(host, "bb") == "bbb3"


@pytest.mark.parametrize("word", ["aa", "ddd"])
def test_an_unclear_name_is_refused_with_those_that_exist(host: Host, word: str) -> None:
    with pytest.raises(CtlError, match=f"release {word}: .*ccc4, bbb3, aab2, aaa1"):
        releases.resolve(host, word)


def test_an_interrupted_handover_that_is_settled_is_in_the_history(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "active", lambda _: False)
    host.was("", "aaa1")
    host.serves("bbb3")
    for _ in range(2):  # once is enough
        handover.settle(host)
    assert [(line["from"], line["to"], line["outcome"]) for line in history.read(host.history)[0]] == [
        ("", "aaa1", "done"),
        ("aaa1", "bbb3", "done"),
    ]


def test_a_line_that_the_power_cut_off_spoils_no_other(host: Host) -> None:
    host.was("", "aaa1")
    with host.history.open("a") as file:
        file.write('{"time": "2026-01-01T00:0')
    host.was("aaa1", "bbb3")
    assert [line["to"] for line in history.read(host.history)[0]] == ["aaa1", "bbb3"]


def test_a_release_that_is_not_complete_is_never_previous(host: Host) -> None:
    host.was("", "aaa1")
    host.was("aaa1", "bbb3")
    host.was("bbb3", "ccc4")
    host.serves("ccc4")
    host.damaged["bbb3"] = "its interpreter is gone"
    assert releases.previous(host) == "aaa1"


@pytest.mark.parametrize(
    "word", ["/etc", "../releases/aaa1", ".", "", "*", "aaa1/../bbb3", "AAA1", "aaa1\n", "\x1b[2J"]
)
def test_nothing_but_an_id_is_taken_for_a_release(host: Host, word: str) -> None:
    with pytest.raises(CtlError, match="not an id of a release"):
        releases.resolve(host, word)
