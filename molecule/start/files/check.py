"""Start what cannot work, as an operator does, and let a client wait. Runs as root on the host.

Standard input is a JSON list of cases (vars/cases.yml). Each is a broken copy of the good release in the place of the
service, as a release that nobody proved. Prints a line for each, and ends at the first that is not as it should be.
"""

import contextlib
import json
import re
import shutil
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from checks import PATIENCE, Journal, Record, attempt, expect, outcome, run, wait_for

GOOD = Path("/opt/fastapi/current").resolve()
SERVICE = Path("/etc/systemd/system/fastapi.service")


def install(release: Path) -> None:
    """Put a release in the place of the service."""
    rewrite(SERVICE, (release / "systemd/fastapi.service").read_text())
    run("systemctl", "daemon-reload")


def rewrite(path: Path, text: str) -> None:
    """Write a file anew, which is a link to the good release no longer."""
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(0o644)


@contextlib.contextmanager
def installed(case: dict[str, Any]) -> Iterator[None]:
    """A broken copy of the good release, with paths of its own, in the place of the service."""
    broken = GOOD.with_name(case["name"])
    run("cp", "--archive", "--link", str(GOOD), str(broken))
    try:
        unit = broken / "systemd/fastapi.service"
        rewrite(unit, unit.read_text().replace(f"{GOOD}/", f"{broken}/"))
        if "main" in case:
            rewrite(broken / "app/main.py", case["main"])
        if "edit" in case:
            path = broken / case["edit"]["path"]
            text, count = re.subn(case["edit"]["from"], case["edit"]["to"], path.read_text(), flags=re.MULTILINE)
            expect(count > 0, f"{case['name']}: {case['edit']['from']} in {path}", path.read_text())
            rewrite(path, text)
        install(broken)
        yield
    finally:
        shutil.rmtree(broken)


def the_start_tells_the_truth(case: dict[str, Any]) -> str:
    """It fails or succeeds as it should, with the reason; then the service stays stopped with its address open."""
    name, fails = case["name"], case.get("fails", True)
    with installed(case):
        journal = Journal()
        try:
            status, _ = outcome("systemctl", "start", "fastapi.service")
            records = journal.read("--unit=fastapi.service")
        finally:
            outcome("systemctl", "stop", "fastapi.service")
    said = [str(record["MESSAGE"]) for record in records]
    expect((status != 0) == fails, f"{name}: a start that {'fails' if fails else 'succeeds'}", *said)
    expect(any(case["words"] in text for text in said), f"{name}: {case['words']}", *said)
    # Without what it says about the try before.
    own = "\n".join(str(r["MESSAGE"]) for r in records if is_ours(r) and " has failed " not in str(r["MESSAGE"]))
    expect(case.get("probe", "") in own, f"{name}: {case.get('probe')}", own)
    # Nothing that fails at once is found out by a timeout, neither the probe's nor systemd's.
    expect(("did not answer" in own) == (name == "hanging_lifespan"), f"{name}: a timeout of the probe or none", own)
    expect(not re.search("timed out|timeout", "\n".join(said)), f"{name}: no timeout", *said)
    states = run("systemctl", "show", "--property=ActiveState", "--value", "fastapi.service", "fastapi.socket").split()
    expect(states[0] in ("inactive", "failed") and states[1] == "active", f"{name}: stopped, its address open", states)
    expect(listening().startswith("LISTEN "), f"{name}: somebody who listens", listening())
    return f"{name}: {case['words']}"


def is_ours(record: Record) -> bool:
    """Whether a record is the control command's."""
    return record.get("SYSLOG_IDENTIFIER") == "fastapictl" or "fastapictl: " in str(record["MESSAGE"])


def listening() -> str:
    """What the kernel tells of the public address."""
    return run("ss", "--no-header", "--listening", "--tcp", "--numeric", "sport = :80")


def a_client_waits(case: dict[str, Any]) -> None:
    """A client of a service that cannot start is not refused: it waits, and the next good release answers it."""

    def ask() -> str:
        with urllib.request.urlopen("http://127.0.0.1/", timeout=PATIENCE) as answer:
            return str(answer.read().decode())

    def restarts() -> int:
        return int(run("systemctl", "show", "--property=NRestarts", "--value", "fastapi.service"))

    with ThreadPoolExecutor() as clients:
        with installed(case):
            client = clients.submit(ask)
            wait_for(lambda: restarts() > 1, "a service that has failed for its sake, and again", restarts)
            expect(listening().split()[1] == "1", "a client in the socket's queue", listening())
            install(GOOD)
            run("systemctl", "restart", "fastapi.service")
        expect(client.result() == "null", "its answer", client.result())


def main() -> None:
    """One case after the other."""
    cases = json.load(sys.stdin)
    run("systemctl", "stop", "fastapi.service")
    for case in cases:
        attempt(the_start_tells_the_truth, case)
    attempt(a_client_waits, next(case for case in cases if case["name"] == "exception_at_import"))


if __name__ == "__main__":
    main()
