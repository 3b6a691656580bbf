"""Where a release comes from, in the words of status, list and journal."""

import json

import pytest
from appctl import origin
from ctl_host import Host


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, ""),
        (
            {"version": "v1", "commit": "0123456789abcdef", "ref": "main", "dirty": False, "path": "api",
             "source": "https://example.com/me/shop.git", "by": "me@laptop"},
            "v1, commit 0123456789ab of main in shop.git/api, by me@laptop",
        ),
        ({"commit": "0123456789abcdef", "dirty": True, "source": "shop"}, "commit 0123456789ab with changes in shop"),
        ({"commit": "0123456789abcdef", "ref": "0123456789abcdef"}, "commit 0123456789ab"),
        ({"source": "shop.tar.gz", "by": "me@laptop"}, "shop.tar.gz, by me@laptop"),
    ],
)  # fmt: skip
def test_it_is_one_line(facts: dict[str, object], words: str) -> None:
    assert origin.words(facts) == words


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, ""),
        ({"list": "requirements.txt", "listed": 0}, "requirements.txt"),
        ({"list": "api/uv.lock", "listed": 86400 * 3}, "api/uv.lock, which uv listed on 1970-01-04 (7 days ago)"),
        ({"list": "uv.lock", "listed": "x"}, "uv.lock"),
        ({"list": "uv.lock", "listed": 10**18}, "uv.lock"),
        ({"list": 1}, ""),
    ],
)
def test_the_age_of_its_list(facts: dict[str, object], words: str) -> None:
    assert origin.packages(facts, 86400.0 * 10) == words


def test_a_manifest_without_it_tells_nothing(host: Host) -> None:
    assert origin.of(host, "bbb3") == {}
    (host.release("bbb3") / "manifest.json").write_text(json.dumps({"release": "bbb3", "origin": {"source": "shop"}}))
    assert origin.of(host, "bbb3") == {"source": "shop"}
    assert origin.of(host, "") == {}
