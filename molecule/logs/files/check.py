"""Use the application in every way and read back what the journal has about it.

python3 check.py FORMAT hands over to the release in that format, does what each check below says, and
ends at the first that fails, with what was expected and what was seen.
"""

import contextlib
import itertools
import json
import re
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

from checks import PATIENCE, Journal, Record, attempt, drop_in, expect, has, marks, outcome, run, wait_for

FORMAT = sys.argv[1]
SERVER_ERROR = "4" if FORMAT == "json" else "6"
"""Priority of the access lines of requests that failed in the server; vars/app.yml chooses it."""

FLOOD = 1600
"""Requests, many times what the journal takes of a service in the seconds that they last."""


# --- Requests ---------------------------------------------------------------------------------------


def get(path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and request id of the answer to one request."""
    with contextlib.closing(HTTPConnection("127.0.0.1", timeout=PATIENCE)) as connection:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        response.read()
        return response.status, response.getheader("x-request-id", "")


def send(data: bytes) -> bytes:
    """The first bytes of the answer to exactly these."""
    with socket.create_connection(("127.0.0.1", 80), timeout=PATIENCE) as connection:
        connection.sendall(data)
        return connection.recv(4096)


def access(record: Record) -> Record:
    """An access record's status, path, client, request id and duration, as far as the format has them."""
    if FORMAT == "json":
        line = json.loads(record["MESSAGE"])
        return {**line, "id": line.get("request_id")}
    if FORMAT == "journal":
        return {
            "id": record["REQUEST_ID"],
            "method": record["HTTP_METHOD"],
            "path": record["HTTP_PATH"],
            "status": int(record["HTTP_STATUS"]),
            "client": record["CLIENT"],
            "logger": record["LOGGER"],
            "duration_ms": float(record["DURATION_MS"]),
        }
    return {}


def message_of(record: Record) -> str:
    """What was logged, without the format around it."""
    if FORMAT == "json" and record["MESSAGE"].startswith("{"):
        line = json.loads(record["MESSAGE"])
        return str(line["message"]) + str(line.get("exception", ""))
    return str(record["MESSAGE"])


def says(text: str) -> Callable[[Record], bool]:
    """Whether a record's message ends with the text, in any format."""
    return lambda record: message_of(record).endswith(text)


# --- The checks, in this order ----------------------------------------------------------------------


def access_lines_are_info_with_the_fields_of_the_format() -> None:
    journal, mark = Journal(), next(marks)
    status, identifier = get(f"/?{mark}", {"X-Request-ID": f"id-{mark}"})
    expect((status, identifier) == (200, f"id-{mark}"), "200 and the request's own id", (status, identifier))
    record = journal.with_text(f"?{mark} ")
    expect(record["PRIORITY"] == "6", "priority info", record)
    expect(f'- "GET /?{mark} HTTP/1.1" 200' in message_of(record), "uvicorn's line", record)
    if FORMAT != "plain":
        wanted = {"id": identifier, "method": "GET", "path": "/", "status": 200, "client": "127.0.0.1"}
        expect(wanted.items() <= access(record).items(), f"{wanted}", access(record))


def each_record_has_its_priority() -> None:
    journal = Journal()
    for level, priority in [("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")]:
        text = f"{level} {next(marks)}"
        get(f"/log/{level}?text={quote(text)}")
        record = journal.wait_for(1, says(text), text)[0]
        expect(record["PRIORITY"] == priority, f"priority {priority} for {level}", record)


def a_request_is_followed_by_its_id() -> None:
    journal, first, second = Journal(), next(marks), next(marks)
    ids = {
        text: get(f"{path}?text={text}", headers)[1]
        for path, text, headers in [("/log/info", first, {}), ("/thread", second, {"X-Request-ID": "bad id!"})]
    }
    expect(len({*ids.values(), "", "bad id!"}) == 4, "two different ids that the server made", ids)
    if FORMAT == "plain":
        return
    for text, identifier in ids.items():
        for record in journal.wait_for(2, has(text), f"{text}, access line and own"):
            seen = access(record)["id"] if FORMAT == "json" else record["REQUEST_ID"]
            expect(seen == identifier, f"the id {identifier} of the response", record)
    if FORMAT == "journal":
        found = journal.read(f"REQUEST_ID={ids[second]}")
        expect(len(found) == 2, "both records by their request id alone", found)


def a_slow_request_shows_its_duration() -> None:
    if FORMAT == "plain":
        return
    journal, mark = Journal(), next(marks)
    get(f"/slow?seconds=0.2&{mark}")
    seen = access(journal.with_text(mark))
    expect(seen["duration_ms"] >= 200, "a duration of 200 ms or more", seen)


def a_traceback_is_one_record_of_priority_err() -> None:
    journal, mark = Journal(), next(marks)
    status, identifier = get(f"/raise?text={mark}")
    expect((status, len(identifier)) == (500, 16), "500, with an id", (status, identifier))
    record = journal.wait_for(1, says(f"RuntimeError: {mark}"), f"the exception {mark}")[0]
    expect(record["PRIORITY"] == "3", "priority err", record)
    expect("Traceback (most recent call last):\n" in message_of(record), "the whole traceback", record)
    expect(record["MESSAGE"].count("Traceback") == 1, "one traceback", record)
    if FORMAT == "journal":
        expect(record["REQUEST_ID"] == identifier, f"the id {identifier} of the response", record)
        found = journal.read("--unit=fastapi.service", "HTTP_STATUS=500")
        expect([r["HTTP_PATH"] for r in found] == ["/raise"], "the one failed request by its status", found)


def an_exception_in_a_thread_is_one_record_too() -> None:
    journal, mark = Journal(), next(marks)
    get(f"/raise-in-thread?text={mark}")
    record = journal.wait_for(1, says(f"RuntimeError: {mark}"), f"the exception {mark}")[0]
    expect(record["PRIORITY"] == "2", "priority crit", record)


def print_arrives() -> None:
    journal, mark = Journal(), next(marks)
    get(f"/print?text={mark}")
    found = journal.wait_for(1, lambda r: r["MESSAGE"] == mark, f"{mark} alone")
    expect(found[0]["PRIORITY"] == "6", "priority info", found)


def nothing_a_client_sends_starts_a_record() -> None:
    journal, mark = Journal(), next(marks)
    forged = f"\n<0>forged {mark}\r\n\nPRIORITY=0\nMESSAGE=forged {mark}\n\x1b[2J\x00"
    get(f"/log/info?text={quote(forged)}")
    get(f"/{quote(forged)}")
    for raw in (b"/\xff\xfe", b"/?\xe9\xff", b"/\x1b[2J", b"/\x00"):
        answer = send(b"GET %b%b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % (raw, mark.encode()))
        expect(answer.startswith(b"HTTP/1.1 400 "), f"400 for the path {raw!r}", answer.decode("latin-1"))
    send(b"GET /%%ff%%fe%b HTTP/1.1\r\nHost: x\r\nX-Request-ID: a\xff\r\nConnection: close\r\n\r\n" % mark.encode())
    journal.wait_for(4, has(mark), f"{mark}: three access lines and the application's own")
    records = journal.service()
    expect(not journal.service("--priority=crit"), "nothing above warning", records)
    expect(not [r for r in records if r["MESSAGE"].startswith(("forged", "<"))], "no forged record", records)
    expect(not [r for r in records if set(r["MESSAGE"]) & {"\x1b", "\x00", "\r"}], "no control characters", records)


def a_long_message_is_one_record() -> None:
    journal = Journal()
    for size in (2**16, 2**19):
        get(f"/long?size={size}")
        journal.wait_for(1, says(f"long {'x' * size}"), f"{size} bytes")


def successful_health_checks_are_not_logged() -> None:
    journal, mark = Journal(), next(marks)
    for _ in range(5):
        get("/healthz")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.connect("/run/fastapi/main.sock")
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        expect(b" 200 " in connection.recv(4096), "200 on the private socket", "something else")
    get(f"/?{mark}")
    journal.with_text(f"?{mark} ")
    seen = [r for r in journal.service() if "/healthz" in r["MESSAGE"]]
    expect(not seen, "no line about /healthz", seen)


def lines_of_one_worker_are_in_order() -> None:
    journal, mark = Journal(), next(marks)
    with contextlib.closing(HTTPConnection("127.0.0.1", timeout=PATIENCE)) as connection:
        wanted = []
        for number in range(120):
            path = (
                "/log/error?text=two%0Alines%20" if number % 7 == 3 else "/log/info?text=" if number % 5 == 0 else "/?"
            )
            connection.request("GET", f"{path}{mark}-{number}")
            connection.getresponse().read()
            wanted += [number] * (1 if path == "/?" else 2)
    records = journal.wait_for(len(wanted), has(mark), mark)
    by_process: dict[str, list[int]] = {}
    for record in records:
        number = int(message_of(record).rpartition(f"{mark}-")[2].split()[0])
        by_process.setdefault(record["_PID"], []).append(number)
    expect(all(sorted(numbers) == numbers for numbers in by_process.values()), "numbers in order", by_process)


def answered_while(change: Callable[[], object]) -> None:
    """Every request that is answered while something changes has its line, once."""
    journal, mark = Journal(), next(marks)
    answered: list[str] = []
    over = threading.Event()

    def ask(client: int) -> None:
        for number in itertools.count():
            if over.is_set():
                return
            get(f"/?{mark}-{client}-{number}-")
            answered.append(f"{client}-{number}")
            time.sleep(0.01)  # the CPUs are for what changes, and for reading all these lines back

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(3)]
    for thread in threads:
        thread.start()
    change()
    over.set()
    for thread in threads:
        thread.join()
    records = journal.wait_for(len(answered), has(mark), mark)
    lines = Counter(r["MESSAGE"].partition(mark)[2].split()[0].strip("-") for r in records)
    expect(lines == Counter(answered), "a line for each answer", {"lines": lines, "answers": len(answered)})


def nothing_is_lost_by_a_handover() -> None:
    if FORMAT == "plain":  # the others do that between two releases
        answered_while(lambda: run("/usr/local/sbin/fastapictl", "restart"))


def status_line() -> str:
    """What the service tells systemctl about its workers."""
    return run("systemctl", "show", "--property=StatusText", "--value", "fastapi.service")


def nothing_is_lost_by_a_stop_nor_by_workers_that_are_recycled() -> None:
    def restart_until_three_are_replaced() -> None:
        run("systemctl", "restart", "fastapi.service")
        replaced = re.compile(r"; ([3-9]|\d\d+) replaced")
        wait_for(lambda: replaced.search(status_line()), "three workers replaced", status_line)

    with drop_in("Environment=GUNICORN_CMD_ARGS=--max-requests=100", restart=False):
        answered_while(restart_until_three_are_replaced)


def errors_of_two_releases_are_told_apart_and_no_line_is_lost_between_them() -> None:
    if FORMAT == "plain":
        return  # it is the first, there is no other
    journal, mark, counts = Journal(), next(marks), {}
    for errors in (1, 2):
        for number in range(errors):
            get(f"/log/error?text={mark}-{number}")
        counts[Path("/opt/fastapi/current").resolve().name] = errors
        answered_while(lambda: run("/usr/local/sbin/fastapictl", "rollback"))
    seen = Counter(r["RELEASE"] for r in journal.read("--unit=fastapi", "--priority=err"))
    expect(seen == Counter(counts), f"{counts}", seen)


def a_killed_worker_loses_no_error_and_no_older_line() -> None:
    for number, words, priority in (("SIGKILL", "was sent SIGKILL", "3"), ("SIGSEGV", "was sent SIGSEGV", "4")):
        journal, mark = Journal(), next(marks)
        with contextlib.closing(HTTPConnection("127.0.0.1", timeout=PATIENCE)) as connection:
            for count in range(50):
                connection.request("GET", f"/?{mark}-{count}-")
                connection.getresponse().read()
            time.sleep(0.3)  # the last 50 ms may be lost
            connection.request("GET", f"/die/{number}?text=last-words-{mark}")
            with contextlib.suppress(OSError):
                connection.getresponse()
        journal.wait_for(50, has(f"?{mark}-"), mark)
        two = journal.wait_for(2, has(f"last-words-{mark}"), "its last error, and the request that it was answering")
        expect(sorted(r["PRIORITY"] for r in two) == ["3", SERVER_ERROR], f"priorities 3 and {SERVER_ERROR}", two)
        told = journal.wait_for(1, has(words), words)[0]
        expect(told["PRIORITY"] == priority, f"gunicorn's own priority, {priority}", told)
        expect(" replaced, the last at " in status_line(), "the loss of a worker in the status", status_line())
        if number == "SIGSEGV":
            for what in ("Fatal Python error: Segmentation fault", "in die"):  # and where
                told = journal.wait_for(1, has(what), what)[0]
                expect(told["PRIORITY"] == "3", "priority err", told)


def a_crash_at_import_is_one_record() -> None:
    journal = Journal()
    with drop_in("Environment=CRASH=import", restart=False):
        status, _ = outcome("systemctl", "restart", "fastapi.service")
        expect(status, "a failed start", status)
        run("systemctl", "stop", "fastapi.service")
    records = journal.service()
    tracebacks = [r for r in records if "Traceback (most recent call last)" in r["MESSAGE"]]
    whole = [r for r in tracebacks if message_of(r).endswith("RuntimeError: the module raises on import")]
    expect(whole and whole == tracebacks, "the exception at the end of each traceback", tracebacks or records)
    expect({r["PRIORITY"] for r in whole} == {"3"}, "priority err", whole)
    parts = [r for r in records if r["MESSAGE"].lstrip().startswith('File "')]
    expect(not parts, "no part of a traceback alone", parts)


def a_flood_costs_no_error_and_is_told() -> None:
    errors = 40
    with drop_in("LogRateLimitIntervalSec=3\nLogRateLimitBurst=50"):
        run("systemctl", "restart", "fastapi.service")
        journal, mark = Journal(), next(marks)
        with contextlib.closing(HTTPConnection("127.0.0.1", timeout=PATIENCE)) as connection:
            for number in range(FLOOD):
                path = "/?" if number % (FLOOD // errors) else "/log/error?text="
                connection.request("GET", f"{path}{mark}-{number}-")
                connection.getresponse().read()

        def told() -> list[str]:
            """What the journal tells of it, with the first line after the interval."""
            get(f"/?over-{mark}")
            said = [str(record["MESSAGE"]) for record in journal.read("--unit=systemd-journald.service")]
            return [text for text in said if "Suppressed" in text and "fastapi.service" in text]

        wait_for(told, "how many are missing, told by the journal")
        own = [r for r in journal.service() if f"{mark}-" in r["MESSAGE"] and r["PRIORITY"] == "3"]
        expect(len(own) == errors, f"all {errors} errors", own)
        lines = [r for r in journal.service() if f"{mark}-" in r["MESSAGE"] and r["PRIORITY"] == "6"]
        expect(len(lines) < FLOOD, "fewer access lines than requests", len(lines))
        expect(sum(int(text.split()[1]) for text in told()), "how many are missing, told by the journal", told())


def failed_requests_have_the_priority_that_was_chosen() -> None:
    journal, mark = Journal(), next(marks)
    for status in (404, 503):
        get(f"/answer/{status}?{mark}-{status}-")
    priorities = {status: journal.with_text(f"{mark}-{status}-")["PRIORITY"] for status in (404, 503)}
    expect(priorities == {404: "6", 503: SERVER_ERROR}, f"info for 404, {SERVER_ERROR} for 503", priorities)


def errors_are_all_that_err_shows() -> None:
    journal, mark = Journal(), next(marks)
    for path in ("/", f"/log/info?text={mark}", f"/log/warning?text={mark}", f"/print?text={mark}", "/nowhere"):
        get(path)
    get(f"/log/error?text=error-{mark}")
    get(f"/raise?text=raised-{mark}")
    journal.wait_for(1, says(f"RuntimeError: raised-{mark}"), "the exception")
    shown = [message_of(r).split()[-1] for r in journal.read("--unit=fastapi.service", "--priority=err")]
    expect(shown == [f"error-{mark}", f"raised-{mark}"], "the error and the exception, and nothing else", shown)


def each_record_names_its_release(start: Journal, release: str) -> None:
    own = start.service()
    without = [r for r in own if r.get("RELEASE") != release]
    expect(not without, f"RELEASE={release} in each record", without)
    if FORMAT == "json":
        lines = [json.loads(r["MESSAGE"]) for r in own if r["MESSAGE"].startswith("{")]
        expect({line["release"] for line in lines} == {release}, f"the release {release} in each line", lines[:5])


def main() -> None:
    """Hand over, then one check after the other."""
    release = Path(f"/opt/fastapi-{FORMAT}").resolve().name
    run("/usr/local/sbin/fastapictl", "handover", release)
    start = Journal()
    for check in (
        access_lines_are_info_with_the_fields_of_the_format,
        each_record_has_its_priority,
        failed_requests_have_the_priority_that_was_chosen,
        errors_are_all_that_err_shows,
        a_request_is_followed_by_its_id,
        a_slow_request_shows_its_duration,
        a_traceback_is_one_record_of_priority_err,
        an_exception_in_a_thread_is_one_record_too,
        print_arrives,
        nothing_a_client_sends_starts_a_record,
        a_long_message_is_one_record,
        successful_health_checks_are_not_logged,
        lines_of_one_worker_are_in_order,
        nothing_is_lost_by_a_handover,
        a_killed_worker_loses_no_error_and_no_older_line,
        # Each of these starts the service, and the last one leaves it as it was.
        nothing_is_lost_by_a_stop_nor_by_workers_that_are_recycled,
        a_crash_at_import_is_one_record,
        a_flood_costs_no_error_and_is_told,
    ):
        attempt(check)
    attempt(each_record_names_its_release, start, release)
    attempt(errors_of_two_releases_are_told_apart_and_no_line_is_lost_between_them)


if __name__ == "__main__":
    main()
