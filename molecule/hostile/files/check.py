"""Attack the service from loopback, and look at what other clients, the journal and the host notice of it.

Ends at the first check that fails, with what was expected and what was seen. Prints a table: other clients'
latency under each attack beside the undisturbed one, and the memory of the service. Times are told, not judged.
"""

import asyncio
import re
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from http.client import HTTPConnection

from checks import PATIENCE, Record, attempt, drop_in, expect, run, wait_for
from load import Generator, Load, Result
from malformed import CASES, SECOND, get
from watched import Watch, connections, files, memory, processes, records, seen

ADDRESS = ("127.0.0.1", 80)
SECONDS = 8
"""How long other clients are served under each attack."""

BRIEF = 4
"""The same, under those of attacks.py."""

RECORDS = 500
"""What a worker may log in a second because of clients, beside access lines: docs/security.md has the sum."""

HALF_OPEN = 3000
MEMORY = 256 * 1024
"""KiB that the service may need in addition under any attack: more than 500 answers of 200 KB, or 3000 headers
of 64 KiB."""

LEFT = 64 * 1024
"""KiB that Python and the C library may keep for the next time, less than what all the attacks had."""

FILES = 400
"""A limit of open files; a worker bounds its connections to half of it."""


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


def attack(kind: str) -> Callable[[threading.Event], str]:
    """One of attacks.py, which goes on for a second longer than the others are served."""
    return lambda _: run("timeout", str(PATIENCE), sys.executable, "attacks.py", kind, str(BRIEF + 1))


BRIEF_ATTACKS: dict[str, Callable[[threading.Event], str]] = {
    "1000 handshakes of WebSockets without an end": attack("handshakes"),
    "300 WebSockets that send and never read": attack("deaf"),
    "60 WebSockets with pings, bytes, empty pieces without end": attack("chatter"),
    "WebSocket messages of 1 MiB without an end, bombs of 16 MiB": attack("unfinished"),
    "clients that leave at once, by a reset": attack("leavers"),
    "clients that leave during a body or an answer": attack("bodies"),
}

ATTACKS: dict[str, Callable[[threading.Event], object]] = {
    "none": lambda _: None,
    f"{HALF_OPEN} half-open connections": half_open,
    "slowhttptest, slow headers": slowhttptest("-H", "-i", "1", "-u", "http://127.0.0.1/"),
    "slowhttptest, slow bodies": slowhttptest("-B", "-i", "1", "-s", "8192", "-u", "http://127.0.0.1/"),
    # Not more: what nobody takes of an answer waits in the kernel's memory, which all hosts of this machine share.
    "slowhttptest, slow reading": slowhttptest(
        *("-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "32", "-u", "http://127.0.0.1/large?200000"), count=500
    ),
    **BRIEF_ATTACKS,
    f"{HALF_OPEN} half-open connections again": half_open,
}


def a_full_service_makes_room() -> str:
    """With few files allowed, more connections than that keep nobody else out, and are told."""

    def open_ones() -> int:
        return connections("established")

    with drop_in(f"LimitNOFILE={FILES}"), ExitStack() as stack:
        run("systemctl", "restart", "fastapi.service")
        since, before, answered = f"@{time.time():.6f}", processes(), 0
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
    return f"{4 * FILES} half-open connections and {FILES} files: {answered} of {answered} others answered"


def others(seconds: float) -> Result:
    """Clients that keep their connections, and clients that open one for each request, 100 requests a second."""
    generators = [
        Generator(Load("http://127.0.0.1/", connections=4, seconds=seconds, keep_alive=keep, rate=50))
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


def told(since: float) -> list[Record]:
    """What was logged since then, but for access lines. Fails when it is more than clients may cause, or an error."""
    seconds, workers = time.time() - since, len(processes()) - 2
    own = [record for record in records(f"@{since:.6f}", "") if " uvicorn.access " not in record["MESSAGE"]]
    most = round(RECORDS * workers * (seconds + 1))
    expect(len(own) <= most, f"at most {most} records in {seconds:.1f} s", len(own))
    errors = [record["MESSAGE"] for record in own if int(record["PRIORITY"]) <= 3]
    expect(not errors, "no error because of clients", errors[:3])
    return own


def served_during(name: str, usual: list[float]) -> str:
    """Others are all answered under an attack, memory and records are bounded, no worker dies, nothing remains.

    `usual` are the latencies without an attack, which the first one, "none", fills in.
    """
    before, was, since, opened = processes(), memory(), time.time(), []
    over = threading.Event()
    attack = threading.Thread(target=lambda: opened.append(ATTACKS[name](over)))
    with Watch() as watch:
        attack.start()
        if name != "none" and name not in BRIEF_ATTACKS:
            wait_for(lambda: watch.connections >= 450, "the attack's connections", lambda: watch.connections)
        result = others(BRIEF if name in BRIEF_ATTACKS else SECONDS)
        over.set()
        attack.join()
    expect(opened, "an attack until its end", name)
    wait_for(lambda: connections() == 0, "no connection after the attack", connections)
    expect(result.answered == result.sent > 0 == result.refused, "an answer to each request", result.failures)
    expect(watch.memory < was + MEMORY, f"at most {MEMORY} KiB more", watch.memory - was)
    expect(processes() == before, f"the same processes, {before}", processes())
    lines = len(told(since))
    times = [result.percentile(percent) * 1000 for percent in (50, 99)]
    usual.extend(times[len(usual) :])
    latency = "".join(f" {ms:.1f} (x{ms / base:.1f}) |" for ms, base in zip(times, usual, strict=True))
    count = int(opened[0]) if name in BRIEF_ATTACKS else watch.connections
    size = f"{was // 1024} | {watch.memory // 1024} | {memory() // 1024}"
    return f"| {name} | {count} | {watch.files} | {lines} | {result.answered} of {result.sent} |{latency} {size} |"


def nothing_remains(start: tuple[str, ...], was: int, opened: int) -> str:
    """After all attacks the service is as it was before them."""
    wait_for(lambda: files() <= opened, f"{opened} open files", files)
    expect(memory() < was + LEFT, f"at most {LEFT} KiB more than before", memory() - was)
    expect(processes() == start, f"the same processes, {start}", processes())
    return f"{files()} open files, {opened} before"


def main() -> None:
    """One check after the other."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    start = processes()
    for check in (malformed_requests_have_no_second_meaning, sizes_are_bounded, nobody_is_believed_about_who_it_is):
        attempt(check)
    was, opened = memory(), files()
    print("| attack | connections | files | records | answered | p50, ms | p99, ms | MiB before | at most | after |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    usual: list[float] = []
    for name in ATTACKS:
        attempt(served_during, name, usual)
    attempt(nothing_remains, start, was, opened)
    attempt(a_full_service_makes_room)


if __name__ == "__main__":
    main()
