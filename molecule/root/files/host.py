"""What the attempts have in common: commands of a host, what has to hold, and what the application is told to do."""

import contextlib
import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from checks import expect, outcome, run, wait_for

GOOD, ATTACKING = sys.argv[1:3]
"""Two releases; the second one does what the file `attacks` in its state says."""

STATE = Path("/var/lib/fastapi")
ROOT = Path("/opt/fastapi")
ASKED_FOR = 600
"""Seconds that the application asks systemd for."""

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")


def ctl(*words: str, status: int = 0, timeout: float = ASKED_FOR / 2) -> str:
    """What the control command says: in words that are safe to show, and never a traceback."""
    code, said = outcome("/usr/local/sbin/fastapictl", *words, timeout=timeout)
    expect("Traceback" not in said, f"fastapictl {' '.join(words)} crashed: {said}")
    expect(not UNSAFE.search(said), f"fastapictl {' '.join(words)} printed what a terminal obeys: {said!r}")
    expect(code == status, f"fastapictl {' '.join(words)} ended with {code}: {said}")
    return said


def as_application(code: str, user: str = "fastapi") -> None:
    """Execute Python as a user."""
    subprocess.run(
        ["/usr/sbin/runuser", "-u", user, "--", "/usr/bin/python3", "-I", "-c", code], check=True, cwd="/", timeout=60
    )


def attack(*words: str) -> None:
    """Have the attacking release do this from its next start on."""
    as_application(f"open('/var/lib/fastapi/attacks', 'w').write({' '.join(words)!r})")


def shown(name: str, unit: str = "fastapi.service") -> str:
    """A property of a unit, asked for alone."""
    return run("systemctl", "show", f"--property={name}", "--value", unit).strip()


def answers() -> None:
    """The application serves."""
    with urllib.request.urlopen("http://127.0.0.1:80/", timeout=60) as answer:
        expect(answer.status == 200, f"GET / answered {answer.status}")


def status_is_true(release: str) -> None:
    """What `status` says of the service is what systemd knows."""
    state = json.loads(ctl("status", "--json"))
    main = int(shown("MainPID"))
    workers = len(Path(f"/proc/{main}/task/{main}/children").read_text().split())
    truth = {"release": release, "workers": workers, "state": f"{shown('ActiveState')} ({shown('SubState')})"}
    seen = {name: state[name] for name in truth}
    expect(seen == truth, f"status says {seen}, true is {truth}")
    expect(ctl("settled").strip() == release, "a settled release is not seen as such")


def in_service(release: str) -> None:
    """Hand over to a release that does nothing yet."""
    attack()
    ctl("handover", release)


def crash() -> None:
    """Kill gunicorn, and wait until the next one serves."""
    before = shown("InvocationID")
    run("kill", "-9", shown("MainPID"))
    wait_for(
        lambda: shown("InvocationID") != before and shown("ActiveState") == "active",
        "a service that comes back",
        lambda: shown("ActiveState"),
    )


def processes_of(invocation: str) -> list[str]:
    """The processes that a run of a unit has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has just ended
            if f"INVOCATION_ID={invocation}".encode() in path.read_bytes().split(b"\0"):
                found.append(path.parent.name)
    return found


def owned(*tops: Path) -> dict[str, tuple[int, ...]]:
    """Owner, mode and size of all that is below directories, no link followed."""
    paths = [path for top in tops for path in (top, *top.rglob("*"))]
    seen = {str(path): path.lstat() for path in paths}
    return {path: (found.st_uid, found.st_gid, found.st_mode, found.st_size) for path, found in seen.items()}
