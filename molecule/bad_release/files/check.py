"""Tell bad releases to take over, and see that none does. Runs as root on the host.

check.py look prints what a failed release must not change. check.py refused reads from standard input a JSON list of
bad releases (vars/releases.yml), prints a line for each, and ends at the first that is not refused for its own reason
or leaves something.
"""

import json
import os
import pwd
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from checks import attempt, expect, run

REFUSED = "release bad: preflight failed; fastapi keeps serving [0-9a-f]{12} .journalctl -u fastapi-preflight.: "


def look() -> list[str]:
    """The process that serves, the release, the units, sockets and processes of the application."""
    properties = "--property=MainPID,ActiveState,NRestarts,ActiveEnterTimestamp"
    units = run("systemctl", "list-units", "--all", "--plain", "--no-legend", "fastapi*").splitlines()
    kept = sorted(Path("/etc/systemd/system").glob("fastapi*"))
    tops = [Path("/run/fastapi"), Path("/run/systemd/system"), Path("/run/systemd/transient")]
    return [
        *run("systemctl", "show", properties, "fastapi").splitlines(),
        str(Path("/opt/fastapi/current").readlink()),
        *run("sha256sum", *(str(path) for path in kept if path.is_file())).splitlines(),
        *(" ".join([unit.split()[0], unit.split()[2]]) for unit in units),
        *(str(path) for top in tops for path in sorted(top.glob("*" if top == tops[0] else "fastapi*"))),
        *processes(),
    ]


def processes() -> list[str]:
    """The processes of the application's user."""
    user = pwd.getpwnam("fastapi").pw_uid
    found = []
    for path in sorted(Path("/proc").glob("[0-9]*")):
        try:
            if path.stat().st_uid == user:
                found.append(str(path))
        except FileNotFoundError:
            continue  # it has just ended
    return found


def refused(bad: dict[str, Any], before: list[str]) -> str:
    """It fails for its own reason, and leaves nothing."""
    content = bad.get("content", f"BREAK={bad.get('break', '')}\n")
    subprocess.run(
        ["/opt/test/derive.sh", "bad", bad.get("file", "etc/environment")], input=content, text=True, check=True,
        timeout=60, env={**os.environ, "START_TIMEOUT": str(bad.get("timeout", 60))},
    )  # fmt: skip
    done = subprocess.run(
        ["fastapictl", "handover", "bad"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        timeout=180,
    )  # fmt: skip
    what, lines = bad["what"], done.stderr.splitlines()
    expect(done.returncode == 1 and lines, f"{what}: to be refused", vars(done))
    expect(re.match(REFUSED, lines[0]), f"{what}: {REFUSED}", lines)
    expect(re.search(bad["reason"], lines[0]), f"{what}: {bad['reason']}", lines)
    expect(re.search(bad.get("names", ""), " ".join(lines[1:])), f"{what}: {bad.get('names')}", lines)
    after = look()
    expect(after == before, f"{what}: {before}", *after)
    return lines[0]


def main() -> None:
    """What the command line says."""
    before = look()
    if sys.argv[1] == "look":
        print("\n".join(before))
    else:
        for bad in json.load(sys.stdin):
            attempt(refused, bad, before)


if __name__ == "__main__":
    main()
