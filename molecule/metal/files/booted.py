"""What must be so on a host that has lost its power during a deploy and has booted.

python3 booted.py VERSION...    those that may serve; "nothing" when nothing may serve either

Prints as JSON what serves, what is incomplete, what was left for the next deploy to repair, and how the clients fared
that came while it booted (early.py).
"""

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path("/opt/fastapi")
LATE = "10.9.9.9:8081"
UNIT = Path("/etc/systemd/system/fastapi.service")


def expect(condition: object, words: str, seen: object = "") -> None:
    """Fail unless it holds."""
    if not condition:
        sys.exit(f"expected {words}; seen: {seen}")


def ctl(*arguments: str) -> Any:
    """What the control command answers."""
    done = subprocess.run(
        ["fastapictl", *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    expect(
        done.returncode == 0,
        f"fastapictl {arguments[0]} to answer",
        done.stdout + done.stderr,
    )
    return json.loads(done.stdout)


def get(path: str, address: str = "127.0.0.1") -> Any:
    """A client's answer: a socket that is open is waited at, however long the application takes to start."""
    with urllib.request.urlopen(f"http://{address}{path}", timeout=240) as answer:
        return json.load(answer)


def serving(versions: list[str]) -> dict[str, Any]:
    """What serves is a whole release, and all that is said of it is true."""
    seen = get("/version")
    expect(seen["version"] in versions, f"one of {versions}", seen)
    expect(seen["secret"] == f"token of {seen['version']}", "its own secret", seen)
    status, listed = ctl("status"), ctl("list")
    release = status["release"]
    named = json.loads((ROOT / "releases" / release / "manifest.json").read_text())["release"]
    served = (ROOT / "releases" / release / "app/version.py").read_text()
    expect(
        named == release and repr(seen["version"]).replace("'", '"') in served,
        "status to name it",
        (status, seen),
    )
    current = [entry for entry in listed if entry["role"] == "current"]
    expect([entry["release"] for entry in current] == [release], "list to name it", listed)
    expect(not current[0].get("incomplete"), "a complete release", current)
    done = [line for line in ctl("history") if line["outcome"] == "done"]
    return {
        "serves": seen["version"],
        "incomplete": [entry["release"][:12] for entry in listed if entry.get("incomplete")],
        "link": "" if (ROOT / "current").readlink().name == release else "is behind the unit",
        "history": "" if done and done[-1]["to"] == release else "is behind the unit",
    }


def early() -> dict[str, Any]:
    """What the clients saw that came while the host booted: none was refused, and all were answered."""
    command = ["systemctl", "show", "--property=ConditionResult", "--value", "early.service"]
    if subprocess.run(command, capture_output=True, text=True, check=True).stdout == "no\n":
        return {}  # the host has booted before its first deploy
    result = Path("/run/early.json")
    end = time.monotonic() + 300
    while not result.exists():
        expect(time.monotonic() < end, "the last answers of the boot")
        time.sleep(0.2)
    seen = json.loads(result.read_text())
    expect(
        not seen["trouble"],
        "neither refusals nor failures in the boot",
        seen["trouble"],
    )
    expect(
        len(seen["times"]) == seen["asked"],
        "each client of the boot to be answered",
        seen,
    )
    command = [
        "systemctl",
        "show",
        "--property=ActiveEnterTimestampMonotonic",
        "--value",
        "fastapi.service",
    ]
    up = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1e6
    before = sum(begin < up for begin, _ in seen["times"])
    expect(before, f"clients before the application is up at {up}", seen["times"])
    return {
        "clients": seen["asked"],
        "early": before,
        "came": round(min(begin for begin, _ in seen["times"]), 1),
        "answered": round(min(answered for _, answered in seen["times"]), 1),
    }


def late() -> None:
    """An address that the host has only when it has long booted is served from then on."""
    subprocess.run(["ip", "address", "replace", f"{LATE.partition(':')[0]}/32", "dev", "lo"], check=True)
    expect(get("/healthz", LATE), "an answer at an address that came late")


def main() -> None:
    """Check, and print what was found."""
    empty = [str(path) for path in [UNIT, *UNIT.parent.glob("fastapi*"), ROOT / "history.jsonl"]
             if path.is_file() and not path.stat().st_size]  # fmt: skip
    expect(not empty, "no unit and no history of 0 bytes", empty)
    found: dict[str, Any] = {"serves": "nothing yet"}
    if UNIT.exists() and Path("/etc/systemd/system/sockets.target.wants/fastapi.socket").is_symlink():
        found = serving(sys.argv[1:]) | early()
        late()
    else:
        expect(
            "nothing" in sys.argv[1:],
            f"a release to serve, of {sys.argv[1:]}",
            "none is enabled at boot",
        )
    left = [path.name for path in ROOT.glob("incoming/*")]
    print(json.dumps({**found, "left": len(left)}))


if __name__ == "__main__":
    main()
