"""Measure servers on a host with systemd, one after the other, round by round.

python3 measure.py logging|serving|idle [--quick] prints JSON objects, one a line: first the machine, then a
sample for each server, load and round. Runs as root on a host that bench/install.yml has prepared.

Every server is a systemd unit whose output goes to the journal, with no limit on how much it may write.
It is started anew for each of its turns, so no sample depends on the one before. CPU time is that of the
unit's control group, so of the main process too, and that of the journal's, until both are idle again.
"""

import argparse
import json
import os
import platform
import random
import resource
import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

BENCH = Path("/opt/bench")
RELEASE = Path("/opt/fastapi/current").resolve()
BIN = RELEASE / "venv/bin"
DROP_IN = Path("/run/systemd/system/fastapi.service.d/bench.conf")
JOURNAL = "systemd-journald.service"
JOURNAL_DROP_IN = Path("/run/systemd/journald.conf.d/zz-bench.conf")

CONNECTIONS = 64
"""Clients at once. Each sends its next request when it has the answer to the one before."""

IDLE = (1, 10, 100, 1000, 5000)
"""Connections that say nothing."""

EVERY_LINE = ("LogRateLimitIntervalSec=10", "LogRateLimitBurst=10000000")
"""Settings of a unit of which the journal drops nothing. An interval of 0 would mean the journal's own limit."""

PATIENCE = 60
"""Seconds after which something that should have happened has failed."""

Sample = dict[str, Any]


# --- Servers ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """A server by its command line, ``{workers}`` in it. The installed service when ``ours``.

    ``journal``: a setting of journald for as long as it runs.
    """

    name: str
    command: str
    ours: bool = False
    journal: str = ""

    @property
    def unit(self) -> str:
        return "fastapi.service" if self.ours else "bench.service"

    @property
    def port(self) -> int:
        return 80 if self.ours else 8000

    def start(self, workers: int) -> None:
        configure_journal(self.journal)
        command = f"{BIN}/{self.command.format(workers=workers)}"
        if self.ours:
            DROP_IN.parent.mkdir(parents=True, exist_ok=True)
            DROP_IN.write_text("\n".join(["[Service]", "ExecStart=", f"ExecStart={command}", *EVERY_LINE, ""]))
            run("systemctl", "daemon-reload")
            run("systemctl", "restart", self.unit)
        else:
            settings = [f"--property={setting}" for setting in ("User=fastapi", *EVERY_LINE)]
            where = f"--working-directory={RELEASE}/app"
            run("systemd-run", "--quiet", f"--unit={self.unit}", where, *settings, *command.split())
        eventually(self._answers, f"an answer of {self.name}")
        wait_until_idle(self.unit)

    def stop(self) -> None:
        """Stop it without mercy: nobody is connected."""
        run("systemctl", "kill", "--signal=SIGKILL", self.unit)
        run("systemctl", "stop", self.unit)
        subprocess.run(["systemctl", "reset-failed", self.unit], capture_output=True, check=False)

    def _answers(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


OURS = f"gunicorn --config {RELEASE}/etc/gunicorn.conf.py --workers {{workers}} --log-config {BENCH}/%s.conf"
GUNICORN = "gunicorn main:app --bind 127.0.0.1:8000 --workers {workers} "
STOCK = GUNICORN + f"--worker-class uvicorn.workers.UvicornWorker --log-config {BENCH}/%s.conf"

LOGGING = [
    Server("stock", STOCK % "logging"),
    Server("stock, logs off", STOCK % "logging-off"),
    Server("ours, plain", OURS % "plain", ours=True),
    Server("ours, json", OURS % "json", ours=True),
    Server("ours, journal", OURS % "journal", ours=True),
    Server("ours, plain, no syslog", OURS % "plain", ours=True, journal="ForwardToSyslog=no"),
    Server("ours, logs off", OURS % "plain-off", ours=True),
]

ADDRESS = "--host 127.0.0.1 --port 8000 --workers {workers}"
SERVING = [
    Server("ours", OURS % "plain", ours=True),
    Server("specification", STOCK % "logging"),
    Server("uvicorn", f"uvicorn main:app {ADDRESS}"),
    Server("fastapi run", f"fastapi run main.py {ADDRESS}"),
    Server("gunicorn asgi", GUNICORN + "--worker-class asgi --access-logfile -"),
    Server("granian", f"granian main:app --interface asgi --access-log {ADDRESS}"),
    Server(
        "hypercorn",
        "hypercorn main:app --bind 127.0.0.1:8000 --worker-class uvloop --access-logfile - --workers {workers}",
    ),
]
"""The other servers with their own defaults and their access logs on."""

PRELOADED = Server("ours, preloaded", OURS % "plain" + " --preload", ours=True)
"""One whose workers share what the application has imported."""

PATIENT = Server("ours beside idle connections", OURS % "plain" + " --keep-alive 75", ours=True)
"""One that does not close them meanwhile."""


def write_logs_off() -> None:
    """Give each logging.conf a twin in which the access logger has no handler: then uvicorn logs no request."""
    for name in ("logging", "plain"):
        head, section, rest = (BENCH / f"{name}.conf").read_text().partition("[logger_gunicorn.access]")
        lines = rest.split("\n")
        lines[next(i for i, line in enumerate(lines) if line.startswith("handlers="))] = "handlers="
        (BENCH / f"{name}-off.conf").write_text(head + section + "\n".join(lines))


# --- The host ---------------------------------------------------------------------------------------


def run(*command: str) -> str:
    """What a command prints. Raises with all of it when the command fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10 * PATIENCE)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def configure_journal(setting: str) -> None:
    """Have the journal run with this setting and no other of ours."""
    before = JOURNAL_DROP_IN.read_text() if JOURNAL_DROP_IN.exists() else ""
    wanted = f"[Journal]\n{setting}\n" if setting else ""
    if wanted == before:
        return
    JOURNAL_DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    JOURNAL_DROP_IN.write_text(wanted)
    run("systemctl", "restart", JOURNAL)


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until it holds; raise with ``what`` after ``PATIENCE``."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {PATIENCE} s: {what}")
        time.sleep(0.05)


def control_group(unit: str) -> Path:
    return Path("/sys/fs/cgroup" + run("systemctl", "show", "--property=ControlGroup", "--value", unit).strip())


def cpu(unit: str) -> int:
    """Microseconds of CPU time that the unit's processes have used."""
    return int((control_group(unit) / "cpu.stat").read_text().split()[1])


def wait_until_idle(unit: str) -> None:
    """Wait until the unit uses less than 3 % of a CPU for 0.2 seconds: it has booted, or caught up."""
    before = cpu(unit)

    def idle() -> bool:
        nonlocal before
        time.sleep(0.2)
        former, before = before, cpu(unit)
        return before - former < 6000

    eventually(idle, f"{unit} is idle")


def processes(unit: str) -> list[int]:
    return [int(pid) for pid in (control_group(unit) / "cgroup.procs").read_text().split()]


def memory(unit: str) -> int:
    """Bytes of memory of all processes of the unit, what they share counted once (PSS)."""
    total = 0
    for pid in processes(unit):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def machine() -> dict[str, object]:
    """What the figures depend on, without any name or address."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.machine())
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "memory_gib": round(pages / 2**30),
        "virtualisation": run("systemd-detect-virt", "--vm").strip() if Path("/run/systemd/system").exists() else "",
        "kernel": platform.release(),
        "system": release["PRETTY_NAME"].strip('"'),
        "systemd": run("systemctl", "--version").split()[1],
        "python": run(str(BIN / "python"), "--version").split()[1],
        "packages": dict(line.split("==") for line in packages() if "==" in line),
    }


def packages() -> list[str]:
    """Name==version of what the servers consist of."""
    names = ["fastapi", "fastapi-cli", "granian", "gunicorn", "httptools", "hypercorn", "pydantic"]
    names += ["starlette", "uvicorn", "uvloop"]
    code = f"from importlib.metadata import version; [print(n, version(n), sep='==') for n in {names}]"
    return run(str(BIN / "python"), "-c", code).splitlines()


# --- Loads ------------------------------------------------------------------------------------------


def load(server: Server, path: str, seconds: int, *, close: bool = False) -> Sample:
    """As many requests as the server answers. What came back, and the CPU time that it took, per request.

    ``close``: a new connection for each request. Latencies are milliseconds, CPU times microseconds.
    """
    before = cpu(server.unit), cpu(JOURNAL)
    arguments = ["--threads=1", f"--connections={CONNECTIONS}", f"--duration={seconds}s", f"--script={BENCH}/load.lua"]
    url = f"http://127.0.0.1:{server.port}{path}"
    answer = run("wrk", *arguments, url, *(["--", "close"] if close else []))
    result: Sample = json.loads(answer.splitlines()[-1])
    wait_until_idle(server.unit)
    wait_until_idle(JOURNAL)
    used = cpu(server.unit) - before[0], cpu(JOURNAL) - before[1]
    requests = result["requests"]
    if not requests:
        raise RuntimeError(f"{server.name}: no answer to {path}: {answer}")
    result["rate"] = requests / result["seconds"]
    result["cpu"], result["journal"] = (round(part / requests, 2) for part in used)
    return result


@contextmanager
def started(server: Server, workers: int, *, quick: bool) -> Iterator[None]:
    """The server, running, with its connections and caches warm, unless it has to be quick."""
    run("journalctl", "--rotate", "--vacuum-files=1")
    server.start(workers)
    try:
        if not quick:
            load(server, "/", 1)
        yield
    finally:
        server.stop()


def measure_logging(rounds: Sequence[int], *, quick: bool) -> Iterator[Sample]:
    """Each way to log, 2 workers, connections that are kept."""
    write_logs_off()
    for number in rounds:
        for server in in_any_order(LOGGING, number):
            since = f"@{time.time():.6f}"
            with started(server, 2, quick=quick):
                sample = load(server, "/", 1 if quick else 3)
            run("journalctl", "--sync")
            lines = run("journalctl", "--output=cat", f"--unit={server.unit}", f"--since={since}").count("HTTP/1.1")
            yield {"server": server.name, "round": number, "lines": lines, **sample}


def measure_serving(rounds: Sequence[int], *, quick: bool) -> Iterator[Sample]:
    """Each server with 1, 2 and 4 workers; with 2 also what takes the application longer; at last who gets the work."""
    numbers, seconds = ([2], 1) if quick else ([1, 2, 4], 2)
    for number in rounds:
        for workers in numbers:
            for server in in_any_order(SERVING, number * 10 + workers):
                about = {"server": server.name, "workers": workers, "round": number}
                with started(server, workers, quick=quick):
                    whole = server.ours or not quick
                    for path in ["/", "/orders", "/wait"] if workers == 2 and whole else ["/"]:
                        yield {**about, "path": path, "close": False, **load(server, path, seconds)}
                    yield {**about, "path": "/", "close": True, **load(server, "/", seconds, close=True)}
                    yield {**about, "memory": memory(server.unit)}
                    if workers == max(numbers) and whole:
                        for close in (False, True):
                            yield {**about, "close": close, "spread": spread(server, seconds, close=close)}
            with started(PRELOADED, workers, quick=quick):
                yield {"server": PRELOADED.name, "workers": workers, "round": number, "memory": memory(PRELOADED.unit)}


def spread(server: Server, seconds: int, *, close: bool) -> list[int]:
    """How many requests each worker got of a moderate load, most first: 64 connections, 500 requests a second."""
    url = f"http://127.0.0.1:{server.port}/worker"
    settings = [f"--connections={CONNECTIONS}", f"--seconds={seconds}", "--rate=500", "--label=body", "--json"]
    answer = run("python3", f"{BENCH}/load.py", url, *settings, "--close" if close else "--keep-alive")
    return sorted(json.loads(answer)["labels"].values(), reverse=True)


def measure_idle(rounds: Sequence[int], *, quick: bool) -> Iterator[Sample]:
    """Our service, 2 workers, beside connections that have had an answer and say nothing more."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * IDLE[-1]), hard))
    for number in rounds:
        with started(PATIENT, 2, quick=quick):
            for count in in_any_order(IDLE[: 2 if quick else None], number):
                with idle(PATIENT, count) as poll:
                    sample = load(PATIENT, "/", 1 if quick else 2)
                    closed = len(poll.poll(0))
                yield {
                    "server": PATIENT.name,
                    "round": number,
                    "idle": count,
                    "closed": closed,
                    **sample,
                }


@contextmanager
def idle(server: Server, count: int) -> Iterator[select.poll]:
    """So many connections, each of which has been answered once. What the poll finds, the server has closed."""
    connections: list[socket.socket] = []
    poll = select.poll()
    try:
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
            connections.append(connection)
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if not connection.recv(4096).startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"{server.name}: connection {len(connections)} was not answered")
            poll.register(connection, select.POLLRDHUP)
        yield poll
    finally:
        for connection in connections:
            connection.close()


def in_any_order(what: Sequence[Any], seed: int) -> list[Any]:
    """All of them, in another order for each seed, so that none has always the same neighbours."""
    return random.Random(seed).sample(what, len(what))


PARTS = {"logging": (measure_logging, 4), "serving": (measure_serving, 2), "idle": (measure_idle, 2)}
"""What measures each part, and in how many rounds."""


def main() -> None:
    """Print the samples of one part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=["logging", "serving", "idle"])
    parser.add_argument("--quick", action="store_true", help="as few loads as can be, each for a second")
    parser.add_argument("--rounds", type=int, nargs=2, metavar=("FIRST", "LAST"), help="some of the rounds")
    options = parser.parse_args()
    measure, last = PARTS[options.part]
    rounds = range(1, 2) if options.quick else range(1, last + 1)
    if options.rounds:
        rounds = range(options.rounds[0], options.rounds[1] + 1)
    print(json.dumps(machine()), flush=True)
    try:
        for sample in measure(rounds, quick=options.quick):
            print(json.dumps(sample), flush=True)
    finally:
        DROP_IN.unlink(missing_ok=True)
        run("systemctl", "daemon-reload")
        configure_journal("")


if __name__ == "__main__":
    main()
