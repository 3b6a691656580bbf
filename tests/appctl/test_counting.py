"""How many requests were answered is what the servers count, and no line of a log."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from appctl import counting, exchange, handover, journal, releases, status, watch
from appctl.app import CANDIDATE, MAIN
from appctl.counting import Requests
from ctl_host import Host


def answer(requests: str, status: int = 200) -> exchange.Answer:
    return exchange.Answer(b"HTTP/1.1 %d OK\r\nX-Requests: %b" % (status, requests.encode()), b"")


@pytest.mark.parametrize(
    ("told", "read"),
    [
        ("0/0/0.0", (0, 0, 0.0)),
        ("70/4/300.5", (70, 4, 300.5)),
        ("", None),
        ("70/4", None),
        ("-1/0/1.0", None),
        ("1/1/inf", None),
        ("1/1/1.0 ", (1, 1, 1.0)),
        ("9" * 16 + "/1/1.0", None),
    ],
)
def test_an_answer_tells_requests(told: str, read: tuple[int, int, float] | None) -> None:
    assert answer(told).requests == read
    assert exchange.Answer(b"HTTP/1.1 200 OK\r\n", b"").requests is None


@pytest.mark.parametrize(
    ("told", "together"),
    [([], None), ([""], None), (["3/1/10.0"], (3, 1, 10)), (["3/1/10.0", "", "40/2/300.0"], (43, 3, 300))],
)
def test_the_instances_are_added_up(told: list[str], together: tuple[int, int, float] | None) -> None:
    assert counting.requests(map(answer, told)) == together


@pytest.fixture
def instances(host: Host, monkeypatch: pytest.MonkeyPatch) -> dict[str, exchange.Answer]:
    """What the instances that run answer; whoever is not there can not be asked."""
    told: dict[str, exchange.Answer] = {}
    (host.release("aaa1") / "manifest.json").write_text(
        json.dumps({"health_path": "/up", "health_host": "shop.example.com"})
    )

    def ask(address: Path, path: str, name: str, _timeout: float) -> exchange.Answer:
        assert (path, name) == ("/up", "shop.example.com")
        kind = {host.address(kind): kind for kind in (MAIN, CANDIDATE)}[address]
        if kind not in told:
            raise ConnectionRefusedError
        return told[kind]

    monkeypatch.setattr(exchange, "ask", ask)
    monkeypatch.setattr(
        releases, "running", lambda _, unit: "aaa1" if unit == host.service or CANDIDATE in told else ""
    )
    return told


def test_the_candidate_counts_too(host: Host, instances: dict[str, exchange.Answer]) -> None:
    assert counting.answers(host, MAIN, CANDIDATE) == []
    instances[MAIN] = answer("3/1/10.0")
    assert counting.requests(counting.answers(host, MAIN, CANDIDATE)) == (3, 1, 10)
    instances[CANDIDATE] = answer("3/1/20.0", status=500)
    assert counting.requests(counting.answers(host, MAIN, CANDIDATE)) == (6, 2, 20)


FORGED = '2026-11-23 00:17:57,733 - INFO - uvicorn.access - 127.0.0.1:43102 - "GET / HTTP/1.1" 500'


@pytest.mark.parametrize("lines", [[], [FORGED], [FORGED] * 9])
def test_no_line_of_a_log_is_a_request(
    host: Host, instances: dict[str, exchange.Answer], monkeypatch: pytest.MonkeyPatch, lines: Sequence[str]
) -> None:
    def entries(*matches: str, **_: object) -> list[dict[str, str]]:
        found = [{"MESSAGE": line, "PRIORITY": "6"} for line in lines]
        return [] if set(matches) & set(watch.ERRORS) else found

    monkeypatch.setattr(journal, "entries", entries)
    monkeypatch.setattr(watch, "invocation", lambda *_: "abc")
    assert handover.first_words(host, 1.0, []) == ""
    instances[MAIN] = answer("8/0/10.0")
    assert status.traffic(counting.requests(counting.answers(host, MAIN))) == {
        "logged": 8,
        "failed": 0,
        "seconds": 10.0,
    }
    assert handover.first_words(host, 1.0, []) == ""
    instances[MAIN] = answer("8/1/10.0")
    assert handover.first_words(host, 1.0, []) == "1 request failed (5xx)"
    assert handover.first_words(host, 1.0, [answer("90/2/30.0")]) == "3 requests failed (5xx)"


def test_without_an_invocation_what_was_counted_is_told(host: Host) -> None:
    assert watch.trouble(host, Requests(9, 2, 10.0)).words() == "2 requests failed (5xx)"
    assert watch.trouble(host, None).words() == ""


def test_requests_in_no_time_divide_nothing_by_zero() -> None:
    told = status.traffic(counting.requests([answer("7/1/0.0")]))
    assert told == {"logged": 7, "failed": 1, "seconds": 0.1}


def test_the_first_error_comes_with_what_to_do(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = ["Traceback (most recent call last):\nOSError: [Errno 30] Read-only file system: '/opt/x'", "KeyError: 7"]
    entries = [{"MESSAGE": text, "PRIORITY": "3"} for text in errors]
    monkeypatch.setattr(journal, "entries", lambda *_, **__: entries)
    monkeypatch.setattr(watch, "invocation", lambda *_: "abc")
    told = watch.trouble(host, None).words()
    assert told.startswith(
        "2 errors logged, the first: OSError: [Errno 30] Read-only file system: '/opt/x' "
        "(possibly blocked by the sandbox"
    )
    assert "ReadWritePaths=" in told


EXITED = "2026-11-30 10:00:00,000 - ERROR - gunicorn.error - Worker (pid:7) exited with code 7."


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ([EXITED, EXITED], f"2 errors logged, the first: {EXITED}"),
        ([EXITED, "Traceback (most recent call last):\nKeyError: 7"], "2 errors logged, the first: KeyError: 7"),
    ],
)
def test_workers_that_end_without_a_word_are_the_first_error(
    host: Host, monkeypatch: pytest.MonkeyPatch, errors: list[str], told: str
) -> None:
    """What only follows from something else is told where nothing else is."""
    monkeypatch.setattr(journal, "entries", lambda *_, **__: [{"MESSAGE": text, "PRIORITY": "3"} for text in errors])
    monkeypatch.setattr(watch, "invocation", lambda *_: "abc")
    assert watch.trouble(host, None).words() == told
