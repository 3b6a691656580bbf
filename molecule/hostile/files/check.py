"""Attack the service from loopback, and look at what other clients, the journal and the host notice of it.

Ends at the first check that fails, with what was expected and what was seen. Prints a table: other clients'
latency under each attack beside the undisturbed one, and the memory of the service. Times are told, not judged.
"""

import asyncio
import json
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self

from load import Generator, Load, Result
from malformed import CASES, SECOND, get

ADDRESS = ("127.0.0.1", 80)
PATIENCE = 60
"""Seconds after which something that should have happened has not."""

SECONDS = 8
"""How long other clients are served under each attack."""

HALF_OPEN = 3000
MEMORY = 256 * 1024
"""KiB that the service may need in addition under any attack: more than 500 answers of 200 KB, or 3000 headers
of 64 KiB."""

LEFT = 64 * 1024
"""KiB that Python and the C library may keep for the next time, less than what all the attacks had."""

FILES = 400
"""A limit of open files; a worker bounds its connections to half of it."""

DROP_IN = Path("/etc/systemd/system/fastapi.service.d/check.conf")


class CheckError(Exception):
    """What was expected, and what was seen instead."""


def run(*command: str) -> str:
    """What a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * PATIENCE)
    if done.returncode:
        raise CheckError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def expect(condition: object, expected: str, seen: object) -> None:
    """Fail unless the condition holds."""
    if not condition:
        raise CheckError(f"expected {expected}; seen: {seen}")


def wait_for(condition: Callable[[], object], expected: str, seen: Callable[[], object]) -> None:
    """Fail unless the condition holds some time soon."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        expect(time.monotonic() < deadline, expected, seen() if time.monotonic() >= deadline else "")
        time.sleep(0.1)


# --- The service ------------------------------------------------------------------------------------


def processes() -> tuple[str, ...]:
    """gunicorn and its workers, and how often systemd had to start them again."""
    main = run("systemctl", "show", "--property=MainPID", "--value", "fastapi.service").strip()
    restarts = run("systemctl", "show", "--property=NRestarts", "--value", "fastapi.service").strip()
    children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
    return (f"restarts {restarts}", main, *sorted(children))


def memory() -> int:
    """KiB of the service that are its own."""
    status = (Path(f"/proc/{process}/status").read_text() for process in processes()[1:])
    return sum(int(re.search(r"RssAnon:\s+(\d+)", text)[1]) for text in status)


def connections(state: str = "connected") -> int:
    """How many connections the service has; with "established" only those that neither side has closed."""
    states = ("state", state, "exclude", "time-wait")
    return len(run("ss", "--no-header", "--tcp", "--numeric", *states, "sport = :80").splitlines())


def files() -> int:
    """How many files the workers have open."""
    return sum(len(list(Path(f"/proc/{process}/fd").iterdir())) for process in processes()[2:])


def records(since: str, text: str) -> list[dict[str, Any]]:
    """The service's records with a text."""
    run("journalctl", "--sync")
    lines = run("journalctl", "--quiet", "--all", "--output=json", f"--since={since}", "--unit=fastapi.service")
    found = [json.loads(line) for line in lines.splitlines()]
    return [record for record in found if isinstance(record["MESSAGE"], str) and text in record["MESSAGE"]]


def seen() -> list[str]:
    """What has reached the application, but for the health checks."""
    path = Path("/var/lib/fastapi/seen")
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if "/healthz" not in line]


# --- Malformed requests -----------------------------------------------------------------------------


def statuses(data: bytes) -> tuple[str, list[int]]:
    """The client's address, and the statuses of all answers until the service closes."""
    stream, found = b"", []
    with socket.create_connection(ADDRESS, timeout=PATIENCE) as connection:
        client = "{}:{}".format(*connection.getsockname())
        connection.sendall(data)
        while piece := connection.recv(65536):
            stream += piece
    while stream:
        head, _, stream = stream.partition(b"\r\n\r\n")
        found.append(int(head.split()[1]))
        stream = stream[int(re.search(rb"content-length: (\d+)", head)[1]) :]
    return client, found


def malformed_requests_have_no_second_meaning() -> str:
    """Each of the table gets its answer, reaches the application as it should, and is one record."""
    since, asked = f"@{time.time():.6f}", {}
    for case in CASES:
        before = len(seen())
        client, answers = statuses(case.data + SECOND)
        expect(answers[0] == case.status, f"{case.status} for {case.name}", answers)
        lines = seen()[before:]
        expect(lines == list(case.seen), f"{case.seen} in the application for {case.name}", lines)
        asked[client] = (case, len([status for status in answers if status != 200]))
    refusals = records(since, "Refused with")
    for client, (case, count) in asked.items():
        own = [r for r in refusals if f"{client} - Refused with" in r["MESSAGE"]]
        expect(len(own) == count <= 1, f"{count} record(s) for {case.name}", own)
        expect(all(r["PRIORITY"] == "4" for r in own), "priority warning", own)
    return f"{len(CASES)} malformed requests, {len(refusals)} records"


def sizes_are_bounded() -> str:
    """One of each, too large by far."""
    header = b"Host: shop\r\nA: %b\r\n" % (b"a" * 8_000_000)
    body = b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 1000001\r\n\r\n"
    for data, status in (
        (get(headers=header), 431),
        (get(headers=b"Host: shop\r\n" + b"A: b\r\n" * 5000), 431),
        (get(b"/" + b"a" * 9000), 414),
        (body, 413),
    ):
        _, answers = statuses(data)
        expect(answers == [status], f"{status} for {data[:40]!r}", answers)
    return "8 MB of headers, 5000 headers, an address of 9 KB, a body above the bound"


def nobody_is_believed_about_who_it_is() -> str:
    """Not on loopback, and not by the environment."""
    connection = HTTPConnection(*ADDRESS, timeout=PATIENCE)
    connection.request("GET", "/", headers={"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"})
    answer = connection.getresponse()
    believed = (answer.getheader("x-client"), answer.getheader("x-scheme"))
    connection.close()
    expect(believed == ("127.0.0.1", "http"), "the true address and scheme", believed)
    return "X-Forwarded-For and -Proto are not believed"


# --- Attacks ----------------------------------------------------------------------------------------


def half_open(over: threading.Event) -> None:
    """Thousands of connections with a part of a request, for as long as the service keeps them."""

    def begin() -> socket.socket:
        connection = socket.create_connection(ADDRESS, timeout=PATIENCE)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: shop\r\nA: " + b"a" * 2000)
        return connection

    with ExitStack() as stack:
        for _ in range(HALF_OPEN):
            stack.enter_context(begin())
        over.wait()


def slowhttptest(*arguments: str, count: int = 1000) -> Callable[[threading.Event], None]:
    """An attack of slowhttptest, with that many connections."""

    def attack(_: threading.Event) -> None:
        command = ["slowhttptest", "-c", str(count), "-r", "500", "-l", str(SECONDS + 4), "-p", "5", *arguments]
        run("timeout", str(PATIENCE), *command)

    return attack


ATTACKS: dict[str, Callable[[threading.Event], None]] = {
    "none": lambda _: None,
    f"{HALF_OPEN} half-open connections": half_open,
    "slowhttptest, slow headers": slowhttptest("-H", "-i", "1", "-u", "http://127.0.0.1/"),
    "slowhttptest, slow bodies": slowhttptest("-B", "-i", "1", "-s", "8192", "-u", "http://127.0.0.1/"),
    # Not more: what nobody takes of an answer waits in the kernel's memory, which all hosts of this machine share.
    "slowhttptest, slow reading": slowhttptest(
        *("-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "32", "-u", "http://127.0.0.1/large?200000"), count=500
    ),
    f"{HALF_OPEN} half-open connections again": half_open,
}


def a_full_service_makes_room() -> str:
    """With few files allowed, more connections than that keep nobody else out, and are told."""

    def open_ones() -> int:
        return connections("established")

    DROP_IN.parent.mkdir(exist_ok=True)
    DROP_IN.write_text(f"[Service]\nLimitNOFILE={FILES}\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", "fastapi.service")
    try:
        since, before, answered = f"@{time.time():.6f}", processes(), 0
        with ExitStack() as stack:
            for number in range(4 * FILES):
                attacker = stack.enter_context(socket.create_connection(ADDRESS, timeout=PATIENCE))
                attacker.sendall(b"GET / HTTP/1.1\r\nHost: shop\r\nA: ")
                if number % 10 == 0:
                    answered += statuses(get(headers=b"Host: shop\r\nConnection: close\r\n"))[1] == [200]
            wait_for(lambda: open_ones() <= FILES, f"at most {FILES} connections of two workers", open_ones)
        expect(answered == 4 * FILES // 10, f"{4 * FILES // 10} answers to others", answered)
        words = f": more than {FILES // 2} connections"
        wait_for(lambda: records(since, words), "the closed connections in the journal", lambda: records(since, ""))
        expect(processes() == before, f"the same processes, {before}", processes())
    finally:
        DROP_IN.unlink()
        run("systemctl", "daemon-reload")
        run("systemctl", "restart", "fastapi.service")
    return f"{4 * FILES} half-open connections and {FILES} files: {answered} of {answered} others answered"


class Watch:
    """The most memory and connections that the service had."""

    def __init__(self) -> None:
        self.memory = self.connections = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            self.memory = max(self.memory, memory())
            self.connections = max(self.connections, connections())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def others() -> Result:
    """Clients that keep their connections, and clients that open one for each request, 100 requests a second."""
    generators = [
        Generator(Load("http://127.0.0.1/", connections=4, seconds=SECONDS, keep_alive=keep, rate=50))
        for keep in (True, False)
    ]

    async def serve() -> None:
        await asyncio.gather(*(generator.run() for generator in generators))

    asyncio.run(serve())
    both = generators[0].result
    for name in ("sent", "answered", "failed", "refused"):
        setattr(both, name, getattr(both, name) + getattr(generators[1].result, name))
    both.latencies.extend(generators[1].result.latencies)
    both.failures.update(generators[1].result.failures)
    return both


def served_during(name: str) -> str:
    """Others are all answered under an attack, the memory is bounded, no worker dies, nothing remains."""
    before, was = processes(), memory()
    over = threading.Event()
    attack = threading.Thread(target=ATTACKS[name], args=(over,))
    with Watch() as watch:
        attack.start()
        if name != "none":
            wait_for(lambda: watch.connections >= 450, "the attack's connections", lambda: watch.connections)
        result = others()
        over.set()
        attack.join()
    wait_for(lambda: connections() == 0, "no connection after the attack", connections)
    expect(result.answered == result.sent > 0, "an answer to each request", result.failures)
    expect(watch.memory < was + MEMORY, f"at most {MEMORY} KiB more", watch.memory - was)
    expect(processes() == before, f"the same processes, {before}", processes())
    latency = "".join(f" {result.percentile(percent) * 1000:.1f} |" for percent in (50, 99))
    size = f"{was // 1024} | {watch.memory // 1024} | {memory() // 1024}"
    return f"| {name} | {watch.connections} | {result.answered} of {result.sent} |{latency} {size} |"


def main() -> None:
    """One check after the other."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    try:
        start = processes()
        for check in (
            malformed_requests_have_no_second_meaning,
            sizes_are_bounded,
            nobody_is_believed_about_who_it_is,
        ):
            print(check())
        was, opened = memory(), files()
        print("| attack | connections | answered | p50, ms | p99, ms | MiB before | at most | after |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        for name in ATTACKS:
            print(served_during(name))
        wait_for(lambda: files() <= opened, f"{opened} open files", files)
        expect(memory() < was + LEFT, f"at most {LEFT} KiB more than before", memory() - was)
        expect(processes() == start, f"the same processes, {start}", processes())
        print(a_full_service_makes_room())
    except CheckError as error:
        sys.exit(f"check.py: {error}")


if __name__ == "__main__":
    main()
