"""Wait until a handover is at a given step, and interrupt it there.

    python3 interrupt.py switch

waits and prints what was seen;

    python3 interrupt.py switch cut

cuts all connections of SSH then.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

UNIT = Path("/etc/systemd/system/fastapi.service")
RELEASES = Path("/opt/fastapi/releases")
INCOMING = Path("/opt/fastapi/incoming")

PAUSE = 0.02
"""Seconds between two looks."""

State = dict[str, dict[str, str]]


def look() -> State:
    """The state and the main process of each unit that has a part in a handover."""
    kinds = ["", "-preflight", "-candidate", "-handover"]
    names = [f"fastapi{kind}.service" for kind in kinds]
    command = ["systemctl", "show", "--property=ActiveState,MainPID", *names]
    blocks = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().split("\n\n")
    return {
        kind.lstrip("-") or "main": dict(line.split("=", 1) for line in block.splitlines())
        for kind, block in zip(kinds, blocks, strict=True)
    }


def unit_is_ahead(state: State) -> bool:
    """Whether the unit names another release than the one that its main process is of."""
    try:
        command = Path(f"/proc/{state['main']['MainPID']}/cmdline").read_text()
    except OSError:
        return False
    running = command.partition(f"{RELEASES}/")[2].partition("/")[0]
    return running != "" and f"{RELEASES}/{running}/" not in UNIT.read_text()


STEPS: dict[str, Callable[[State], bool]] = {
    "build": lambda _: any(INCOMING.glob("build-*")),
    "preflight": lambda state: state["preflight"]["ActiveState"] == "activating",
    "join": lambda state: state["candidate"]["ActiveState"] == "activating",
    "switch": lambda state: state["candidate"]["ActiveState"] == "active" and unit_is_ahead(state),
    "restart": lambda state: (
        state["candidate"]["ActiveState"] == "active" and state["main"]["ActiveState"] == "activating"
    ),
    "leave": lambda state: (
        state["candidate"]["ActiveState"] == "deactivating" and state["main"]["ActiveState"] == "active"
    ),
}


def under_way() -> bool:
    """Whether there is a unit of a handover, which is cheaper to see than what systemd says of it."""
    return any(any(Path("/run/systemd", top).glob("fastapi-*.service")) for top in ("system", "transient"))


def wait_at(step: str) -> State:
    """Look again and again until the handover is at the step. Raises TimeoutError.

    Each step takes a few tenths of a second at least. The pauses leave the CPUs to what is looked at.
    """
    end = time.monotonic() + 300
    state: State = {}
    while not ((step == "build" or under_way()) and STEPS[step](state := look())):
        if time.monotonic() > end:
            raise TimeoutError(f"the step {step} was not seen within five minutes; last: {state}")
        time.sleep(PAUSE)
    return state


def interrupt(step: str, number: signal.Signals) -> None:
    """Send fastapictl a signal at the step."""
    os.kill(int(wait_at(step)["handover"]["MainPID"]), number)


def cut() -> None:
    """End what serves the connections of SSH. What it has started goes on, as after a loss of the network."""
    command = ["systemctl", "show", "--property=MainPID", "--value", "ssh.service"]
    main = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    for session in Path(f"/proc/{main}/task/{main}/children").read_text().split():
        os.kill(int(session), signal.SIGKILL)


if __name__ == "__main__":
    print(wait_at(sys.argv[1]))
    if "cut" in sys.argv[2:]:
        cut()
