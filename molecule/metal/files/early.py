"""Clients of a boot: the first ones come as soon as the port is open, and each must be answered.

early.service runs it, ordered after the socket alone; booted.py reads what came of it.
"""

import http.client
import json
import threading
import time
from pathlib import Path

RESULT = Path("/run/early.json")
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
            answer.read()
            if answer.status != 200:
                trouble.append(f"{answer.status}")
            connection.close()
            times.append((begin, time.clock_gettime(time.CLOCK_MONOTONIC)))
        except OSError as error:
            trouble.append(f"{type(error).__name__}: {error}")


def main() -> None:
    """All clients at once."""
    times: list[tuple[float, float]] = []
    trouble: list[str] = []
    clients = [threading.Thread(target=client, args=(times, trouble)) for _ in range(CLIENTS)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    building = RESULT.with_suffix(".building")
    building.write_text(json.dumps({"asked": CLIENTS * REQUESTS, "times": times, "trouble": trouble}))
    building.rename(RESULT)


if __name__ == "__main__":
    main()
