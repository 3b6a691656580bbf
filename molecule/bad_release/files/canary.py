"""Give releases that fail under real requests alone a share of the traffic, and see that each is handed back.

Runs as root on the host, under load that never retries. Prints a line for each. By hand, good releases in a row,
with other numbers of workers and of requests a second (of each of the four kinds; 0: as many as are answered):

    python3 canary.py --good 20 --workers 4 --rate 100
"""

import argparse
import json
import re
import subprocess
from pathlib import Path
from typing import Any

from agree import Counted, agree
from checks import attempt, expect, run, wait_for

OS_RELEASE = Path("/etc/os-release")
SHARE = 30
MIDDLEWARE = """

import random
import time


@app.middleware("http")
async def bad(request, call_next):
    if request.url.path != "/healthz":
        {}
    return await call_next(request)
"""

WORSE = {
    "one path fails alone": (
        'if request.url.path == "/echo": raise RuntimeError("this path is bad")',
        r"failed \(5xx\): [1-9]",
        r"POST /echo 500  RuntimeError: this path is bad",
    ),
    "one answer in four is late": (
        "await asyncio.sleep(random.random() < 0.25)",
        "slow: .* 95th percentile",
        "",
    ),
    "it leaks": ('app.kept = [*getattr(app, "kept", []), random.randbytes(8) * 100_000]', "memory: ", ""),
}
"""What a release does to its requests, and what is said of it."""

CRASHES = "if random.random() < 0.02: os._exit(1)"
QUARTER = 'if random.random() < 0.25: raise RuntimeError("one in four")'


UNHURRIED = {"slower": 1000}
"""For what is not late itself: the machine of the tests may have no CPU left for the release that is new."""


def start(rate: float = 30) -> None:
    """Begin to send requests: so many a second of each of the four kinds."""
    run("python3", "/opt/test/traffic.py", "start", f"--rate={rate}")


def stop() -> dict[str, Any]:
    """End it; what came of it."""
    found: dict[str, Any] = json.loads(run("python3", "/opt/test/traffic.py", "stop"))
    return found


def handover(name: str, code: str, file: str = "app/main.py", **judging: Any) -> tuple[int, str]:
    """Make a release from the one in service, and hand over to it; the status, and what was said."""
    judging = {"bounds": UNHURRIED, **judging}
    subprocess.run(["/opt/test/derive.sh", name, file], input=code, text=True, check=True, timeout=60)
    done = subprocess.run(
        ["fastapictl", "handover", name, f"--judging={json.dumps(judging)}"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def current() -> str:
    """The active release."""
    return Path("/opt/fastapi/current").readlink().name


def handed_back(what: str, code: str, told: str, failing: str = "") -> str:
    """A release joins, is found worse, and leaves; the one in service serves on."""
    before = current(), run("systemctl", "show", "--property=MainPID", "fastapi")
    usual: dict[str, Any] = {"bounds": {}} if told.startswith("slow") else {}
    status, said = handover("bad", MIDDLEWARE.format(code), share=SHARE, seconds=60, **usual)
    # One that crashes all the time may not even join.
    line = next((line for line in said.splitlines() if re.search("handed back after|crashed in a row", line)), "")
    expect(status == 1 and re.search(told, line), f"{what}: to be handed back: {told}", said)
    expect(re.search(failing, said), f"{what}: a failing request: {failing}", said)
    after = current(), run("systemctl", "show", "--property=MainPID", "fastapi")
    expect(after == before, f"{what}: {before}", after)
    expect(not Path("/run/systemd/system/fastapi-candidate.service").exists(), f"{what}: a candidate is left")
    outcome = json.loads(run("fastapictl", "history", "--lines=1", "--json"))[-1]["outcome"]
    expected = "handed back" if "handed back after" in line else "failed"
    expect(outcome == expected, f"{what}: the history to say {expected}", outcome)
    return f"{what}: {line}"


def only_failed_by_itself(traffic: dict[str, Any], reasons: set[str]) -> str:
    """Of the requests none was lost or refused; those that the bad releases have failed are answered with 500."""
    expect(set(traffic["failures"]) <= reasons and traffic["refused"] == 0, reasons, traffic["failures"], traffic)
    return f"{traffic['answered']} of {traffic['sent']} answered, {traffic['failures']}, {traffic['answers']}"


def goes_on(name: str, workers: int, bounds: dict[str, float]) -> str:
    """A good release gets its share, and takes over. Those that are made from it have as many workers."""
    content = f"workers = {workers}\n"
    status, said = handover(name, content, "etc/gunicorn.conf.py", share=SHARE, seconds=8, bounds=bounds)
    line = next((line for line in said.splitlines() if "is no worse than" in line), "")
    expect(status == 0 and line, "to go on", said)
    shares = [float(share) for share in re.findall(r"([0-9.]+)% of [0-9]+ (?:connections|requests)", line)]
    expect(len(shares) == 2 and all(SHARE / 2 < share < SHARE * 1.5 for share in shares), SHARE, line)
    expect(current() == name, "to be active", current())
    return line


def goes_back_later() -> str:
    """One that is found worse after the switch is handed back by the host itself, once."""
    status, said = handover("bad", MIDDLEWARE.format(QUARTER), watch=60)
    expect(status == 0 and "watched for 60 s" in said, "to be watched", said)
    wait_for(lambda: current() == "900d" and not watch(), "it is handed back", lambda: run("fastapictl", "status"))
    last = json.loads(run("fastapictl", "history", "--lines=2", "--json"))
    expect([line["to"] for line in last] == ["bad", "900d"], "there, and back once", last)
    expect(last[-1]["reason"].startswith("handed back: failed (5xx): "), "why", last)
    expect("release bad was handed back" in run("fastapictl", "status"), "the status to say so")
    return str(last[-1]["reason"])


def watch() -> bool:
    """Whether a release is being watched, or a handover is going on."""
    units = "fastapi-watch.service", "fastapi-handover.service"
    states = [run("systemctl", "show", "--property=ActiveState", "--value", unit).strip() for unit in units]
    return states != ["inactive", "inactive"]


def without_traffic() -> str:
    """One that nobody asks is not judged, and does not go on where that was not wanted."""
    status, said = handover("bad", MIDDLEWARE.format("pass"), share=SHARE, seconds=1, unjudged="stop")
    expect(status == 1 and "canary not judged: 0 requests of it" in said, "to be handed back", said)
    return "without traffic it was handed back"


def in_a_row(number: int, workers: int, rate: float) -> None:
    """So many good ones, one after the other, without a false alarm or a lost request."""
    for each in range(number):
        start(rate)  # each time, for it ends by itself at some time
        attempt(goes_on, f"600d{each:02x}", workers, {})
        attempt(only_failed_by_itself, stop(), set())


def main() -> None:
    """One after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--good", type=int, default=0)
    # Two on one of the systems, four on the other.
    parser.add_argument("--workers", type=int, default=2 if 'VERSION_ID="12' in OS_RELEASE.read_text() else 4)
    parser.add_argument("--rate", type=float, default=30)
    arguments = parser.parse_args()
    if arguments.good:
        in_a_row(arguments.good, arguments.workers, arguments.rate)
        return
    counted = Counted()
    start()
    attempt(goes_on, "900d", arguments.workers, UNHURRIED)
    for what, (code, told, *failing) in WORSE.items():
        attempt(handed_back, what, code, told, *failing)
    attempt(goes_back_later)
    seen = stop()
    attempt(only_failed_by_itself, seen, {"status 500"})
    attempt(agree, counted, seen)
    start()
    attempt(handed_back, "its workers crash", CRASHES, r"failed \(5xx\)|workers crashed")
    # What a worker had when it crashed is lost with it.
    lost = {"closed before any byte of the answer", "closed inside the body", "ConnectionResetError"}
    attempt(only_failed_by_itself, stop(), {"status 500", *lost})
    attempt(without_traffic)


if __name__ == "__main__":
    main()
