"""Wait on the host until a deploy is at one step after the other, and say so at once. Whoever reads it cuts the power.

python3 step.py STEP...

Looks at files alone: it takes next to nothing of the one CPU that the deploy has.
"""

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path("/opt/fastapi")
UNIT = Path("/etc/systemd/system/fastapi.service")
PAUSE = 0.005


def there() -> set[str]:
    """The releases that are built."""
    return {path.parent.name for path in ROOT.glob("releases/*/manifest.json")}


def in_unit() -> str:
    """The release that the unit names."""
    try:
        found = re.search(
            r"^WorkingDirectory=/opt/fastapi/releases/([0-9a-f]+)/",
            UNIT.read_text(),
            re.MULTILINE,
        )
    except FileNotFoundError:
        return ""
    return found.group(1) if found else ""


def in_link() -> str:
    """The release that the link names."""
    try:
        return (ROOT / "current").readlink().name
    except OSError:
        return ""


def runs(instance: str) -> bool:
    """Whether there is a unit of an instance."""
    return any(Path("/run/systemd", top, f"fastapi-{instance}.service").exists() for top in ("system", "transient"))


BEFORE = there()
LINKED = in_link()

STEPS: dict[str, Callable[[], object]] = {
    "sent": lambda: any(Path("/root/.ansible/tmp").glob("*/release.tar.gz")),
    "unpacked": lambda: any(ROOT.glob("incoming/build-*/release")),
    "virtualenv": lambda: any(ROOT.glob("incoming/build-*/virtualenv")),
    "secrets": lambda: any(ROOT.glob("incoming/build-*/credentials")),
    "in place": lambda: there() - BEFORE,
    "proof": lambda: runs("preflight"),
    "join": lambda: runs("candidate"),
    "unit": lambda: in_unit() not in ("", in_link()),
    "link": lambda: in_link() != LINKED,
    "prune": lambda: BEFORE - there(),
}


def main() -> None:
    """Wait for each of the steps."""
    print("ready", flush=True)
    end = time.monotonic() + 800
    for step in sys.argv[1:]:
        while not STEPS[step]():
            if time.monotonic() > end:
                sys.exit(f"{step} was not seen within 800 s")
            time.sleep(PAUSE)
        print(step, flush=True)


if __name__ == "__main__":
    main()
