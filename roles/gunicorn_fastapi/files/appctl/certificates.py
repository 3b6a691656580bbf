"""The certificates of domains: whether files fit, an authority of the host's own, and who has signed what is in use."""

import contextlib
import datetime
import json
import os
import socket
import ssl
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from appctl import disk
from appctl.process import run

VALID = 820
"""Days of a certificate of the host's own authority: what the strictest clients accept, and some."""

RENEW = 400
"""Days that it has left at least when a deploy has ended."""

AUTHORITY = 3650
"""Days of the authority."""

PEM_MAX = 256 * 1024
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")

EDGE = ("127.0.0.1", 443)
"""Where the edge is asked on its own host."""

CADDY = Path("var/lib/caddy/.local/share/caddy/certificates")
"""Where Caddy keeps what it was issued."""


def check(pair: str, domains: Sequence[str]) -> str:
    """Why a certificate and its key (PEM, in one text) cannot serve these domains. Empty when they can."""
    with tempfile.TemporaryDirectory(prefix="gunicorn_fastapi-") as place:
        file = Path(place) / "pair.pem"
        file.touch(mode=0o600)
        file.write_text(pair)
        try:
            # Asks for no password: an encrypted key is refused.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file, password=lambda: b"")
        except (ssl.SSLError, OSError, ValueError) as error:
            return f"the certificate and the key do not fit, or are no PEM: {getattr(error, 'reason', None) or error}"
    told = run("openssl", "x509", "-noout", "-checkend", "0", stdin=pair, check=False)
    if "will not expire" not in told:
        return "the certificate has expired"
    for domain in domains:
        name = domain.replace("*", "any", 1)
        if "does match" not in run("openssl", "x509", "-noout", "-checkhost", name, stdin=pair, check=False):
            return f"the certificate is not for {domain}"
    return ""


def facts(pem: str) -> dict[str, Any]:
    """Who has issued a certificate, how many days it has left, and when it ends. Empty for what is none."""
    told = run("openssl", "x509", "-noout", "-issuer", "-enddate", "-nameopt", "multiline", stdin=pem, check=False)
    fields = dict(line.strip().replace(" = ", "=", 1).split("=", 1) for line in told.splitlines() if "=" in line)
    try:
        end = datetime.datetime.strptime(fields["notAfter"], "%b %d %H:%M:%S %Y GMT").replace(tzinfo=datetime.UTC)
    except (KeyError, ValueError):
        return {}
    names = [value.strip() for key, value in fields.items() if key.strip() in ("commonName", "organizationName")]
    days = (end - datetime.datetime.now(datetime.UTC)).days
    return {"issuer": " ".join(names) or "unknown", "days": days, "ends": end.timestamp()}


def in_use(base: Path, application: Path, tls: str, domain: str) -> dict[str, Any]:
    """The same of the certificate that a domain is served with. Empty when there is none."""
    files = [application / "tls.pem"] if tls != "acme" else list((base / CADDY).glob(f"*/{domain}/{domain}.crt"))
    found = []
    for file in files:
        with contextlib.suppress(OSError):
            found.append(facts(disk.read_bounded(file, PEM_MAX).decode(errors="replace")))
    return max(found, key=lambda fact: fact.get("days", -1), default={})


def internal(authority: Path, domains: Sequence[str]) -> str:
    """A new certificate with its key for these domains, by the host's own authority, which is made when it lacks."""
    authority.mkdir(mode=0o755, parents=True, exist_ok=True)
    root, key = authority / "ca.pem", authority / "ca.key"
    with tempfile.TemporaryDirectory(prefix="gunicorn_fastapi-") as place:
        made = Path(place)
        if not (root.exists() and key.exists()):
            run(
                "openssl", "req", "-x509", *CURVE, "-days", str(AUTHORITY), "-subj",
                f"/O=gunicorn_fastapi/CN={socket.gethostname()[:40]}",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign",
                "-keyout", f"{made}/ca.key", "-out", f"{made}/ca.pem",
            )  # fmt: skip
            disk.durable(key, (made / "ca.key").read_text(), mode=0o600)
            disk.durable(root, (made / "ca.pem").read_text())
        run("openssl", "req", "-new", *CURVE, "-subj", "/", "-keyout", f"{made}/key", "-out", f"{made}/request")
        names = ",".join(f"DNS:{domain}" for domain in domains)
        (made / "extensions").write_text(
            f"subjectAltName=critical,{names}\nextendedKeyUsage=serverAuth\nbasicConstraints=critical,CA:FALSE\n"
        )
        run(
            "openssl", "x509", "-req", "-in", f"{made}/request", "-days", str(VALID),
            "-CA", str(root), "-CAkey", str(key), "-set_serial", str(int.from_bytes(os.urandom(15))),
            "-extfile", f"{made}/extensions", "-out", f"{made}/pem",
        )  # fmt: skip
        return (made / "pem").read_text() + root.read_text() + (made / "key").read_text()


def served(domain: str, seconds: float) -> str:
    """The certificate (PEM) of a domain, by a handshake with the edge as a client's. Raises OSError or ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # who has signed it is not asked here
    with socket.create_connection(EDGE, timeout=seconds) as plain:
        plain.settimeout(seconds)
        with context.wrap_socket(plain, server_hostname=domain.replace("*", "any", 1)) as connection:
            return ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True) or b"")


def ask(domain: str, seconds: float) -> str:
    """Have the edge get a domain's certificate. Why it has none; empty when it has."""
    try:
        served(domain, seconds)
        return ""
    except TimeoutError:
        return f"none within {seconds:g} s"
    except (OSError, ValueError) as error:
        return getattr(error, "reason", "") or str(error)


def why_not(domain: str, since: float) -> str:
    """What the edge says in its journal of a certificate that it did not get. Empty when it says nothing."""
    begin = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
    lines = run("journalctl", "--unit=caddy", "--output=cat", "--lines=200", f"--since={begin}", check=False)
    for line in reversed(lines.splitlines()):
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            told = isinstance(record, dict) and record.get("level") in ("error", "warn")
            # Of a name without a certificate as a file Caddy says that, too, and goes on to ACME.
            if told and record.get("error") and domain in line and record.get("logger") != "tls.handshake":
                return str(record["error"])[:500]
    return ""
