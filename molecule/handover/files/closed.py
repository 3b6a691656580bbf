"""Maintenance and pause under load, and what the control command sees of it. Runs as root on the host.

Standard input is JSON: the `rate` of the load and the `ids` of the releases by their names. Prints a line for each, and
ends at the first by which a client would have lost something.
"""

import http.client
import json
import re
import socket
import sys
import time
import urllib.error
import urllib.request
from typing import Any

from checks import attempt, expect, run, wait_for
from traffic import Traffic, counts

PRIVATE = "/run/fastapi/main.sock"


def public() -> tuple[int, str, str]:
    """What clients get: status, Retry-After, body."""
    try:
        with urllib.request.urlopen("http://127.0.0.1/", timeout=30) as answer:
            return answer.status, "", answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Retry-After"], error.read().decode()


def private() -> str:
    """Which release answers behind it, by a path that nobody counts."""
    client = http.client.HTTPConnection("localhost", timeout=30)
    client.sock = socket.socket(socket.AF_UNIX)
    client.sock.connect(PRIVATE)
    client.request("GET", "/stream?seconds=1")
    said = client.getresponse().read().decode()
    client.close()
    return said.split()[0]


def a_maintenance_loses_nothing(rate: float, ids: dict[str, str]) -> str:
    """On, releases behind it, for all and for all but some, off: each request is answered, by the application or with
    503 and the page."""
    with Traffic(rate) as load:
        run("fastapictl", "maintenance", "on", "--retry-after=7")
        status, retry, page = public()
        expect((status, retry) == (503, "7") and "Down for maintenance" in page, "the page", status, retry, page)
        expect(
            "maintenance  on since" in run("fastapictl", "status"), "the status to say so", run("fastapictl", "status")
        )
        run("fastapictl", "handover", ids["upgrade"])
        expect(private() == "two", "the new release behind it", private())
        expect(public()[0] == 503, "that nobody reaches it", public())
        run("systemctl", "kill", "--signal=HUP", "fastapi-maintenance.service")
        others_stay_out(ids["configuration"])
        run("fastapictl", "maintenance", "off")
    expect(public()[0] == 200, "the application again", public())
    expect(run("systemctl", "list-units", "--all", "--no-legend", "fastapi-maintenance.service") == "", "no responder")
    seen = without_loss(load.seen, "maintenance")
    expect(seen["failures"].keys() == {"status 503"}, "no failure but 503", seen)
    return f"maintenance: {seen['sent']} sent, {seen['answered']} answered, {seen['failed']} with 503, 0 lost"


def others_stay_out(release: str) -> None:
    """For all but some, the application answers nobody else: not when it gets its addresses back, nor when another
    release comes. From one word to the next nothing is restarted."""
    before = served()
    run("fastapictl", "maintenance", "on", "--retry-after=8", "--allow", "192.0.2.0/24", "2001:db8::/32")
    status, retry, page = public()
    expect((status, retry) == (503, "8") and "Down for maintenance" in page, "the page", status, retry, page)
    run("fastapictl", "handover", release)
    expect(private() == "three", "the new release behind it", private())
    expect(served() == before, "that nobody has reached it", before, served())
    main = run("systemctl", "show", "--property=MainPID", "fastapi")
    run("fastapictl", "maintenance", "on", "--allow", "127.0.0.1", "192.0.2.0/24")
    wait_for(lambda: served() > before, "those who are let in")
    run("fastapictl", "maintenance", "on", "--allow", "192.0.2.0/24")
    wait_for(lambda: served() == (time.sleep(0.5), served())[1], "what was begun to be over")
    expect(public()[0] == 503, "that they are out again", public())
    expect(run("systemctl", "show", "--property=MainPID", "fastapi") == main, "the same process")
    status = run("fastapictl", "status")
    expect(re.search("maintenance  on since .*, for all but 192.0.2.0/24\n", status), "the status to say so", status)


def served() -> int:
    """How many requests the application has counted."""
    return sum(file.stat().st_size for file in counts())


def a_pause_loses_nothing(rate: float, _: dict[str, str]) -> str:
    """Clients wait, and are answered; their number is told."""
    with Traffic(rate) as load:
        said = run("fastapictl", "pause", "--max=2")
    waited = re.search(r"over after [0-9.]+ s: ([0-9]+) clients? waited", said)
    expect(waited is not None and int(waited[1]) > 0, "clients that waited", said)
    seen = without_loss(load.seen, "pause")
    expect(seen["failed"] == 0, "no failure", seen)
    return f"pause: {seen['sent']} sent, {seen['answered']} answered, {waited[1] if waited else 0} waited, 0 lost"


def without_loss(seen: dict[str, Any], what: str) -> dict[str, Any]:
    """What clients saw, which is what the application counted, with an end of each request."""
    expect(seen["refused"] == 0, f"{what}: nobody who is refused", seen)
    expect(seen["answered"] + seen["failed"] == seen["sent"], f"{what}: an end of each request", seen)
    expect(seen["answers"] == seen["counted"], f"{what}: equal counts", seen)
    return seen


def a_pause_ends_without_who_began_it(_: float, __: dict[str, str]) -> str:
    """Whoever is killed meanwhile: the unit that holds the clients starts the service at its end."""
    run("systemd-run", "--quiet", "--collect", "--unit=pausing", "fastapictl", "pause", "--max=4")
    wait_for(
        lambda: "inactive" in run("systemctl", "show", "--property=ActiveState", "fastapi"), "a pause that has begun"
    )
    run("systemctl", "kill", "--signal=KILL", "fastapi-handover.service", "pausing.service")
    expect(public()[0] == 200, "the service to answer who waits", public())
    return "pause: it ends by itself"


def the_workers_are_seen(_: float, __: dict[str, str]) -> str:
    """A request that lasts is seen in one worker, and no request is in any other."""
    with socket.create_connection(("127.0.0.1", 80), timeout=30) as client:
        client.sendall(b"GET /stream?seconds=30 HTTP/1.1\r\nHost: a\r\n\r\n")
        expect(client.recv(12) == b"HTTP/1.1 200", "a response that has begun")
        rows = json.loads(run("fastapictl", "tasks", "--json"))
    requests = [request for row in rows for request in row["requests"]]
    expect(len(rows) > 1 and all(row["answers"] and row["stacks"] for row in rows), "all workers to answer", rows)
    expect([r["path"] for r in requests] == ["/stream"] and requests[0]["response_begun"], "one request", requests)
    ids = [task["request_id"] for row in rows for task in row["tasks"]]
    expect(sys.version_info < (3, 12) or requests[0]["request_id"] in ids, "its task", ids)
    return f"tasks: {len(rows)} workers, and a request of {requests[0]['seconds']} s"


def main() -> None:
    """One after the other."""
    given = json.load(sys.stdin)
    for check in (
        a_maintenance_loses_nothing,
        a_pause_loses_nothing,
        a_pause_ends_without_who_began_it,
        the_workers_are_seen,
    ):
        attempt(check, given["rate"], given["ids"])


if __name__ == "__main__":
    main()
