"""An application that takes what it may not have, on a kernel whose controllers hold it back. Runs on the host."""

import http.client
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from checks import attempt, expect, run, wait_for

GROUP = Path("/sys/fs/cgroup/fastapi.slice/fastapi.service")
WELL = {"status": "ok"}
TASKS_MAX = 64
QUOTA = 0.8


def ask(path: str, method: str = "GET") -> Any:
    """An answer, which must be a good one."""
    request = urllib.request.Request(f"http://127.0.0.1{path}", method=method)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def status() -> dict[str, Any]:
    """What the control command says."""
    answer: dict[str, Any] = json.loads(run("fastapictl", "status", "--json"))
    return answer


def workers() -> set[str]:
    """The numbers of the workers."""
    main = run("systemctl", "show", "--property=MainPID", "--value", "fastapi").strip()
    return set(Path(f"/proc/{main}/task/{main}/children").read_text().split())


def egress() -> str:
    """The application reaches its own host, and no other: not even the name server."""
    here, there = ask("/connect?host=127.0.0.1&port=22", "POST"), ask("/connect?host=10.0.2.3&port=53", "POST")
    expect((here, there) == ("connected", "timed out"), "localhost alone", here, there)
    expect(connected_by_root("10.0.2.3", 53), "somebody there who would have answered")
    return "egress: localhost alone; the packets of others are dropped by BPF"


def connected_by_root(host: str, port: int) -> bool:
    """Whether who has no such list is answered there."""
    try:
        socket.create_connection((host, port), 20).close()
    except OSError:
        return False
    return True


def tasks_max() -> str:
    """A fork bomb ends at its limit; health is answered meanwhile, and status tells it."""
    exploded: list[dict[str, Any]] = []
    bomb = threading.Thread(target=lambda: exploded.append(ask("/bomb?most=200", "POST")))
    bomb.start()
    answered = 0
    while bomb.is_alive():
        expect(ask("/healthz") == WELL, "health")
        answered += 1
        time.sleep(0.1)
    expect(
        exploded[0]["error"] == "Resource temporarily unavailable",
        "refused forks",
        exploded,
    )
    expect(
        0 < exploded[0]["started"] < TASKS_MAX,
        f"fewer than {TASKS_MAX} processes",
        exploded,
    )
    expect(
        answered and status()["refused"],
        "answers meanwhile, and status to tell of what was refused",
        status(),
    )
    return f"tasks_max: {exploded[0]['started']} processes, then refused; {answered} answers of health meanwhile"


def cpu_quota() -> str:
    """A worker that could use a whole CPU has its share of it."""
    had = ask("/burn?seconds=4", "POST")
    expect(had < 4 * QUOTA + 0.2, f"{QUOTA:.0%} of a CPU", had)
    expect(status()["throttled"], "status to tell of it", status())
    return f"cpu_quota: {had:.2f} of 4 s"


def memory_max() -> str:
    """The worker that leaks is killed, and no other; others are answered meanwhile, and status tells it."""
    before, killed = workers(), status()["killed"]
    ended: list[str] = []

    def leak() -> None:
        try:
            ended.append(f"answered {ask('/leak?mebibytes=400', 'POST')}")
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            ended.append(type(error).__name__)

    leaking = threading.Thread(target=leak)
    leaking.start()
    answered = 0
    while leaking.is_alive():
        try:
            ask("/healthz")
        except (urllib.error.URLError, http.client.HTTPException, OSError):
            continue  # the kernel has given this one to the worker that it killed
        answered += 1
        time.sleep(0.1)
    expect(not ended[0].startswith("answered"), "no answer for the leak", ended)
    wait_for(lambda: len(workers()) == len(before), "all workers", workers)
    gone = before - workers()
    expect(len(gone) == 1, "one worker to be another one", before, workers())
    expect(status()["killed"] == killed + 1, "status to tell of it", status())
    said = run("journalctl", "--quiet", "--unit=fastapi", "--priority=err", "--output=cat")
    expect(
        "was sent SIGKILL! Perhaps out of memory" in said,
        "the journal to tell of it",
        said[-2000:],
    )
    expect(answered, "answers meanwhile")
    return f"memory_max: the leaking worker alone was killed ({ended[0]}); {answered} answers meanwhile"


def main() -> None:
    """All of them."""
    wait_for(lambda: ask("/healthz") == WELL, "the application")
    for check in (egress, tasks_max, cpu_quota, memory_max):
        attempt(check)


if __name__ == "__main__":
    main()
