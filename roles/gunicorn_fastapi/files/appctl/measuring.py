"""What is measured of an application, by whoever may read what all may: no right is needed for it."""

import re
from pathlib import Path

from appctl import (
    addresses,
    answering,
    backoff,
    expiring,
    limits,
    opening,
    origin,
    processes,
    released,
    releases,
    systemd,
    table,
    timers,
    totals,
)
from appctl.app import App
from appctl.disk import read_bounded
from appctl.exposition import COUNTER, GAUGE, HISTOGRAM, INFO, SUMMARY, Family, Sample, histogram
from appctl.process import CtlError

PREFIX = "gunicorn_fastapi"
NETWORK = Path("/proc/self/net")


def families(app: App) -> list[Family]:
    """All of it. What cannot be found out just now is left out."""
    counted = totals.look(app)
    return [
        *release(app), *requests(counted), *workers(counted), *queue(app), *beside(app, counted), *jobs(app),
        *certificates(app), *group(app),
    ]  # fmt: skip


def family(name: str, kind: str, text: str, *samples: Sample) -> Family:
    """A family of ours."""
    return Family(f"{PREFIX}_{name}", kind, text, list(samples))


def release(app: App) -> list[Family]:
    """Which release is active, since when, and how its starts went."""
    try:
        active, since = releases.current(app), app.unit.stat().st_mtime
    except OSError:
        return []
    commit = origin.of(app, active).get("commit")
    labels = {"application": app.name, "release": active} | ({"commit": str(commit)} if commit else {})
    ran = released.came(app)
    command = {"release": ran["release"]} if ran else {}
    return [
        family("release", INFO, "The active release.", Sample(labels, 1)),
        family("last_deploy_timestamp_seconds", GAUGE, "When the active release became that.", Sample({}, since)),
        family(
            "start_failures", GAUGE, "Starts of the service that have failed in a row.",
            Sample({}, backoff.failed_before(app).get("failures", 0)),
        ),
        family("release_command_success", GAUGE, "Whether the last release command that has ended did its work.",
               *([Sample(command, ran["outcome"] == released.DONE)] if ran else [])),
        family("release_command_end_timestamp_seconds", GAUGE, "When that was.",
               *([Sample(command, timers.moment(ran["time"]))] if ran else [])),
    ]  # fmt: skip


def requests(counted: totals.Counted) -> list[Family]:
    """What clients were answered, by release."""
    by_release = [({"release": name}, columns) for name, columns in counted.by_release().items()]

    def column(name: str, text: str, number: int) -> Family:
        return family(name, COUNTER, text, *(Sample(labels, columns[number]) for labels, columns in by_release))

    answered = [
        Sample({**labels, "method": method, "status": f"{status}xx"}, number)
        for labels, columns in by_release
        for place, method in enumerate(table.METHODS)
        for status in range(1, table.CLASSES + 1)
        if (number := columns[table.REQUESTS + place * table.CLASSES + status - 1])
    ]
    durations = [
        sample
        for labels, columns in by_release
        for sample in histogram(labels, table.BOUNDS, columns[table.DURATIONS : table.SECONDS], columns[table.SECONDS])
    ]
    late = [
        Sample(labels, columns[number], suffix)
        for labels, columns in by_release
        for suffix, number in (("_sum", table.LATE), ("_count", table.LOOKS))
    ]
    return [
        family(
            "http_requests", COUNTER,
            "Requests of clients, counted when the answer begins. A client that left before is one of 4xx.", *answered,
        ),
        family(
            "http_request_duration_seconds", HISTOGRAM,
            "From the headers of a request to the end of its answer, of those whose client got all of it.", *durations,
        ),
        column("http_response_body_bytes", "Bytes of the bodies of answers.", table.BYTES),
        column("health_requests", "Requests of the control command. They are none of clients.", table.HEALTH),
        column("http_refused", "Requests that the server has refused by itself.", table.REFUSED),
        column("connections_closed", "Connections that were closed because a bound was exceeded.", table.CLOSED),
        column("websockets", "WebSockets that have begun.", table.WEBSOCKETS),
        family(
            "event_loop_delay_seconds", SUMMARY, "By how much the event loop was late, ten times a second.", *late
        ),
    ]  # fmt: skip


def workers(counted: totals.Counted) -> list[Family]:
    """What there is at this moment, by generation; and how often something was started."""
    live = [
        ({"release": one.release, "generation": one.instance}, one.counted)
        for one in counted.running
        if one.counted.is_live
    ]
    started = counted.record.starts.items()
    replaced = counted.replaced().items()
    return [
        family("http_requests_in_progress", GAUGE, "Requests that are being answered.",
               *(Sample(labels, one.running) for labels, one in live)),
        family("connections", GAUGE, "Connections that are open.",
               *(Sample(labels, one.connections) for labels, one in live)),
        family("workers", GAUGE, "Workers that accept connections.",
               *(Sample(labels, one.serving) for labels, one in live)),
        family("workers_wanted", GAUGE, "Workers that there should be.",
               *(Sample(labels, one.wanted) for labels, one in live)),
        family("workers_replaced", COUNTER, "Workers that were replaced, for whatever reason.",
               *(Sample({"release": name}, number) for name, number in replaced)),
        family("starts", COUNTER, "Starts of the service (main) and of the instance beside it (candidate).",
               *(Sample({"generation": name}, number) for name, number in started)),
    ]  # fmt: skip


def queue(app: App) -> list[Family]:
    """How many connections wait for a worker, by address. The kernel tells it of unix sockets to nobody but root."""
    public = [a for held in addresses.layout(app, opening.units(app)).values() for a in held if a.host]
    wanted = {(answering.as_kernel(a.host), a.port): a.text for a in public}
    waiting = []
    for path in (NETWORK / "tcp", NETWORK / "tcp6"):
        try:
            lines = read_bounded(path, answering.MOST).decode("ascii", "replace").split("\n")[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if len(fields) > 9 and fields[3] == answering.LISTENING:
                host, _, port = fields[1].rpartition(":")
                if text := wanted.get((host, int(port, 16))):
                    waiting.append(Sample({"address": text}, int(fields[4].rpartition(":")[2], 16)))
    return [family("accept_queue_connections", GAUGE, "Connections that wait for a worker.", *waiting)]


def beside(app: App, counted: totals.Counted) -> list[Family]:
    """The processes beside the server. One is up while anything runs in the control group of its unit."""
    now = processes.wanted(app)
    up = [
        unit
        for unit in now
        if limits.counts(systemd.CGROUPS / app.slice / unit.name(app), "cgroup.events").get("populated")
    ]
    try:
        names = {*processes.of(app, releases.current(app)), *(unit.process for unit in now)}
    except (CtlError, OSError):
        names = {unit.process for unit in now}

    def of(units: list[processes.Unit]) -> list[Sample]:
        return [Sample({"process": name}, [unit.process for unit in units].count(name)) for name in sorted(names)]

    again = dict.fromkeys(sorted(names), 0) | counted.record.restarts
    return [
        family("processes", GAUGE, "Instances of a process that run.", *of(up)),
        family("processes_wanted", GAUGE, "Instances that there should be.", *of(now)),
        family("process_restarts", COUNTER, "Instances that ended by themselves, and were started again.",
               *(Sample({"process": name}, number) for name, number in again.items())),
    ]  # fmt: skip


def certificates(app: App) -> list[Family]:
    """When the certificates of its domains end."""
    found = [Sample({"domain": domain}, end) for domain, end in expiring.ends(app).items()]
    return [family("certificate_expiry_timestamp_seconds", GAUGE, "When the certificate of a domain ends.", *found)]


def jobs(app: App) -> list[Family]:
    """What came of the last job of each timer."""
    records = {timer: timers.record(app, timer) for timer in timers.planned(app)}
    came = {timer: timers.ended(noted) for timer, noted in records.items()}
    succeeded = {timer: timers.moment(noted.get("succeeded")) for timer, noted in records.items()}

    def of(key: str) -> list[Sample]:
        return [Sample({"timer": timer}, one[key]) for timer, one in came.items() if key in one]

    return [
        family("timer_last_success_timestamp_seconds", GAUGE, "When a job of the timer has succeeded last.",
               *(Sample({"timer": timer}, at) for timer, at in succeeded.items() if at)),
        family("timer_last_exit_status", GAUGE, "What its last job has ended with.", *of("status")),
        family("timer_last_duration_seconds", GAUGE, "How long that has taken.", *of("seconds")),
    ]  # fmt: skip


def group(app: App) -> list[Family]:
    """What the kernel counts of the service and the instance beside it, together."""
    place = systemd.CGROUPS / app.slice
    cpu, events = limits.counts(place, "cpu.stat"), limits.counts(place, "memory.events")
    forks = {"max": limits.refused(place)} if (place / "pids.events").is_file() else {}

    def number(name: str) -> list[Sample]:
        try:
            text = read_bounded(place / name, 100).decode("ascii", "replace").strip()
        except OSError:
            return []
        return [Sample({}, int(text))] if re.fullmatch("[0-9]{1,19}", text) else []

    def of(counts: dict[str, int], key: str, scale: float = 1) -> list[Sample]:
        return [Sample({}, counts[key] / scale)] if key in counts else []

    return [
        family("memory_bytes", GAUGE, "Memory of all processes, with what is cached for them.",
               *number("memory.current")),
        family("memory_limit_bytes", GAUGE, "The limit of that.", *number("memory.max")),
        family("memory_kills", COUNTER, "Processes that the limit has ended.", *of(events, "oom_kill")),
        family("cpu_seconds", COUNTER, "Time of CPUs that was used.", *of(cpu, "usage_usec", 1e6)),
        family("cpu_throttled_seconds", COUNTER, "Time in which the quota held processes up.",
               *of(cpu, "throttled_usec", 1e6)),
        family("tasks_refused", COUNTER, "Processes and threads that the limit has refused.", *of(forks, "max")),
    ]  # fmt: skip
