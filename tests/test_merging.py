"""Records of several hosts come in order of time, whatever their ways to the controller are."""

import json
import sys
from typing import Any

from gunicorn_fastapi_controller import merging


def record(at: int, message: str = "") -> dict[str, Any]:
    return {"time": f"2026-11-30T14:00:{at:02}.000000+00:00", "unit": "shop.service", "message": message}


def test_fetched_records_are_in_order_of_time() -> None:
    rows = {"web1": [record(1), record(4)], "web2": [record(2), record(4), record(5)]}
    found = [(host, row["time"][17:19]) for host, row in merging.ordered(rows)]
    assert found == [("web1", "01"), ("web2", "02"), ("web1", "04"), ("web2", "04"), ("web2", "05")]


def test_a_record_waits_for_earlier_ones() -> None:
    waiting = merging.Waiting()
    waiting.add("web1", record(2), now=10)
    waiting.add("web2", record(1), now=10.1)
    waiting.add("web2", record(3), now=10.2)
    assert list(waiting.due(10.1)) == []
    # What is due takes those along that were before it.
    assert [row["time"][17:19] for _, row in waiting.due(10 + merging.HOLD)] == ["01", "02"]
    assert [row["time"][17:19] for _, row in waiting.due(11)] == ["03"]
    assert list(waiting.due(12)) == []


def test_a_flood_does_not_wait() -> None:
    waiting = merging.Waiting()
    for number in range(merging.WAITING + 5):
        waiting.add("web1", record(1, str(number)), now=0)
    assert [row["message"] for _, row in waiting.due(0)] == ["0", "1", "2", "3", "4"]


def test_programs_are_followed_until_they_end() -> None:
    def program(*lines: str) -> list[str]:
        return [sys.executable, "-c", f"print({chr(10).join(lines)!r}); import sys; sys.exit('gone')"]

    shown = []
    streams = {
        "web1": program("Welcome", json.dumps(record(1)), json.dumps(record(3))),
        "web2": program(json.dumps(record(2)), "[]", '{"said": []}'),
    }
    ends = merging.follow(streams, lambda host, row: shown.append((host, row["time"][17:19])))
    assert shown == [("web1", "01"), ("web2", "02"), ("web1", "03")]
    assert ends == {"web1": "gone", "web2": "gone"}


def test_a_line_for_a_terminal() -> None:
    line = merging.text("web1", record(1, "started"), 6)
    assert line == "2026-11-30T14:00:01.000Z web1   shop: started"
