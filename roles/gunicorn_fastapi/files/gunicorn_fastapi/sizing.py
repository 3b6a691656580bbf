"""How many workers this service can use, and why that many.

Asked when gunicorn starts, from inside the service: only there are the CPU affinity, the
quota and the memory limit of its own cgroup to be seen, and a host that was given more
CPUs needs no new release, only a restart.
"""

import math
import os
from pathlib import Path
from typing import NamedTuple

MIB = 1024 * 1024


class Sizing(NamedTuple):
    """A number of workers, and the sentence that explains it to the operator."""

    workers: int
    reason: str


def cgroup_values(name: str, proc: Path, cgroups: Path) -> list[str]:
    """Contents of the cgroup v2 file `name` for this process and each of its ancestors.

    A limit on a slice holds for everything below it, so all of them count. Missing files
    (a controller that is off, cgroup v1) are left out.
    """
    own = ""
    for line in (proc / "self/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            own = line.removeprefix("0::").strip("/")
    path = Path(own)
    files = [cgroups / parent / name for parent in [path, *path.parents]]
    return [file.read_text().strip() for file in files if file.is_file()]


def usable_cpus(proc: Path, cgroups: Path) -> tuple[int, str]:
    """CPUs that this service may use at the same time, and what sets that number.

    A fraction of a CPU counts as one: 150 % keep two workers busy, though not fully.
    """
    cpus = len(os.sched_getaffinity(0))
    reason = f"{cpus} of {os.cpu_count() or cpus} CPUs by affinity"
    for value in cgroup_values("cpu.max", proc, cgroups):
        quota, period = value.split()
        if quota == "max":
            continue
        share = int(quota) / int(period)
        if math.ceil(share) < cpus:
            cpus = max(1, math.ceil(share))
            reason = f"a CPU quota of {share:.0%}"
    return cpus, reason


def usable_memory(proc: Path, cgroups: Path) -> int:
    """Bytes of memory that this service may use: the host's, or a cgroup's limit below it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = cgroup_values("memory.max", proc, cgroups)
    return min([memory, *(int(limit) for limit in limits if limit != "max")])


def workers(worker_memory: int, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> Sizing:
    """One worker per usable CPU, as far as memory goes.

    `worker_memory` is what one worker is expected to need, in MiB. The workers may have half
    of the memory: during a handover two generations of them run side by side.
    """
    cpus, reason = usable_cpus(proc, cgroups)
    memory = usable_memory(proc, cgroups)
    fitting = max(1, memory // 2 // (worker_memory * MIB))
    if fitting < cpus:
        return Sizing(
            fitting,
            f"half of {memory // MIB} MiB holds {fitting} of {worker_memory} MiB (the CPUs would allow {cpus})",
        )
    return Sizing(cpus, f"{reason}, memory would allow {fitting}")
