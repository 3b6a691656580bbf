"""When the certificates of an application's domains end, as the edge serves them: not all may read their files."""

import contextlib
from time import monotonic

from appctl import certificates
from appctl.app import App
from appctl.edge import Edge

KEPT = 60.0
"""Seconds for which it is not asked again, also for one that has none."""

WAIT = 2.0
"""Seconds that a handshake may take."""

ALL = 4.0
"""Seconds after which no further one is begun: who asks waits ten."""

known: dict[str, tuple[float, float]] = {}
"""When each domain was asked for last, and the end of its certificate. 0 for one that has none."""


def ends(app: App) -> dict[str, float]:
    """The ends by domain, in seconds of the epoch. Without those that have no certificate just now."""
    settings = Edge(app).settings()
    domains = settings.get("domains", []) if settings.get("tls") != "off" else []
    begin = monotonic()
    for domain in domains:
        now = monotonic()
        if now - begin < ALL and now - known.get(domain, (-KEPT, 0.0))[0] >= KEPT:
            known[domain] = now, asked(domain)
    return {domain: known[domain][1] for domain in domains if known.get(domain, (0.0, 0.0))[1]}


def asked(domain: str) -> float:
    """The end of the certificate that the edge serves now. 0 when it serves none."""
    with contextlib.suppress(OSError, ValueError):
        return float(certificates.facts(certificates.served(domain, WAIT)).get("ends", 0.0))
    return 0.0
