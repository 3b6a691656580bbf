"""Changes under load, and what is open for long during one. Runs as root on the host.

check.py changes | check.py long; standard input is JSON: the `rate` of the load, the `changes` (vars/releases.yml) and
the `ids` of the releases by their names. Prints a line of the table for each change, and ends at the first that a
client notices.
"""

import json
import re
import subprocess
import sys
from typing import Any

from checks import attempt, expect, outcome, run, wait_for
from traffic import Traffic

LONG = 12
"""Seconds that a response streams for: longer than it takes until the service is told to stop."""


def changed(change: dict[str, Any], rate: float, ids: dict[str, str]) -> str:
    """Nothing fails, nobody is refused, and what the clients count is what the application counts, for each release.

    A `kill` may lose a request on each connection that it ended.
    """
    what, kill = change["what"], "kill" in change
    command = ["fastapictl", "handover", ids[change["release"]]] if "release" in change else change["command"]
    with Traffic(rate) as load:
        said = run(*command).strip()
    seen = load.seen
    bound, counted = int(said) if kill else 0, sum(seen["counted"].values())
    expect(seen["refused"] == 0, f"{what}: nobody who is refused", seen)
    expect(seen["failed"] <= bound, f"{what}: at most {bound} failures", seen)
    expect(seen["answered"] + seen["failed"] == seen["sent"], f"{what}: an end of each request", seen)
    expect(seen["answered"] > 0, f"{what}: answers", seen)
    expect(kill or seen["answers"] == seen["counted"], f"{what}: equal counts", seen)
    expect(seen["answered"] <= counted <= seen["sent"], f"{what}: what is answered to be counted, once", seen)
    names = {re.sub("^[A-Z]+-", "", name) for name in seen["answers"]}
    expect(names <= set(change["answers"]), f"{what}: answers of {change['answers']}", seen)
    held = f" (it held {bound} connections)" if kill else ""
    speed = f"{4 * rate:g} a second" if rate else "saturation"
    numbers = " | ".join(str(seen[name]) for name in ("sent", "answered"))
    return (
        f"| {what}{held} | {speed} | {numbers} | {counted} | {seen['failed']} | {seen['refused']} "
        f"| {seen['longest_pause']:.2f} s |"
    )


def what_is_open_for_long_outlasts_a_handover(rate: float, ids: dict[str, str]) -> None:
    """A response that streams and a WebSocket, both open before a handover, which a second one does not wait for."""
    command = ["/usr/bin/python3", "long.py", f"--seconds={LONG}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as clients:
        assert clients.stdout is not None
        expect(clients.stdout.readline() == "ready\n", "a stream and a WebSocket that are open", clients.poll())
        with Traffic(rate) as load:
            first = subprocess.Popen(["fastapictl", "handover", ids["upgrade"]], stdout=subprocess.DEVNULL)
            wait_for(
                lambda: outcome("systemctl", "is-active", "fastapi-handover.service")[0] == 0,
                "a handover that is under way",
                first.poll,
            )
            second = subprocess.run(
                ["fastapictl", "restart", "--lock-wait=1"], capture_output=True, text=True, check=False, timeout=60
            )
            status = first.wait(120)
        said = clients.stdout.read()
    of = f"the handover to {ids['upgrade'][:12]} by root from [0-9.]+ since "
    expect(second.returncode == 1, "a second handover that is refused", vars(second))
    expect(re.search(f"waits for {of}", second.stdout), "whom it waits for", second.stdout)
    reason = (
        rf"^fastapictl: fastapi: {of}[0-9T:+-]+ is in progress, and .* timed out after 1 s\. Wait until it is finished"
    )
    expect(re.search(reason, second.stderr), "why it is refused", second.stderr)
    expect(status == 0, "a first handover that succeeds", status)
    ended = json.loads(said)
    expect(ended["closed"] == 1012, "the WebSocket to be closed with 1012", ended)
    lines = [f"one {number}" for number in range(LONG)]
    expect(ended["lines"] == [*lines, "end"], f"{LONG} lines of release one and their end", ended)
    seen = load.seen
    expect(seen["failed"] == seen["refused"] == 0, "neither failure nor refusal", seen)
    expect(seen["answers"] == seen["counted"], "equal counts", seen)


def main() -> None:
    """What the command line says."""
    given = json.load(sys.stdin)
    if sys.argv[1] == "long":
        attempt(what_is_open_for_long_outlasts_a_handover, given["rate"], given["ids"])
    for change in given.get("changes", []):
        attempt(changed, change, given["rate"], given["ids"])


if __name__ == "__main__":
    main()
