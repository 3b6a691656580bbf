"""The examples for Prometheus and Grafana ask for metrics that there are."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from appctl import exposition, measuring, table, totals
from ctl_host import Host

EXAMPLES = Path(__file__).parent.parent / "examples/prometheus"


def asked(value: Any) -> set[str]:
    """The metrics that are named in any text of it."""
    if isinstance(value, dict):
        return set().union(*map(asked, value.values()))
    if isinstance(value, list):
        return set().union(*map(asked, value))
    return set(re.findall(r"\bgunicorn_fastapi_\w+", value)) if isinstance(value, str) else set()


@pytest.mark.parametrize("name", ["alerts.yml", "alerts_test.yml", "dashboard.json"])
def test_an_example_asks_for_metrics_that_there_are(host: Host, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    counted = table.Table([1.0] * table.TOTALS, 1, [0.0] * table.TOTALS, 1, 1, 1, 1, 1)
    running = [totals.Running("main", "aaa1", counted)]
    monkeypatch.setattr(totals, "look", lambda _: totals.Counted(totals.Record([], {"main": 1}, {}, {}, {}), running))
    host.serves("aaa1")
    host.came.write_text('{"release": "aaa1", "outcome": "done", "time": "2026-12-01T03:00:00+00:00"}')
    text = exposition.written(measuring.families(host), openmetrics=False)
    # Those of the control group and of the queue, of which this host has none.
    there = set(re.findall(r"^(\w+)[{ ]", text, re.MULTILINE)) | {
        f"gunicorn_fastapi_{name}"
        for name in re.findall(r'family\(\s*"(\w+)"', Path(measuring.__file__).read_text().partition("def queue")[2])
        for name in (name, f"{name}_total")
    }
    content = (EXAMPLES / name).read_text()
    found = asked(json.loads(content) if name.endswith(".json") else yaml.safe_load(content))
    assert len(found) > 5
    assert found - there - {"gunicorn_fastapi_"} == set()
