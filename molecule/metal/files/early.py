"""Clients of a boot: the first ones come as soon as the port is open, and each must be answered.

early.py run     from early.service, ordered after the socket alone
early.py check   prints what came of it
"""

import http.client
import json
import sys
import threading
import time
from pathlib import Path

from checks import attempt, expect, run, wait_for

RESULT = Path("/var/lib/early.json")
CLIENTS = 8
REQUESTS = 5


def client(times: list[tuple[float, float]], trouble: list[str]) -> None:
    """A few requests, each on a connection of its own; when it began and was answered, in seconds of the kernel."""
    for _ in range(REQUESTS):
        begin = time.clock_gettime(time.CLOCK_MONOTONIC)
        try:
            connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=300)
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            if answer.read() != b'"ok"':
                trouble.append(f"{answer.status}")
            connection.close()
            times.append((begin, time.clock_gettime(time.CLOCK_MONOTONIC)))
        except OSError as error:
            trouble.append(f"{type(error).__name__}: {error}")


def send() -> None:
    """All clients at once."""
    times: list[tuple[float, float]] = []
    trouble: list[str] = []
    clients = [threading.Thread(target=client, args=(times, trouble)) for _ in range(CLIENTS)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    building = RESULT.with_suffix(".building")
    building.write_text(json.dumps({"times": times, "trouble": trouble}))
    building.rename(RESULT)


def check() -> str:
    """None was refused, and the first ones had come before the application was up."""
    wait_for(RESULT.exists, "the last answers")
    seen = json.loads(RESULT.read_text())
    expect(not seen["trouble"], "neither refusals nor failures", seen["trouble"])
    expect(len(seen["times"]) == CLIENTS * REQUESTS, "each to be answered", len(seen["times"]))
    shown = run("systemctl", "show", "--property=ActiveEnterTimestampMonotonic", "--value", "fastapi.service")
    up = int(shown) / 1e6
    early = [begin for begin, _ in seen["times"] if begin < up]
    expect(len(early) >= CLIENTS, f"{CLIENTS} clients before the application is up at {up}", early)
    first = min(answered for _, answered in seen["times"])
    return (
        f"boot: {len(early)} of {CLIENTS * REQUESTS} clients came before the application was up, none was refused or "
        f"failed; the first one came {min(early):.1f} s after the kernel's start and was answered at {first:.1f} s"
    )


if __name__ == "__main__":
    if sys.argv[1] == "run":
        send()
    else:
        attempt(check)
