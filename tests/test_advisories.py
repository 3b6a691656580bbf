"""Which packages advisories are about: by their ranges, by listed versions, and not by others' names."""

import json
from pathlib import Path
from typing import Any

import pytest
from gunicorn_fastapi_controller import advisories, texts
from gunicorn_fastapi_controller.problem import InputError


def record(name: str = "Starlette", *events: dict[str, str], **more: Any) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": list(events)}]
    affected = {"package": {"ecosystem": "PyPI", "name": name}, "ranges": ranges}
    return {"id": "PYSEC-1", "affected": [affected | more.pop("affected", {})], **more}


def told(version: str, *records: dict[str, Any], name: str = "starlette") -> list[str]:
    return advisories.vulnerable([{"name": name, "version": version}], records)


RANGE = record("Starlette", {"introduced": "0.30"}, {"fixed": "0.40.0"}, {"introduced": "1.0rc1"}, {"fixed": "1.0.2"})


@pytest.mark.parametrize(
    ("version", "fix"),
    [("0.29", ""), ("0.30", "0.40.0"), ("0.39.9", "0.40.0"), ("0.40", ""), ("1.0rc1", "1.0.2"), ("1.0.1", "1.0.2"),
     ("1.0.2", ""), ("0.40.0.post1", ""), ("odd", "")],
)  # fmt: skip
def test_a_range(version: str, fix: str) -> None:
    wanted = [f"starlette {version} has known vulnerabilities (PYSEC-1). Upgrade to {fix} or later."] if fix else []
    assert told(version, RANGE) == wanted


def test_the_order_of_events_says_nothing() -> None:
    events = list(reversed(RANGE["affected"][0]["ranges"][0]["events"]))
    assert told("0.39", record("starlette", *events)) == told("0.39", RANGE)


def test_the_last_version_that_is_affected() -> None:
    known = record("starlette", {"introduced": "0"}, {"last_affected": "2.0"})
    assert told("2.0", known) == [
        "starlette 2.0 has known vulnerabilities (PYSEC-1). No version is named that mends them."
    ]
    assert told("2.0.1", known) == []


def test_versions_that_are_listed() -> None:
    assert told("3.7", record("starlette", affected={"versions": ["3.7"], "ranges": []}))
    assert not told("3.8", record("starlette", affected={"versions": ["3.7"], "ranges": []}))


def test_all_of_one_package_in_one_sentence_by_the_names_that_people_search_for() -> None:
    first = RANGE | {"aliases": ["GHSA-1", "CVE-2026-7"]}
    second = record("starlette", {"introduced": "0"}, {"fixed": "0.45"}) | {"id": "PYSEC-2"}
    assert told("0.39", first, first, second) == [
        "starlette 0.39 has known vulnerabilities (CVE-2026-7, PYSEC-2). Upgrade to 0.45 or later."
    ]


def test_another_ecosystem_another_name_and_what_is_not_installed() -> None:
    npm = record("starlette", {"introduced": "0"}, affected={"package": {"ecosystem": "npm", "name": "starlette"}})
    assert told("1.0.1", npm) == []
    assert told("1.0.1", RANGE, name="starlette-x") == []
    assert told("1.0.1", RANGE, name="STARLETTE") != []
    assert advisories.vulnerable([{"name": "starlette", "version": "1.0.1", "applies": False}], [RANGE]) == []


def test_files_of_all_forms(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "one.json").write_text(json.dumps(RANGE))
    (tmp_path / "sub/list.json").write_text(json.dumps([RANGE | {"id": "B"}, RANGE | {"withdrawn": "2026-01-01"}]))
    (tmp_path / "answer.json").write_text(json.dumps({"vulns": [RANGE | {"id": "C"}]}))
    (tmp_path / "README").write_text("no record")
    assert [found["id"] for found in advisories.read(tmp_path)] == ["C", "PYSEC-1", "B"]
    assert [found["id"] for found in advisories.read(tmp_path / "one.json")] == ["PYSEC-1"]


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '{"id": 5}', "[" * 100_000])
def test_what_is_no_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.json").write_text(text)
    with pytest.raises(InputError, match=r"^gunicorn_fastapi_advisories: /.*/odd\.json .*Fetch it again\.$"):
        advisories.read(tmp_path)


def test_the_variable_names_what_is_there(tmp_path: Path) -> None:
    assert texts.advisories({"gunicorn_fastapi_advisories": ""}) == ""
    assert texts.advisories({"gunicorn_fastapi_advisories": str(tmp_path)}) == ""
    assert "is neither a file nor a directory" in texts.advisories({"gunicorn_fastapi_advisories": "/nowhere"})
