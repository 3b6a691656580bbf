"""What limits have done is told, as the kernel counts it; and a worker that is larger than was reckoned."""

import json
import os
from pathlib import Path

import pytest
from appctl import handover, limits, systemd
from ctl_host import Host

MIB = limits.MIB


@pytest.fixture
def group(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The control group of an application that uses 210 of its 300 MiB."""
    properties = {
        "ControlGroup": f"/{host.slice}",
        "MemoryCurrent": str(210 * MIB),
        "MemoryMax": str(300 * MIB),
        "TasksCurrent": "60",
        "MainPID": "7",
    }
    monkeypatch.setattr(systemd, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(systemd, "show", lambda _, *names: {name: properties[name] for name in names})
    made = tmp_path / "cgroup" / host.slice
    made.mkdir(parents=True)
    return made


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "210 of 300 MiB"),
        ({"memory.events": "low 0\nmax 90\noom 3\noom_kill 0\n"}, "210 of 300 MiB"),
        (
            {"memory.events": "oom 3\noom_kill 2\noom_group_kill 9\n"},
            "210 of 300 MiB, 2 killed by the limit, and their requests lost",
        ),
        (
            {"pids.events": "max 41\n"},
            "210 of 300 MiB, 41 processes or threads refused (gunicorn_fastapi_tasks_max)",
        ),
        (  # kernels before 6.11 count where a fork was tried, later ones where the limit is
            {"pids.events": "max 0\n", "main.service/pids.events": "max 3\n", "worker.service/pids.events": "max 2\n"},
            "210 of 300 MiB, 5 processes or threads refused (gunicorn_fastapi_tasks_max)",
        ),
        (
            {"pids.events": "max 5\n", "main.service/pids.events": "max 3\n"},
            "210 of 300 MiB, 5 processes or threads refused (gunicorn_fastapi_tasks_max)",
        ),
        (
            {"cpu.stat": "usage_usec 5\nnr_periods 200\nnr_throttled 50\n"},
            "210 of 300 MiB, throttled 25% of the time (gunicorn_fastapi_cpu_quota)",
        ),
        ({"cpu.stat": "nr_periods 0\nnr_throttled 0\n"}, "210 of 300 MiB"),
        ({"cpu.stat": "nr_periods 1000\nnr_throttled 4\n"}, "210 of 300 MiB"),
        ({"pids.events": "max\nmax -1\nmax 1x\n"}, "210 of 300 MiB"),
    ],
)
def test_the_status_tells_what_limits_did(host: Host, group: Path, files: dict[str, str], told: str) -> None:
    for name, text in files.items():
        (group / name).parent.mkdir(exist_ok=True)
        (group / name).write_text(text)
    assert limits.words(limits.seen(host)) == told


@pytest.mark.parametrize(
    ("limits_", "told"),
    [
        ("MemoryMax=199M", "memory_max: 199M is less than the 200 MiB that fastapi has now"),
        ("MemoryMax=204799K", "memory_max: 204799K is less than the 200 MiB"),
        ("MemoryMax=64000000\nTasksMax=1024", "memory_max: 64000000 is less than the 200 MiB"),
        ("TasksMax=59", "tasks_max: 59 is less than the 60 processes and threads that fastapi has now"),
        ("MemoryMax=200M\nTasksMax=60", ""),
        ("MemoryMax=1G", ""),
        ("MemoryMax=100%", ""),
        ("TasksMax=1024", ""),
    ],
)
def test_limits_below_what_serves_are_refused(host: Host, group: Path, limits_: str, told: str) -> None:
    """They would hold before the release that comes with them is proved."""
    (group / "memory.stat").write_text(f"anon {195 * MIB}\nfile {900 * MIB}\nshmem {5 * MIB}\n")
    assert limits.below_use(host, f"[Slice]\n{limits_}\n").startswith(f"gunicorn_fastapi_{told}" if told else told)
    assert bool(limits.below_use(host, f"[Slice]\n{limits_}\n")) == bool(told)


def test_percents_are_of_the_hosts_memory(host: Host, group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": 1024 * MIB // 4096, "SC_PAGE_SIZE": 4096}[name])
    (group / "memory.stat").write_text(f"anon {200 * MIB}\n")
    assert limits.below_use(host, "MemoryMax=19%").startswith("gunicorn_fastapi_memory_max: 19% is less")
    assert limits.below_use(host, "MemoryMax=20%") == ""


def test_before_the_first_start_any_limit_holds(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "show", lambda *_: {"ControlGroup": "", "TasksCurrent": "[not set]"})
    assert limits.below_use(host, "MemoryMax=64M\nTasksMax=16") == ""


@pytest.mark.parametrize(
    ("current", "most", "told"),
    [
        (str(210 * MIB), "infinity", "210 MiB"),
        (str(210 * MIB), str(2**64 - 1), "210 MiB"),
        ("[not set]", str(300 * MIB), "unknown"),
        (str(2**64 - 1), "infinity", "unknown"),
    ],
)
def test_what_is_not_counted_is_not_told(
    host: Host, monkeypatch: pytest.MonkeyPatch, current: str, most: str, told: str
) -> None:
    monkeypatch.setattr(systemd, "show", lambda *_: {"ControlGroup": "", "MemoryCurrent": current, "MemoryMax": most})
    assert limits.words(limits.seen(host)) == told


@pytest.mark.parametrize(
    ("reckoned", "taken", "warns"), [(128, 334, True), (128, 128, False), (512, 334, False), (None, 334, False)]
)
def test_a_worker_larger_than_was_reckoned_is_told(
    host: Host, group: Path, monkeypatch: pytest.MonkeyPatch, reckoned: int | None, taken: int, warns: bool
) -> None:
    assert group
    (host.release("aaa1") / "manifest.json").write_text(json.dumps({"worker_memory": reckoned}))
    monkeypatch.setattr(limits, "worker_memory", lambda main: taken * MIB if main == 7 else 0)
    told = handover.too_large(host, "aaa1")
    assert bool(told) == warns
    assert not warns or (f"uses {taken} MiB" in told and f"gunicorn_fastapi_worker_memory expects {reckoned}" in told)


def test_the_largest_worker_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rollups = {"8": b"Rss: 900000 kB\nPss:  1024 kB\nPss_Anon: 9999 kB\n", "9": b"Pss:    2048 kB\n"}

    def read(path: Path, _most: int) -> bytes:
        if path.parts[2] not in rollups:
            raise ProcessLookupError
        return rollups[path.parts[2]]

    monkeypatch.setattr(systemd, "children", lambda _: {8, 9, 10})
    monkeypatch.setattr(limits, "read_bounded", read)
    assert limits.worker_memory(7) == 2 * MIB
    monkeypatch.setattr(systemd, "children", lambda _: set())
    assert limits.worker_memory(7) == 0
