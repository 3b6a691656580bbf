"""What the edge offers to those outside, and what it keeps: TLS, keys, addresses, names, paths. Used by check.py."""

import contextlib
import json
import re
import socket
import ssl
import subprocess
import tempfile
from pathlib import Path

from checks import expect, finished, marks, outcome, run, wait_for

UNVERIFIED = ssl.create_default_context()
UNVERIFIED.check_hostname, UNVERIFIED.verify_mode = False, ssl.CERT_NONE

INTERMEDIATE = {
    "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
    "DHE-RSA-AES128-GCM-SHA256", "DHE-RSA-AES256-GCM-SHA384", "DHE-RSA-CHACHA20-POLY1305",
}  # fmt: skip
"""The suites of TLS 1.2 in Mozilla's intermediate configuration."""


def curl(*arguments: str, url: str = "https://shop.test/") -> str:
    """What curl prints."""
    return run("curl", "--silent", "--show-error", "--insecure", "--max-time", "20", *arguments, url)


def status(*arguments: str, url: str = "https://shop.test/") -> str:
    """The status and the version of HTTP."""
    return curl("--output", "/dev/null", "--write-out", "%{http_code} %{http_version}", *arguments, url=url)


def tls(name: str = "shop.test") -> ssl.SSLSocket:
    """A connection to the edge."""
    return UNVERIFIED.wrap_socket(socket.create_connection(("127.0.0.1", 443), 30), server_hostname=name)


def edge() -> tuple[str, int]:
    """Which Caddy that is, and how often it has read its configuration."""
    invocation = run("systemctl", "show", "--property=InvocationID", "--value", "caddy").strip()
    lines = run("journalctl", f"_SYSTEMD_INVOCATION_ID={invocation}", "--output=cat")
    return invocation, len(re.findall("Reload|load complete|serving initial|config is unchanged", lines))


def offered(*arguments: str) -> bool:
    """Whether a handshake with that comes to an end."""
    done = finished(
        "openssl", "s_client", "-connect", "127.0.0.1:443", "-servername", "shop.test", *arguments, timeout=30
    )
    return done.returncode == 0 and "Cipher is (NONE)" not in done.stdout


def tls_is_that_of_mozilla_s_intermediate_configuration() -> None:
    expect(offered("-tls1_3") and offered("-tls1_2"), "TLS 1.2 and 1.3")
    for version in ("-tls1", "-tls1_1"):
        expect(not offered(version, "-cipher", "ALL:@SECLEVEL=0"), f"no {version}")
    suites = run("openssl", "ciphers", "-s", "-tls1_2", "ALL:COMPLEMENTOFALL:@SECLEVEL=0").strip().split(":")
    weak = [suite for suite in suites if suite not in INTERMEDIATE and "PSK" not in suite and "SRP" not in suite]
    expect(len(weak) > 20, "others to offer", weak)
    expect(not offered("-tls1_2", "-cipher", ":".join([*weak, "@SECLEVEL=0"])), "none of the weak suites", weak)
    expect(offered("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"), "a good one")


def what_the_edge_keeps_to_itself() -> None:
    score = re.findall(r"Overall exposure level for caddy\.service: (\S+)", run("systemd-analyze", "security", "caddy"))
    print(f"exposure of the edge: {score[0]}", flush=True)
    expect(float(score[0]) < 2, "a sandbox", score)
    listening = run("ss", "--no-header", "--listening", "--tcp", "--udp", "--numeric", "--processes")
    ports = {line.split()[4] for line in listening.splitlines() if '"caddy"' in line}
    expect({port.rpartition(":")[2] for port in ports} == {"80", "443", "980"}, "no other port", ports)
    expect([port for port in ports if port.endswith(":980")] == ["127.0.0.1:980"], "980 on the loopback alone", ports)
    state = Path("/var/lib/gunicorn_fastapi/edge")
    keys = [state / "applications/blog/tls.pem", *Path("/var/lib/caddy").rglob("*.key")]
    expect(len(keys) > 2, "keys", keys)
    own = [*keys, state / "authority/ca.key", Path("/etc/gunicorn_fastapi/edge.env")]
    for path in own:
        for user in ("fastapi", "blog", "nobody"):
            code, said = outcome("runuser", "-u", user, "--", "cat", str(path))
            expect(code and "Permission denied" in said, f"{user} not to read {path}", said)
    for path in keys:
        run("runuser", "-u", "caddy", "--", "test", "-r", str(path))
    for user in ("fastapi", "blog", "nobody"):
        connect = "import socket; socket.socket(socket.AF_UNIX).connect('/run/caddy/admin.sock')"
        said = outcome("runuser", "-u", user, "--", "python3", "-c", connect)[1]
        expect("PermissionError" in said, f"{user} not to reach the admin endpoint", said)


def lines_about(mark: str) -> tuple[int, int]:
    """How many lines the journal has of a request: the application's, the edge's."""
    run("journalctl", "--sync")
    logs = [run("journalctl", f"--unit={unit}", "--output=cat", "--lines=2000") for unit in ("fastapi", "caddy")]
    return logs[0].count(mark), logs[1].count(mark)


def pair(*names: str) -> str:
    """A certificate of one's own for these names, with its key (PEM)."""
    with tempfile.TemporaryDirectory() as place:
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-subj", "/CN=own", "-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names),
            "-days", "30", "-keyout", f"{place}/key", "-out", f"{place}/pem")  # fmt: skip
        return Path(place, "pem").read_text() + Path(place, "key").read_text()


def ask_for(domains: list[str], text: str) -> tuple[int, str]:
    """Give the second application these domains with a certificate of one's own."""
    asked = {"domains": domains, "redirects": {}, "tls": "files", "hsts": "", "certificate": str(hash(text)),
             "pair": text, "socket": "/run/gunicorn_fastapi/blog.sock"}  # fmt: skip
    done = finished("blogctl", "edge", said=json.dumps(asked))
    return done.returncode, done.stdout + done.stderr


def verified(name: str, text: str, address: str = "127.0.0.1") -> None:
    """Have a client trust that certificate alone, and get an answer under the name."""
    context = ssl.create_default_context(cadata=text[: text.index("-----BEGIN PRIVATE")])
    with (
        socket.create_connection((address, 443), 20) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        connection.sendall(f"GET /healthz HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        answer = connection.recv(1000)
        expect(answer.startswith(b"HTTP/1.1 200 "), f"an answer for {name} at {address}", answer.decode())


def certificates_as_files_also_for_wildcards() -> None:
    """At each address of the host, of IPv6 too; one that is wrong changes nothing, and none reloads anything."""
    before, names = edge(), ["*.wild.test", "blog.test"]
    first, second = pair(*names), pair(*names)
    expect(ask_for(names, first)[0] == 0, "a certificate of one's own")
    own = run("hostname", "--all-ip-addresses").split()
    for address in ("127.0.0.1", "127.0.0.2", "::1", *own):
        verified("any.wild.test", first, address)
    verified("blog.test", first)
    for name in ("wild.test", "a.b.wild.test"):
        with contextlib.suppress(ssl.SSLError), tls(name):
            expect(False, f"no certificate for {name}")
    for text, why in (
        (pair("other.test"), "is not for *.wild.test"),
        (first[: first.index("-----BEGIN PRIVATE")] + second[second.index("-----BEGIN PRIVATE") :], "do not fit"),
        ("nonsense", "are no PEM"),
    ):
        code, said = ask_for(names, text)
        expect(code and why in said and "nothing has changed" in said, f"a sentence: {why}", said)
        verified("any.wild.test", first)
    expect(ask_for(names, second)[0] == 0, "another certificate")
    verified("any.wild.test", second)
    mark = next(marks)
    expect(status("-6", "--resolve", "shop.test:443:[::1]", url=f"https://shop.test/?{mark}") == "200 2", "IPv6")
    wait_for(lambda: lines_about(mark)[0], "the request in the log")
    line = [line for line in run("journalctl", "--unit=fastapi", "--output=cat").splitlines() if mark in line][-1]
    expect("::1" in line, "the client's own address", line)
    expect(edge() == before, "the same Caddy, which has read its configuration once", before, edge())


def a_neighbour_s_wrong_files_harm_nobody() -> None:
    """What stands in the way of one application, whoever has put it there."""
    own = Path("/var/lib/gunicorn_fastapi/edge/applications/blog")
    kept = (own / "tls.pem").read_bytes()
    (own / "tls.pem").write_text("nonsense")
    (own / "app.sock").unlink()
    try:
        expect(status(url="https://shop.test/") == "200 2", "the other application's answers")
        code = subprocess.run(["curl", "-sk", "--max-time", "20", "https://blog.test/"], check=False).returncode
        expect(code, "none of its own")
    finally:
        (own / "tls.pem").write_bytes(kept)
        (own / "app.sock").symlink_to("/run/gunicorn_fastapi/blog.sock")
    expect(status(url="https://blog.test/healthz") == "200 2", "its answers again")
