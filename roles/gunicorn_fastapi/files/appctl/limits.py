"""What the limits of an application have done to it, as the kernel counts it."""

import os
import re
from pathlib import Path
from typing import Any

from appctl import systemd
from appctl.app import App
from appctl.disk import read_bounded

MIB = 2**20


def counts(group: Path, name: str) -> dict[str, int]:
    """The numbers of a file of a control group, by their names. None where the kernel keeps none."""
    try:
        text = read_bounded(group / name, 65536).decode(errors="replace")
    except OSError:
        return {}
    return {key: int(value) for key, value in re.findall(r"^(\w+) (\d+)$", text, re.MULTILINE)}


def seen(app: App) -> dict[str, Any]:
    """Memory and its limit in bytes (None: no limit, or not counted), and how often a limit was felt since boot.

    ``killed``: processes that the memory limit has ended. ``refused``: forks beyond the tasks limit. ``throttled``: the
    share of the time with work in which the CPU quota was used up, from 0 to 1.
    """
    unit = systemd.show(app.slice, "ControlGroup", "MemoryCurrent", "MemoryMax")
    group = systemd.CGROUPS / unit["ControlGroup"].strip("/")
    found: dict[str, Any] = {"memory": number(unit["MemoryCurrent"]), "memory_max": number(unit["MemoryMax"])}
    if not unit["ControlGroup"].strip("/"):
        return found | {"killed": 0, "refused": 0, "throttled": 0.0}
    cpu = counts(group, "cpu.stat")
    return found | {
        "killed": counts(group, "memory.events").get("oom_kill", 0),
        "refused": refused(group),
        "throttled": round(cpu.get("nr_throttled", 0) / max(1, cpu.get("nr_periods", 0)), 3),
    }


def refused(group: Path) -> int:
    """How many forks the limit of a slice has refused. Kernels before 6.11 count them where they were tried."""
    tried = sum(counts(file.parent, file.name).get("max", 0) for file in group.glob("*/pids.events"))
    return max(counts(group, "pids.events").get("max", 0), tried)


def number(text: str) -> int | None:
    """Bytes, None for what is not counted or has no limit."""
    found = systemd.number(text)
    return found if 0 < found < 2**63 else None


def below_use(app: App, text: str) -> str:
    """Why the limits in a slice's new text would end or hold up what runs in it now, in words. Empty when they do not.

    They hold from the next reload on, before the release that comes with them is proved. Files in the page cache are
    not counted: the kernel drops them first.
    """
    wanted = dict(re.findall(r"^(MemoryMax|TasksMax)=([0-9]+[KMGT%]?)$", text, re.MULTILINE))
    unit = systemd.show(app.slice, "ControlGroup", "TasksCurrent")
    if not unit["ControlGroup"].strip("/"):
        return ""
    memory = counts(systemd.CGROUPS / unit["ControlGroup"].strip("/"), "memory.stat")
    used, tasks = memory.get("anon", 0) + memory.get("shmem", 0), number(unit["TasksCurrent"]) or 0
    if "MemoryMax" in wanted and used > in_bytes(wanted["MemoryMax"]):
        what = f"memory_max: {wanted['MemoryMax']} is less than the {used / MIB:.0f} MiB"
    elif "TasksMax" in wanted and tasks > int(wanted["TasksMax"]):
        what = f"tasks_max: {wanted['TasksMax']} is less than the {tasks} processes and threads"
    else:
        return ""
    return (
        f"gunicorn_fastapi_{what} that {app.name} has now, and would hit what serves. Nothing has changed. Give more, "
        "or deploy with fewer gunicorn_fastapi_workers first"
    )


def in_bytes(limit: str) -> int:
    """A limit of memory as MemoryMax= takes it: bytes, with a unit, or percents of the host's."""
    if limit.endswith("%"):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * int(limit[:-1]) // 100
    return int(limit.rstrip("KMGT")) << 10 * ("KMGT".find(limit[-1]) + 1)


def words(found: dict[str, Any]) -> str:
    """The same in words."""
    memory, most = found["memory"], found["memory_max"]
    if memory is None:
        text = "unknown"
    elif most is None:
        text = f"{memory / MIB:.0f} MiB"
    else:
        text = f"{memory / MIB:.0f} of {most / MIB:.0f} MiB"
    if found["killed"]:
        text += f", {found['killed']} killed by the limit, and their requests lost"
    if found["refused"]:
        text += f", {found['refused']} processes or threads refused (gunicorn_fastapi_tasks_max)"
    if found["throttled"] >= 0.01:
        text += f", throttled {found['throttled']:.0%} of the time (gunicorn_fastapi_cpu_quota)"
    return text


def worker_memory(main: int) -> int:
    """Bytes that the largest worker of a main process has for itself, its part of what is shared included."""
    sizes = [0]
    for pid in systemd.children(main):
        try:
            rollup = read_bounded(Path(f"/proc/{pid}/smaps_rollup"), 65536).decode(errors="replace")
        except OSError:  # it has just ended
            continue
        sizes += [int(size) * 1024 for size in re.findall(r"^Pss: +(\d+) kB$", rollup, re.MULTILINE)]
    return max(sizes)
