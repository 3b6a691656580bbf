"""What the status says, as far as it needs no systemd."""

import time

import pytest
from appctl import journal, status
from ctl_host import Host


def journal_of(*lines: str) -> list[dict[str, str]]:
    """Records of the journal with these messages, one a second, up to now."""
    first = time.time() - len(lines)
    return [
        {"MESSAGE": line, "PRIORITY": "6", "__REALTIME_TIMESTAMP": str(int((first + number) * 1e6))}
        for number, line in enumerate(lines)
    ]


def access(status: int) -> str:
    return f'2026-11-23 00:17:57,733 - INFO - uvicorn.access - 127.0.0.1:43102 - "GET / HTTP/1.1" {status}'


def test_the_requests_of_the_last_minutes_are_counted(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    found = journal_of(access(200), "printed", access(404), access(503))
    monkeypatch.setattr(journal, "entries", lambda *_, **__: found)
    assert status.traffic(host) == {"logged": 3, "failed": 1, "seconds": status.TRAFFIC_SECONDS}
    monkeypatch.setattr(status, "TRAFFIC_RECORDS", len(found))
    counted = status.traffic(host)
    assert counted is not None
    assert len(found) <= counted["seconds"] < status.TRAFFIC_SECONDS
    found.clear()
    assert status.traffic(host) is None
