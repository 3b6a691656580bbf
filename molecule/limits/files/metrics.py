"""The metrics over crashes of a worker and of gunicorn, a handover and a stop: no counter goes back, and clients agree.

Runs as root on the host, beside checks.py.
"""

import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

from checks import attempt, expect, outcome, run, wait_for

NAME = "gunicorn_fastapi_"
MARK = "/metrics-check"
"""A path that the application does not have; each request for it has an access line."""

sent = {"2xx": 0, "4xx": 0}
"""Requests that were answered, by status."""


def ask(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and body of an answer on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def request(number: int) -> None:
    """Have so many requests answered."""
    for _ in range(number):
        for path, status in ((MARK, 404), ("/healthz", 200)):
            got, _ = ask(80, path)
            expect(got == status, f"{path} answers {status}", got)
            sent[f"{got // 100}xx"] += 1


def scrape() -> dict[str, float]:
    """The metrics by their series."""
    status, text = ask(9464, "/metrics")
    expect(status == 200, "metrics", status, text)
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {series: float(value) for series, _, value in lines}


def total(found: dict[str, float], name: str, label: str = "") -> float:
    """All releases of a counter together."""
    return sum(value for series, value in found.items() if series.startswith(NAME + name) and label in series)


def main_pid() -> int:
    return int(run("systemctl", "show", "--property=MainPID", "--value", "fastapi.service"))


def went_back(before: dict[str, float], after: dict[str, float]) -> list[str]:
    """Counters that are lower, or gone."""
    pattern = re.compile(rf"{NAME}\w+_(total|bucket|sum|count)\b")
    return [f"{s}: {v} {after.get(s)}" for s, v in before.items() if pattern.match(s) and after.get(s, -1) < v]


def agree(begin: dict[str, float]) -> None:
    """Metrics and clients count the same."""
    found = scrape()
    for status, number in sent.items():
        label = f'status="{status}"'
        counted = total(found, "http_requests_total", label) - total(begin, "http_requests_total", label)
        expect(counted == number, f"{number} requests with {status}", counted)
    # The end of an answer is counted after it has left.
    whole, number = "http_request_duration_seconds_count", sum(sent.values())
    wait_for(lambda: total(scrape(), whole) - total(begin, whole) == number, f"{number} to their end", scrape)


def what_is_served_has_a_user_of_its_own() -> None:
    scrape()
    pid = run("systemctl", "show", "--property=MainPID", "--value", "fastapi-metrics.service").strip()
    owner = Path(f"/proc/{pid}").stat().st_uid
    expect(owner >= 61184, "a dynamic user", owner)
    expect(Path("/proc", pid, "status").read_text().count("CapEff:\t0000000000000000"), "no capability")


def promtool_finds_nothing_wrong() -> None:
    _, text = ask(9464, "/metrics")
    done = subprocess.run(
        ["/opt/test/promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    expect(done.returncode == 0 and not done.stdout + done.stderr, "no complaint", done.stdout, done.stderr)
    _, openmetrics = ask(9464, "/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})
    expect(openmetrics.endswith("\n# EOF\n"), "OpenMetrics", openmetrics[-200:])


def counters_outlive_a_worker_and_gunicorn(begin: dict[str, float]) -> None:
    request(20)
    agree(begin)
    before = scrape()
    worker = int(Path(f"/proc/{main_pid()}/task/{main_pid()}/children").read_text().split()[0])
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: total(scrape(), "workers_replaced_total") > total(before, "workers_replaced_total"), "a successor")
    request(10)
    agree(begin)
    starts = total(scrape(), "starts_total")
    os.kill(main_pid(), signal.SIGKILL)
    wait_for(lambda: total(scrape(), "starts_total") > starts, "a start")
    request(10)
    agree(begin)
    expect(not went_back(before, scrape()), "no counter goes back", went_back(before, scrape()))


def each_scrape_of_a_handover_is_whole(begin: dict[str, float]) -> None:
    ended = threading.Event()
    faults: list[str] = []
    scrapes = [scrape()]

    def watch() -> None:
        while not ended.is_set():
            try:
                scrapes.append(scrape())
            except Exception as error:  # noqa: BLE001 (whatever it is)
                faults.append(repr(error))
            faults.extend(went_back(*scrapes[-2:]))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        handover = subprocess.Popen(["fastapictl", "restart"], stdout=subprocess.DEVNULL)
        while handover.poll() is None:
            request(1)
            time.sleep(0.05)  # the limit of CPU is for the handover
        expect(handover.returncode == 0, "a handover", handover.returncode)
    finally:
        ended.set()
        watcher.join()
    expect(not faults, "each scrape is whole, and no counter goes back", faults)
    both = [found for found in scrapes if len([s for s in found if s.startswith(f"{NAME}workers{{")]) == 2]
    expect(both, "both generations are seen", len(scrapes))
    agree(begin)


def while_the_service_is_down_there_are_metrics(begin: dict[str, float]) -> None:
    before = scrape()
    run("systemctl", "stop", "fastapi.service")
    expect(not went_back(before, scrape()), "no counter goes back", went_back(before, scrape()))
    expect(total(scrape(), "workers{") == 0, "no worker")
    run("systemctl", "start", "fastapi.service")
    agree(begin)


def access_lines_are_as_many(since: float) -> None:
    run("journalctl", "--sync")
    lines = run(
        "journalctl", "--quiet", "--unit=fastapi", "--unit=fastapi-candidate", "--output=json", f"--since=@{since}"
    )
    found = [line for line in lines.splitlines() if f"GET {MARK} " in str(json.loads(line)["MESSAGE"])]
    expect(len(found) == sent["4xx"], f"{sent['4xx']} access lines", len(found))


def the_command_prints_the_same() -> None:
    status, printed = outcome("fastapictl", "metrics")
    expect(status == 0 and f"{NAME}http_requests_total{{" in printed, "metrics", printed)


def main() -> None:
    since = time.time()
    begin = scrape()
    attempt(what_is_served_has_a_user_of_its_own)
    attempt(counters_outlive_a_worker_and_gunicorn, begin)
    attempt(each_scrape_of_a_handover_is_whole, begin)
    attempt(while_the_service_is_down_there_are_metrics, begin)
    attempt(access_lines_are_as_many, since)
    attempt(promtool_finds_nothing_wrong)
    attempt(the_command_prints_the_same)


if __name__ == "__main__":
    main()
