"""What the host shows of the service: its processes, memory, connections, files and records."""

import json
import re
import threading
from pathlib import Path
from typing import Self

from checks import Record, run


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


def records(since: str, text: str) -> list[Record]:
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


class Watch:
    """The most memory, connections and files that the service had."""

    def __init__(self) -> None:
        self.memory = self.connections = self.files = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            self.memory = max(self.memory, memory())
            self.connections = max(self.connections, connections())
            self.files = max(self.files, files())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
