"""Metrics are what Prometheus reads, in both of its forms, and serving them needs no right and no service."""

import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from appctl import answering, exposition, measuring, serving, systemd, table, totals
from appctl.exposition import COUNTER, GAUGE, INFO, Family, Sample
from ctl_host import Host
from gunicorn_fastapi.counts import Counts

LABEL = r'[a-z_]+="(?:[^"\\\n]|\\[\\"n])*"'
SAMPLE = re.compile(rf"([a-z_]+)(?:\{{({LABEL}(?:,{LABEL})*)\}})? (-?[0-9]+(?:\.[0-9]+)?(?:e[-+][0-9]+)?|\+Inf)")


SUFFIXES = {
    "counter": ("",),
    "gauge": ("",),
    "summary": ("_sum", "_count"),
    "histogram": ("_bucket", "_sum", "_count"),
    "info": ("_info",),
}
"""What follows a family's name in those of its samples. OpenMetrics has a counter's _total there, too."""


def parsed(text: str, openmetrics: bool = False) -> dict[str, dict[str, float]]:
    """Samples by family, read by the rules of the form; fails where one is broken."""
    lines = text.split("\n")
    assert lines.pop() == ""
    if openmetrics:
        assert lines.pop() == "# EOF"
    found: dict[str, dict[str, float]] = {}
    suffixes: tuple[str, ...] = ()
    name = ""
    for line, former in zip(lines, ["", *lines], strict=False):
        words = line.split(" ")
        if line.startswith("# HELP "):
            name = words[2]
            assert name not in found, "a family comes in one piece"
            assert len(words) > 3
            found[name] = {}
        elif line.startswith("# TYPE "):
            assert former.startswith(f"# HELP {name} ")
            assert words[2] == name
            suffixes = ("_total",) if openmetrics and words[3] == "counter" else SUFFIXES[words[3]]
            assert openmetrics or words[3] != "info"
            assert openmetrics or name.endswith("_total") == (words[3] == "counter")
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] in {name + suffix for suffix in suffixes}, line
            series = f"{match[1]}{{{match[2] or ''}}}"
            assert series not in found[name], "a series comes once"
            found[name][series] = float(match[3])
    assert all(found.values()), "no family is empty"
    return found


@pytest.fixture
def served(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    """A host with requests on two releases, a queue and a control group."""
    host.serves("bbb3")
    (host.system / host.socket).write_text("[Socket]\nListenStream=127.0.0.1:8080\n")
    host.tables.mkdir()
    for number, (instance, release) in enumerate((("main", "aaa1"), ("candidate", "bbb3"))):
        name = f"{instance}-{number:032x}-{release}"
        totals.begin(host, name, os.getegid())
        counts = Counts()
        counts.keep_in(host.tables / name)
        counts.want(2)
        counts.join(1)
        counts.tell(True, 4, 3)
        for status in (200, 200, 503):
            counts.count("GET", status)
            counts.sent(100)
            counts.end(0.3)
    network = tmp_path / "net"
    network.mkdir()
    rest = "00:00000000 00000000 0 0 4711"
    (network / "tcp").write_text(
        f"header\n 0: 0100007F:1F90 00000000:0000 0A 00000000:00000007 {rest}\n"
        f" 1: 0100007F:1F91 00000000:0000 0A 00000000:00000009 {rest}\n"
        f" 2: 0100007F:1F90 0100007F:ABCD 01 00000000:00000005 {rest}\n"
    )
    group = tmp_path / "cgroup" / host.slice
    group.mkdir(parents=True)
    (group / "memory.current").write_text("1000\n")
    (group / "memory.max").write_text("max\n")
    (group / "memory.events").write_text("oom 3\noom_kill 2\n")
    (group / "cpu.stat").write_text("usage_usec 1500000\nnr_throttled 3\nthrottled_usec 250000\n")
    (group / "pids.events").write_text("max 1\n")
    monkeypatch.setattr(measuring, "NETWORK", network)
    monkeypatch.setattr(systemd, "CGROUPS", tmp_path / "cgroup")
    return host


@pytest.mark.parametrize("openmetrics", [False, True])
def test_all_is_measured(served: Host, openmetrics: bool) -> None:
    found = parsed(exposition.written(measuring.families(served), openmetrics), openmetrics)

    def value(name: str, labels: str = "", suffix: str = "") -> float:
        return found[f"gunicorn_fastapi_{name}"][f"gunicorn_fastapi_{name}{suffix}{{{labels}}}"]

    def counter(name: str, labels: str = "") -> float:
        return value(name, labels, "_total") if openmetrics else value(f"{name}_total", labels)

    for release, generation in (("aaa1", "main"), ("bbb3", "candidate")):
        of = f'release="{release}"'
        assert counter("http_requests", f'{of},method="GET",status="2xx"') == 2
        assert counter("http_requests", f'{of},method="GET",status="5xx"') == 1
        assert counter("http_response_body_bytes", of) == 300
        assert value("http_request_duration_seconds", f'{of},le="0.25"', "_bucket") == 0
        assert value("http_request_duration_seconds", f'{of},le="0.5"', "_bucket") == 3
        assert value("http_request_duration_seconds", f'{of},le="+Inf"', "_bucket") == 3
        assert value("http_request_duration_seconds", of, "_count") == 3
        assert value("http_request_duration_seconds", of, "_sum") == pytest.approx(0.9)
        now = f'{of},generation="{generation}"'
        assert (value("workers", now), value("workers_wanted", now)) == (1, 2)
        assert (value("connections", now), value("http_requests_in_progress", now)) == (4, 3)
    assert counter("starts", 'generation="main"') == 1
    assert value("accept_queue_connections", 'address="127.0.0.1:8080"') == 7
    assert value("memory_bytes") == 1000
    assert "gunicorn_fastapi_memory_limit_bytes" not in found  # there is none
    assert (counter("memory_kills"), counter("cpu_seconds"), counter("cpu_throttled_seconds")) == (2, 1.5, 0.25)
    info = 'application="fastapi",release="bbb3"'
    assert (value("release", info, "_info") if openmetrics else value("release_info", info)) == 1
    assert value("last_deploy_timestamp_seconds") == pytest.approx(served.unit.stat().st_mtime)


def test_while_nothing_runs_the_counters_are_there(served: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "FRESH", 0.0)
    found = parsed(exposition.written(measuring.families(served), openmetrics=False))
    assert len(found["gunicorn_fastapi_http_requests_total"]) == 4
    assert "gunicorn_fastapi_workers" not in found


def test_on_a_host_with_nothing_there_is_nothing(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(measuring, "NETWORK", tmp_path)
    monkeypatch.setattr(systemd, "CGROUPS", tmp_path)
    assert exposition.written(measuring.families(host), openmetrics=True) == "# EOF\n"


def test_texts_and_numbers_are_written_as_the_form_has_them() -> None:
    families = [
        Family("a_seconds", COUNTER, "A \\ and\na line.", [Sample({"x": 'q"\\\n'}, 2.0**53), Sample({}, 0.1)]),
        Family("b", GAUGE, "None of them.", []),
        Family("c", INFO, "C.", [Sample({"v": "1"}, 1)]),
    ]
    text = exposition.written(families, openmetrics=False)
    assert text == (
        "# HELP a_seconds_total A \\\\ and\\na line.\n# TYPE a_seconds_total counter\n"
        'a_seconds_total{x="q\\"\\\\\\n"} 9007199254740992\na_seconds_total 0.1\n'
        '# HELP c_info C.\n# TYPE c_info gauge\nc_info{v="1"} 1\n'
    )
    assert "# TYPE a_seconds counter\na_seconds_total{" in exposition.written(families, openmetrics=True)
    assert '# TYPE c info\nc_info{v="1"} 1\n' in exposition.written(families, openmetrics=True)


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", True),
        ("application/openmetrics-text;version=2.0.0", False),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1", True),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.7", False),
        ("text/plain;version=0.0.4;q=0.5,application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=nonsense", True),
        (";;,,;q=", False),
    ],
)
def test_a_client_gets_the_form_that_it_prefers(accept: str, openmetrics: bool) -> None:
    assert exposition.wants_openmetrics(accept) == openmetrics


@pytest.fixture
def address(served: Host) -> Iterator[tuple[str, int]]:
    """Where the metrics are served."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serving.serve, args=(served, listener, 1.0))
        thread.start()
        yield listener.getsockname()
        thread.join(60)
        assert not thread.is_alive(), "it ends when nobody asks"


def ask(address: tuple[str, int], question: str) -> tuple[str, str]:
    """The head and the body of an answer."""
    with socket.create_connection(address, timeout=60) as client:
        client.sendall(question.encode())
        with client.makefile("rb") as file:
            head, _, body = file.read().decode().partition("\r\n\r\n")
    return head, body


def test_who_asks_is_answered(address: tuple[str, int]) -> None:
    head, body = ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 200 OK\r\nContent-Type: {exposition.TEXT}\r\nContent-Length: {len(body)}\r\n")
    parsed(body)
    head, body = ask(address, "GET /metrics?x=1 HTTP/1.1\r\naccept: application/openmetrics-text\r\n\r\n")
    assert f"Content-Type: {exposition.OPENMETRICS}\r\n" in head
    parsed(body, openmetrics=True)
    head, body = ask(address, "HEAD /metrics HTTP/1.0\r\n\r\n")
    assert (head.startswith("HTTP/1.1 200"), body) == (True, "")
    assert ask(address, "GET / HTTP/1.1\r\n\r\n")[0].startswith("HTTP/1.1 404")
    assert ask(address, "POST /metrics HTTP/1.1\r\n\r\n")[0].startswith("HTTP/1.1 405")


@pytest.mark.parametrize("question", ["\r\n\r\n", "GET\r\n\r\n", "\xff /metrics\r\n:\r\n\r\n", "x" * 100_000])
def test_nonsense_ends_nothing(address: tuple[str, int], question: str) -> None:
    with pytest.MonkeyPatch.context() as patch, socket.create_connection(address, timeout=60) as idle:
        patch.setattr(serving, "WHOLE", 0.2)
        with suppress(OSError):
            ask(address, question)
        assert "200 OK" in ask(address, "GET /metrics HTTP/1.1\r\n\r\n")[0]
        idle.sendall(b"GET")


def test_queues_are_those_that_the_kernel_tells(served: Host) -> None:
    assert answering.LISTENING == "0A"
    (family,) = measuring.queue(served)
    assert [(sample.labels["address"], sample.value) for sample in family.samples] == [("127.0.0.1:8080", 7)]
