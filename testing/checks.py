"""What the checks of the scenarios have in common. Runs as root on the host, with the standard library alone.

A check is a function that raises ``CheckError``; ``attempt`` does one and says so.
"""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PATIENCE = 120
"""Seconds after which something that should have happened has not."""

DROP_IN = Path("/etc/systemd/system/fastapi.service.d/check.conf")

Record = dict[str, Any]
marks = (f"mark-{time.time_ns()}-{number}" for number in itertools.count())
"""Words that no record of before has."""


class CheckError(Exception):
    """What was expected, and what was seen instead."""


def finished(
    *command: str, said: str = "", timeout: float = 300, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command that was told something on standard input and has ended, as it must within the time."""
    try:
        return subprocess.run(
            command, input=said, capture_output=True, encoding="utf-8", errors="surrogateescape",
            check=False, timeout=timeout, env={**os.environ, **(environment or {})},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CheckError(f"{' '.join(command)} was held up for more than {timeout:g} s") from None


def outcome(*command: str, timeout: float = 300, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit status of a command, and all that it says."""
    done = finished(*command, timeout=timeout, environment=environment)
    return done.returncode, done.stdout + done.stderr


def run(*command: str, timeout: float = 300) -> str:
    """What a command prints that must succeed."""
    done = finished(*command, timeout=timeout)
    expect(done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def expect(condition: object, words: object, *seen: object) -> None:
    """Fail unless the condition holds: with what was expected and seen, or with words that say both."""
    if condition:
        return
    if not seen:
        raise CheckError(words)
    raise CheckError(f"expected {words}; seen: {json.dumps([shown(what) for what in seen], indent=1, default=str)}")


def shown(seen: object) -> object:
    """Of many things the last ones, and of records what tells them apart."""
    if not isinstance(seen, list):
        return seen
    names = ("PRIORITY", "RELEASE", "REQUEST_ID", "_SYSTEMD_UNIT", "_PID", "MESSAGE")
    return [{n: r.get(n) for n in names} if isinstance(r, dict) and "MESSAGE" in r else r for r in seen[-5:]]


def wait_for(condition: Callable[[], object], expected: str, seen: Callable[[], object] = lambda: "") -> None:
    """Wait until the condition holds; fail when it does not within ``PATIENCE``.

    Looks take half of the time at most: what takes longer leaves the CPUs to what it waits for.
    """
    begin = time.monotonic()
    deadline = begin + PATIENCE
    while not condition():
        now = time.monotonic()
        if now > deadline:
            expect(False, expected, seen())
        time.sleep(max(0.05, now - begin))
        begin = time.monotonic()


def attempt(check: Callable[..., object], *arguments: object) -> None:
    """Do a check and print what it says, or its name and the seconds; end with what does not hold."""
    begin, name = time.monotonic(), check.__name__.replace("_", " ")
    try:
        said = check(*arguments)
    except CheckError as error:
        sys.exit(f"{name}: {error}")
    print(said or f"{name} ({time.monotonic() - begin:.1f} s)", flush=True)


class Journal:
    """What the journal has from now on."""

    def __init__(self) -> None:
        # No cursor: with one that is of another unit, journalctl of Debian 12 skips the first record.
        self._since = f"@{time.time():.6f}"

    def read(self, *query: str) -> list[Record]:
        """The records of a query, as an operator would ask."""
        run("journalctl", "--sync")
        lines = run("journalctl", "--quiet", "--all", "--output=json", f"--since={self._since}", *query)
        return [json.loads(line) for line in lines.splitlines()]

    def service(self, *query: str) -> list[Record]:
        """The same, of the service and what stands in for it, without what systemd and the probe say about them."""
        units = [f"--unit=fastapi{instance}.service" for instance in ("", "-candidate", "-preflight")]
        return [record for record in self.read(*units, *query) if record.get("_COMM") == "gunicorn"]

    def wait_for(self, count: int, holds: Callable[[Record], object], what: str) -> list[Record]:
        """The records for which it holds, once there are `count`; exactly that many must come."""
        found: list[Record] = []

        def there() -> bool:
            found[:] = [record for record in self.service() if holds(record)]
            return len(found) >= count

        wait_for(there, f"{count} records with {what}", lambda: found or self.service())
        expect(len(found) == count, f"{count} records with {what}", found)
        return found

    def with_text(self, text: str) -> Record:
        """The only record that has the text."""
        return self.wait_for(1, has(text), text)[0]


def has(text: str) -> Callable[[Record], bool]:
    """Whether a record has the text anywhere."""
    return lambda record: isinstance(record["MESSAGE"], str) and text in record["MESSAGE"]


@contextlib.contextmanager
def drop_in(text: str, *, restart: bool = True) -> Iterator[None]:
    """The service with a drop-in, which the block has to start; without it again and started anew at the end.

    Without `restart` the next check has to start it.
    """
    DROP_IN.parent.mkdir(exist_ok=True)
    DROP_IN.write_text(f"[Service]\n{text}\n")
    run("systemctl", "daemon-reload")
    try:
        yield
    finally:
        DROP_IN.unlink()
        run("systemctl", "daemon-reload")
        if restart:
            run("systemctl", "restart", "fastapi.service")
