"""How many workers: CPUs by affinity and quota, bounded by memory, and the reason in words."""

import os
from pathlib import Path

import pytest
from gunicorn_fastapi import sizing


class Machine:
    """A made-up machine: CPUs, memory, and a service in a slice of a cgroup v2 tree."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.proc = root / "proc"
        self.cgroups = root / "cgroups"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self/cgroup").write_text("0::/fastapi.slice/fastapi.service\n")
        (self.cgroups / "fastapi.slice/fastapi.service").mkdir(parents=True)
        self.monkeypatch = monkeypatch
        self.has(cpus=8, usable=8, memory_mib=16384)

    def has(self, cpus: int, usable: int, memory_mib: int) -> None:
        sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": memory_mib * 256}
        self.monkeypatch.setattr(os, "cpu_count", lambda: cpus)
        self.monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(usable)))
        self.monkeypatch.setattr(os, "sysconf", sizes.__getitem__)

    def limit(self, group: str, name: str, value: str) -> None:
        (self.cgroups / group / name).write_text(value + "\n")

    def workers(self, worker_memory: int = 128) -> sizing.Sizing:
        return sizing.workers(worker_memory, self.proc, self.cgroups)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_one_worker_per_cpu(machine: Machine) -> None:
    assert machine.workers() == (8, "8 of 8 CPUs by affinity, memory would allow 64")


def test_affinity_counts_rather_than_what_is_in_the_box(machine: Machine) -> None:
    machine.has(cpus=8, usable=3, memory_mib=16384)
    assert machine.workers() == (3, "3 of 8 CPUs by affinity, memory would allow 64")


@pytest.mark.parametrize(
    ("quota", "workers"),
    [("50000 100000", 1), ("100000 100000", 1), ("150000 100000", 2), ("300000 100000", 3), ("800000 100000", 8)],
)
def test_a_quota_counts_rounded_up(machine: Machine, quota: str, workers: int) -> None:
    machine.limit("fastapi.slice/fastapi.service", "cpu.max", quota)
    assert machine.workers().workers == workers


def test_the_tightest_quota_of_all_ancestors_counts(machine: Machine) -> None:
    machine.limit("fastapi.slice/fastapi.service", "cpu.max", "max 100000")
    machine.limit("fastapi.slice", "cpu.max", "200000 100000")
    machine.limit(".", "cpu.max", "400000 100000")
    assert machine.workers() == (2, "a CPU quota of 200%, memory would allow 64")


def test_a_quota_above_the_affinity_changes_nothing(machine: Machine) -> None:
    machine.has(cpus=8, usable=2, memory_mib=16384)
    machine.limit("fastapi.slice", "cpu.max", "400000 100000")
    assert machine.workers() == (2, "2 of 8 CPUs by affinity, memory would allow 64")


def test_two_generations_fit_into_the_memory(machine: Machine) -> None:
    machine.has(cpus=8, usable=8, memory_mib=1024)
    assert machine.workers() == (4, "half of 1024 MiB holds 4 of 128 MiB (the CPUs would allow 8)")


def test_the_memory_limit_of_the_slice_counts(machine: Machine) -> None:
    machine.limit("fastapi.slice/fastapi.service", "memory.max", "max")
    machine.limit("fastapi.slice", "memory.max", str(512 * sizing.MIB))
    assert machine.workers() == (2, "half of 512 MiB holds 2 of 128 MiB (the CPUs would allow 8)")


def test_larger_workers_are_fewer(machine: Machine) -> None:
    assert machine.workers(worker_memory=4096).workers == 2


def test_there_is_always_one_worker(machine: Machine) -> None:
    machine.has(cpus=1, usable=1, memory_mib=64)
    assert machine.workers() == (1, "1 of 1 CPUs by affinity, memory would allow 1")


def test_a_host_without_cgroup_v2_is_sized_by_affinity(machine: Machine) -> None:
    (machine.proc / "self/cgroup").write_text("4:memory:/user.slice\n1:name=systemd:/\n")
    assert machine.workers().workers == 8
