"""What clients get through the edge, and that no change of an application costs them a request. Runs as root."""

import collections
import contextlib
import functools
import http.client
import json
import re
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path
from typing import Self

import outside
from checks import attempt, expect, marks, run, wait_for
from malformed import CASES, SECOND
from outside import UNVERIFIED, curl, edge, status, tls

STATE = Path("/var/lib/fastapi")
ONE, TWO = json.loads(Path("ids.json").read_text())
AUTHORITY = "/var/lib/gunicorn_fastapi/edge/authority/ca.pem"


def certificate(name: str) -> str:
    """What a name is served with."""
    with tls(name) as connection:
        return ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True) or b"")


def issuer(name: str) -> str:
    """Who has signed what a name is served with."""
    return subprocess.run(
        ["openssl", "x509", "-noout", "-issuer"], input=certificate(name), capture_output=True, text=True, check=True
    ).stdout


def certificates_were_there_before_any_client() -> None:
    said = run("fastapictl", "status")
    expect(re.search(r"domain    shop\.test: acme, by Pebble Intermediate CA \w+, \d+ days left", said), "ACME's", said)
    expect("caddy is active" in said, "the state of the edge", said)
    expect("Pebble" in issuer("shop.test"), "ACME's certificate", issuer("shop.test"))
    said = run("blogctl", "status")
    expect(re.search(r"domain    blog\.test: internal, by gunicorn_fastapi \S+, 819 days left", said), "its own", said)
    context = ssl.create_default_context(cafile=AUTHORITY)
    with socket.create_connection(("127.0.0.1", 443)) as plain, context.wrap_socket(plain, server_hostname="blog.test"):
        pass


def metrics_say_when_a_certificate_ends() -> None:
    said = run("curl", "--silent", "--max-time", "20", "http://127.0.0.1:9464/metrics")
    series = r'^gunicorn_fastapi_certificate_expiry_timestamp_seconds\{domain="shop.test"\} (\d+)$'
    command = ["openssl", "x509", "-noout", "-enddate"]
    ends = subprocess.run(command, input=certificate("shop.test"), capture_output=True, text=True, check=True).stdout
    seconds = ssl.cert_time_to_seconds(ends.strip().removeprefix("notAfter="))
    expect(re.findall(series, said, re.MULTILINE) == [str(seconds)], f"the certificate to end at {seconds}", said)


def versions_of_http() -> None:
    expect(status("--http1.1") == "200 1.1", "HTTP/1.1")
    expect(status("--http2") == "200 2", "HTTP/2")
    if "HTTP3" in run("curl", "--version"):
        expect(status("--http3-only") == "200 3", "HTTP/3")
    head = curl("--head", "--request", "GET")
    expect('alt-svc: h3=":443"' in head, "HTTP/3 to be offered", head)
    expect("strict-transport-security: max-age=300" in head, "HSTS", head)
    expect("strict-transport" not in curl("--head", "--request", "GET", url="https://blog.test/"), "none of its own")
    redirect = curl(
        "--output", "/dev/null", "--write-out", "%{http_code} %{redirect_url}", url="http://shop.test/a?b=c"
    )
    expect(redirect == "308 https://shop.test/a?b=c", "a redirect", redirect)


def received(connection: ssl.SSLSocket, end: bytes = b"") -> bytes:
    """What comes until these bytes, the end of the connection, or nothing more for a while."""
    found = b""
    with contextlib.suppress(OSError):
        while not (end and end in found) and (piece := connection.recv(65536)):
            found += piece
    return found


def a_websocket_outlives_the_times_of_kept_connections() -> None:
    with tls() as s:
        s.sendall(
            b"GET /ws HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        head = received(s, b"\r\n\r\n")
        expect(head.startswith(b"HTTP/1.1 101 "), "a WebSocket", head.decode())
        for text in (b"hi", b"ho"):
            s.sendall(b"\x81\x82\0\0\0\0" + text)  # masked by nothing
            answer = received(s, text)
            expect(answer == b"\x81\x02" + text, "an echo", repr(answer))
            time.sleep(3)  # Caddy keeps idle connections to the application for 2 s


def a_stream_comes_line_by_line_and_a_handover_leaves_it_its_time() -> None:
    with tls() as s:
        s.sendall(b"GET /stream?seconds=8 HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")
        begin = received(s, b"one 0\n")
        expect(b"one 0\n" in begin and b"end" not in begin, "the first line before the last", begin.decode())
        run("fastapictl", "restart")
        rest = received(s)
        expect(rest.endswith(b"one 7\nend\n"), "all of it", rest.decode())


def no_request_hides_in_another_one() -> None:
    """Of what the edge and the application could read differently comes neither a request nor an answer too many."""
    mark = next(marks)
    other = http.client.HTTPSConnection("shop.test", context=UNVERIFIED, timeout=30)
    for number, case in enumerate(CASES):
        with tls() as s:
            s.settimeout(0.5)
            with contextlib.suppress(OSError):  # it is closed in mid-request
                s.sendall((case.data + SECOND).replace(b"Host: shop\r\n", b"Host: shop.test\r\n", 1))
            received(s)
        # Caddy may use the connection to the application that it has used for the case.
        other.request("POST", "/echo", body=f"{mark}-{number}")
        answer = other.getresponse().read().decode()
        expect(answer == f"{mark}-{number}", f"{case.name}: another client's own answer", answer)
    expect(status(url=f"https://shop.test/?{mark}") == "200 2", "an answer")
    logged = functools.partial(run, "journalctl", "--unit=fastapi", "--output=cat", "--lines=1000")
    wait_for(lambda: mark in logged(), "all of it in the log")
    expect("/smuggled" not in logged(), "no request that hides in another one", logged())


def what_clients_say_of_themselves_is_not_believed() -> None:
    claims = [f"-H{name}: 6.6.6.6" for name in ("X-Forwarded-For", "X-Real-IP", "X-Forwarded-Host")]
    expect(status(*claims, "-HForwarded: for=6.6.6.6", url="https://shop.test/?claims") == "200 2", "an answer")
    lines: list[str] = []

    def logged() -> bool:
        lines[:] = re.findall(r".*claims.*", run("journalctl", "--unit=fastapi", "--output=cat", "--lines=50"))
        return bool(lines)

    wait_for(logged, "the request in the log")
    expect("127.0.0.1:" in lines[-1], "the client's own address", lines)
    expect("6.6.6.6" not in lines[-1], "no other one", lines)


def names_that_nobody_has() -> None:
    done = subprocess.run(
        ["curl", "-sk", "--max-time", "20", "https://unknown.test/"], capture_output=True, check=False
    )
    expect(done.returncode == 35, "a handshake that fails", done.returncode)
    expect(not list(Path("/var/lib/caddy").rglob("unknown.test*")), "no certificate")
    expect(status(url="http://unknown.test/") == "421 1.1", "nothing of any application")
    for host in ("blog.test", "..", "*", "*.test", "SHOP.TEST.", "shop.test.", "{env.EDGE_KEY}", "a/../shop.test"):
        for version in ("--http1.1", "--http2"):
            code = status(version, f"-HHost: {host}").split()[0]
            expect(code in ("400", "421"), f"Host: {host} to be refused", code)
    for path in ("", "?server_name=shop.test", "issue?domain=../applications", "issue?domain=*.test"):
        code = status(url=f"http://127.0.0.1:980/{path}").split()[0]
        expect(code == "404", f"nothing to be had of {path}", code)
    for user in ("fastapi", "blog", "nobody"):
        for name in ("fastapi", "blog"):
            connect = f"import socket; socket.socket(socket.AF_UNIX).connect('/run/gunicorn_fastapi/{name}.sock')"
            done = subprocess.run(
                ["runuser", "-u", user, "--", "python3", "-c", connect], capture_output=True, check=False
            )
            expect(b"PermissionError" in done.stderr, f"{user} not to reach {name}", done.stderr.decode())


class Load:
    """Clients that keep their connection and never retry; each counts, and so does the application."""

    def __init__(self, host: str = "shop.test", state: Path = STATE) -> None:
        self.host, self.state = host, state

    def __enter__(self) -> Self:
        self.before = self.counted()
        self.answers: collections.Counter[str] = collections.Counter()
        self.lost: list[str] = []
        self.files = 0
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(n,)) for n in range(4)]
        for thread in self.threads:
            thread.start()
        return self

    def run(self, number: int) -> None:
        """GET and POST by turns."""
        client = http.client.HTTPSConnection(self.host, context=UNVERIFIED, timeout=60)
        while not self.ended.wait(0.02):
            method, path = ("GET", "/") if number % 2 else ("POST", "/echo")
            try:
                client.request(method, path, body=b"x" if method == "POST" else None)
                answer = client.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(f"{type(error).__name__}: {error}")
                client.close()
                continue
            if answer.status == 200 and method == "GET" and self.state == STATE:
                self.has_its_file(client, answer.headers["x-release"])
            if answer.status == 200:
                self.answers[f"{method}-{answer.headers['x-release']}"] += 1
            else:
                self.lost.append(str(answer.status))

    def has_its_file(self, client: http.client.HTTPSConnection, release: str) -> None:
        """A page finds the file that its release has named after its content."""
        try:
            client.request("GET", f"/static/{release}.0123abcd.js")
            answer = client.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.lost.append(f"{type(error).__name__}: {error}")
            client.close()
            return
        if (
            answer.status != 200
            or not body.startswith(release.encode())
            or "immutable" not in answer.headers["cache-control"]
        ):
            self.lost.append(f"the file of {release}: {answer.status} {body[:20]!r} {answer.headers}")
        self.files += 1

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join(120)

    def counted(self) -> dict[str, int]:
        return {path.name: path.stat().st_size for path in self.state.glob("*-*")}

    def check(self, what: str) -> None:
        """Nothing is lost, and both count the same."""
        expect(not self.lost, f"{what}: no lost request", self.lost)
        after = self.counted()
        grown = {
            name: size - self.before.get(name, 0) for name, size in after.items() if size > self.before.get(name, 0)
        }
        expect(grown == dict(self.answers), f"{what}: equal counts", grown, dict(self.answers))
        expect(self.files > 0 or self.state != STATE, f"{what}: files of pages")
        print(f"{what}: {sum(self.answers.values())} sent and {self.files} static files, 0 lost", flush=True)


def under_load(what: str, *command: str, said: str = "") -> None:
    """A change that no client notices, and of which Caddy hears nothing."""
    before = edge()
    with Load() as load:
        done = subprocess.run(command, input=said, capture_output=True, text=True, check=False, timeout=200)
    expect(done.returncode == 0, f"{what} to succeed", done.stdout + done.stderr)
    load.check(what)
    expect(edge() == before, f"{what}: the same Caddy, which has read its configuration once", before, edge())


def static_files() -> None:
    """Compressed, with an ETag, and nothing else of a release."""
    head = curl("--include", "-HAccept-Encoding: gzip", "--output", "/dev/null", "--dump-header", "-",
                url="https://shop.test/static/style.css")  # fmt: skip
    expect("content-encoding: gzip" in head, "a compressed file", head)
    expect("cache-control: no-cache" in head, "a file to be asked for again", head)
    expect("last-modified" not in head, "no date", head)
    mark = re.findall(r"etag: (\S+)", head)[0]
    known = ("--compressed", f"-HIf-None-Match: {mark}")
    expect(status(*known, url="https://shop.test/static/style.css").startswith("304"), "304")
    for path in ("main.py", "static/.env", "static/../main.py", "%2e%2e/%2e%2e/app/main.py", "static/*.css", "static"):
        code = status("--path-as-is", url=f"https://shop.test/{path}").split()[0]
        expect(code == "404", f"{path} not to be had", code)
    browser = ("--include", "-HAccept: text/html,*/*")
    expect(
        re.match(r"HTTP/2 200.*\n\none ", curl(*browser, url="https://shop.test/any"), re.DOTALL),
        "the fallback page",
    )


def files_of_the_release_that_serves(release: str) -> None:
    expect(curl(url="https://shop.test/static/style.css").startswith(release), f"the file of {release}")
    for name in ("one", "two"):
        expect(status(url=f"https://shop.test/static/{name}.0123abcd.js") == "200 2", f"the file of a page of {name}")


def no_change_costs_a_request() -> None:
    under_load("upgrade", "fastapictl", "handover", TWO)
    files_of_the_release_that_serves("two")
    under_load("rollback", "fastapictl", "rollback")
    files_of_the_release_that_serves("one")
    under_load("restart", "fastapictl", "restart")
    under_load("systemctl restart", "systemctl", "restart", "fastapi")
    request = {"domains": ["shop.test", "www.shop.test"], "redirects": {"www.shop.test": "shop.test"}, "tls": "acme",
               "hsts": "max-age=300", "certificate": "", "pair": "",
               "socket": "/run/gunicorn_fastapi/fastapi.sock"}  # fmt: skip
    under_load("a new domain", "fastapictl", "edge", said=json.dumps(request))
    expect("Pebble" in issuer("www.shop.test"), "its certificate", issuer("www.shop.test"))
    head = curl("--include", url="https://www.shop.test/a%20b?c=d")
    expect(head.startswith("HTTP/2 308") and "location: https://shop.test/a%20b?c=d\n" in head, "the way to go", head)


def no_change_costs_a_request_over_http_2() -> None:
    load = subprocess.Popen(
        ["h2load", "--clients=4", "--duration=15", "https://shop.test/"], stdout=subprocess.PIPE, text=True
    )
    run("fastapictl", "handover", TWO)
    said, _ = load.communicate(timeout=120)
    expect(re.search(r"\b0 failed, 0 errored, 0 timeout", said), "no lost request", said)
    expect(re.search(r"\b0 3xx, 0 4xx, 0 5xx", said), "no refusal", said)
    print(f"upgrade over HTTP/2: {re.findall('requests: .*', said)[0]}", flush=True)


def a_kill_costs_what_is_under_way_and_no_more() -> None:
    """Clients who come while the service is down wait, as they do without the edge."""
    kill = ("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "fastapi")
    before = edge()
    with Load() as load:
        wait_for(lambda: load.answers, "answers")
        run(*kill)
        killed = sum(load.answers.values())
        wait_for(lambda: sum(load.answers.values()) > killed + 100, "answers again", lambda: load.lost)
    expect(len(load.lost) <= len(load.threads), "at most one lost request for each client", load.lost)
    print(f"kill: {sum(load.answers.values())} sent, {len(load.lost)} lost of {len(load.threads)} clients", flush=True)
    clients = subprocess.Popen(
        ["h2load", "--clients=4", "--duration=15", "https://shop.test/"], stdout=subprocess.PIPE, text=True
    )
    run(*kill)
    said, _ = clients.communicate(timeout=120)
    lost = sum(map(int, re.findall(r"(\d+) (?:failed|errored|timeout)", said)))
    lost += int(re.findall(r"(\d+) 5xx", said)[0])
    expect(0 <= lost <= 4, "at most one lost request for each client over HTTP/2", said)
    expect(re.search(r"[1-9]\d* 2xx", said), "answers over HTTP/2", said)
    print(f"kill over HTTP/2: {re.findall('requests: .*', said)[0]}, {lost} lost of 4 clients", flush=True)
    expect(edge() == before, "the same Caddy, which has read its configuration once", before, edge())


def a_new_certificate_costs_no_request() -> None:
    request = {"domains": ["blog.test", "more.test"], "redirects": {}, "tls": "internal", "hsts": "", "certificate": "",
               "pair": "", "socket": "/run/gunicorn_fastapi/blog.sock"}  # fmt: skip
    before, old = edge(), certificate("blog.test")
    with Load("blog.test", Path("/var/lib/blog")) as load:
        wait_for(lambda: load.answers, "answers")
        done = subprocess.run(
            ["blogctl", "edge"], input=json.dumps(request), capture_output=True, text=True, check=False
        )
        answered = sum(load.answers.values())
        wait_for(lambda: sum(load.answers.values()) > answered + 20, "answers after it")
    expect(done.returncode == 0, "a new certificate", done.stdout + done.stderr)
    load.check("a new certificate")
    expect(certificate("blog.test") != old, "another one than before")
    expect(edge() == before, "the same Caddy, which has read its configuration once", before, edge())


def a_neighbour_that_goes_is_not_missed() -> None:
    under_load("uninstall of another", "blogctl", "uninstall")
    expect(
        subprocess.run(["curl", "-sk", "https://blog.test/"], check=False).returncode == 35, "nothing for its domain"
    )


def what_is_down_has_a_page() -> None:
    run("systemctl", "stop", "fastapi.socket", "fastapi.service")
    head = curl("--include")
    expect(head.startswith("HTTP/2 503"), "503", head)
    expect("retry-after: 10" in head, "when to try again", head)
    expect("The service is not available" in head, "a line of text", head)
    page = curl("--include", "-HAccept: text/html")
    expect(page.startswith("HTTP/2 503") and re.search(r"\n\n(one|two) x", page), "its own page", page)
    run("systemctl", "start", "fastapi.socket", "fastapi.service")
    expect(status() == "200 2", "an answer")


def the_last_one_takes_the_edge_away() -> None:
    said = run("fastapictl", "uninstall", "--remove-state")
    expect("caddy was stopped and disabled" in said, "what stays to be said", said)
    expect(run("systemctl", "show", "--property=ActiveState,UnitFileState", "--value", "caddy").split() ==
           ["inactive", "disabled"], "no Caddy")  # fmt: skip
    for place in ("/etc/gunicorn_fastapi", "/etc/systemd/system/caddy.service.d", "/run/gunicorn_fastapi/fastapi.sock"):
        expect(not Path(place).exists(), f"{place} to be gone")


def main() -> None:
    for check in (
        certificates_were_there_before_any_client,
        metrics_say_when_a_certificate_ends,
        versions_of_http,
        outside.tls_is_that_of_mozilla_s_intermediate_configuration,
        outside.what_the_edge_keeps_to_itself,
        a_websocket_outlives_the_times_of_kept_connections,
        a_stream_comes_line_by_line_and_a_handover_leaves_it_its_time,
        no_request_hides_in_another_one,
        what_clients_say_of_themselves_is_not_believed,
        names_that_nobody_has,
        static_files,
        no_change_costs_a_request,
        no_change_costs_a_request_over_http_2,
        a_kill_costs_what_is_under_way_and_no_more,
        a_new_certificate_costs_no_request,
        outside.certificates_as_files_also_for_wildcards,
        outside.a_neighbour_s_wrong_files_harm_nobody,
        a_neighbour_that_goes_is_not_missed,
        what_is_down_has_a_page,
        the_last_one_takes_the_edge_away,
    ):
        attempt(check)


if __name__ == "__main__":
    main()
