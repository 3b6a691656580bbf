"""Interrupt handovers on the host, and see that clients do not notice and that the next run completes.

check.py killed STEP...     fastapictl is killed at each step
check.py beside             old releases are removed and a build fails meanwhile: both wait
check.py stop STEP          it is stopped there, so that it does not go on until the power is cut; prints the target
check.py resumed TARGET     after the power cut
check.py completed STEP CASE    after the controller was killed: what goes on without it
check.py previous           prints the release to roll back to
check.py once TARGET        after the connection of a rollback was cut: it went back, and not on again
check.py settled            after the next deploy: nothing is left, and each request was answered
"""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import traffic
from checks import attempt, expect, finished, outcome, run, wait_for
from interrupt import interrupt, wait_at

RATE = 10
CURRENT = Path("/opt/fastapi/current")
HISTORY = Path("/opt/fastapi/history.jsonl")


def other() -> str:
    """The release that is not in service, of the two that there are."""
    listed = json.loads(run("fastapictl", "list", "--json"))
    return next(str(entry["release"]) for entry in listed if entry["role"] != "current")


def previous() -> str:
    """The release that a rollback means."""
    listed = json.loads(run("fastapictl", "list", "--json"))
    return next(str(entry["release"]) for entry in listed if entry["role"] == "previous")


def begun(target: str) -> subprocess.Popen[bytes]:
    """A handover in the background."""
    with Path("handover.log").open("wb") as log:
        return subprocess.Popen(["fastapictl", "handover", target], stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def nothing_is_left(target: str) -> None:
    """It serves, and nothing else runs or is on the host."""
    units = run("systemctl", "list-units", "--all", "--plain", "--no-legend", "fastapi*.service").splitlines()
    seen = [" ".join([*unit.split()[:1], *unit.split()[2:3]]) for unit in units]
    expect(seen == ["fastapi.service active"], "the service alone", seen)
    left = [path for top in ("system", "transient") for path in Path("/run/systemd", top).glob("fastapi*")]
    expect(left == [], "no unit of a handover", left)
    expect(CURRENT.resolve().name == target, f"{target} in service", CURRENT.resolve())
    said = run("fastapictl", "handover", target).splitlines()[:1]
    expect(said == [f"release {target[:12]} is active already"], "that it is active already", said)


def answered(seen: dict[str, dict[str, int]]) -> str:
    """Each request was answered, by one of the two releases."""
    expect(seen["failed"] == seen["refused"] == 0, "neither failure nor refusal", seen)
    expect(seen["answered"], "answers", seen)
    expect(seen["answers"] == seen["counted"], "equal counts", seen)
    expect(set(seen["answers"]) <= {"GET-one", "GET-other", "POST-one", "POST-other"}, "answers of the two", seen)
    return f"{seen['answered']} of {seen['sent']} answered"


def killed(step: str) -> str:
    """Clients do not notice that fastapictl is killed, and the next run completes."""
    target = other()
    with traffic.Traffic(RATE) as load:
        handover = begun(target)
        interrupt(step, signal.SIGKILL)
        expect(handover.wait(120) != 0, f"{step}: a handover that fails", Path("handover.log").read_text())
        run("fastapictl", "handover", target)
        nothing_is_left(target)
    return f"fastapictl killed at {step}: {answered(load.seen)}"


def beside() -> str:
    """A removal of old releases and a build that fails wait for a handover, and say what is so."""
    target, nothing = other(), "0" * 40
    request = {
        "release": nothing, "virtualenv": nothing, "archive": "/root/nothing.tar.gz", "python": "/usr/bin/python3",
        "uv": {"version": "0.9.11", "list": ""},
    }  # fmt: skip
    with traffic.Traffic(RATE) as load:
        handover = begun(target)
        wait_at("join")
        with ThreadPoolExecutor() as others:
            prune = others.submit(finished, "fastapictl", "prune", "--keep", "2", "--json")
            build = others.submit(finished, "fastapictl", "build", "--json", said=json.dumps(request))
        expect(handover.wait(120) == 0, "a handover that succeeds", Path("handover.log").read_text())
        nothing_is_left(target)
    pruned, built = (json.loads(done.result().stdout) for done in (prune, build))
    expect(re.match("the removal of old releases waits for the (handover|build)", pruned["said"][0]), "waiting", pruned)
    expect(not pruned["changed"] and not pruned.get("failed"), "nothing to remove", pruned)
    expect(re.match("the build of 000000000000 waits for the (handover|removal)", built["said"][0]), "waiting", built)
    reason = f"^release 000000000000 was not built; fastapi keeps serving {target[:12]}:"
    expect(built["failed"] and re.search(reason, built["reason"]), reason, built)
    return f"changes beside a handover: {answered(load.seen)}"


def stop(step: str) -> str:
    """A handover stops at a step."""
    target = other()
    begun(target)
    interrupt(step, signal.SIGSTOP)
    return target


def resumed(target: str) -> str:
    """The host has booted into the old or the new release, and the next run completes."""
    with urllib.request.urlopen("http://127.0.0.1/", timeout=60) as answer:
        serves = answer.read().decode()
    expect(serves in ("one", "other"), "one of the two releases", serves)
    run("fastapictl", "handover", target)
    nothing_is_left(target)
    return f"{serves} was answered after the power cut"


def completed(step: str, case: str) -> str:
    """Of the two releases that are deployed, from the join on the new one serves, and the former one before."""
    unit = "fastapi-handover.service"
    wait_for(lambda: outcome("systemctl", "is-active", unit)[1].strip() == "inactive", "the end of what goes on")
    environment = (CURRENT / "etc/environment").read_text()
    new = step in ("join", "switch", "leave")
    expect((f"CASE='{case}'" in environment) == new, f"{'the new' if new else 'the former'} release", environment)
    return f"at {step}: {'the new' if new else 'the former'} release serves"


def once(target: str) -> str:
    """A rollback to the target is the latest handover in the history, and one is all."""
    handovers = [json.loads(line) for line in HISTORY.read_text().splitlines()]
    seen = [(line["to"], line["outcome"]) for line in handovers[-2:]]
    expect(seen[-1] == (target, "done"), f"a rollback to {target}", seen)
    expect(seen[0][0] != target, "one rollback alone", seen)
    return "it went back once"


def settled() -> str:
    """The next deploy has completed, nothing is left, and each request was answered."""
    nothing_is_left(json.loads((CURRENT / "manifest.json").read_text())["release"])
    return answered(traffic.stop())


def main() -> None:
    """What the command line says."""
    name, *arguments = sys.argv[1:]
    if name == "killed":
        for step in arguments:
            attempt(killed, step)
    else:
        checks: dict[str, Callable[..., str]] = {
            "beside": beside, "stop": stop, "resumed": resumed, "completed": completed, "settled": settled,
            "previous": previous, "once": once,
        }  # fmt: skip
        attempt(checks[name], *arguments)


if __name__ == "__main__":
    main()
