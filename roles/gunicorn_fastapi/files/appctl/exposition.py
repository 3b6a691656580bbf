"""Metrics as Prometheus reads them: its own text form, and OpenMetrics for those who ask for it."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

OFFERS = {
    ("text/plain", ""),
    ("text/plain", "version=0.0.4"),
    ("application/openmetrics-text", ""),
    ("application/openmetrics-text", "version=0.0.1"),
    ("application/openmetrics-text", "version=1.0.0"),
}
"""What a client may offer to read."""

COUNTER, GAUGE, HISTOGRAM, SUMMARY, INFO = "counter", "gauge", "histogram", "summary", "info"


class Sample(NamedTuple):
    """A number of a family. ``suffix``: what follows the family's name, such as _bucket."""

    labels: Mapping[str, str]
    value: float
    suffix: str = ""


class Family(NamedTuple):
    """What is measured. The name is that of OpenMetrics: without the _total of a counter, and the _info of an info."""

    name: str
    kind: str
    help: str
    samples: list[Sample]


def histogram(
    labels: Mapping[str, str], bounds: Iterable[float], numbers: Iterable[float], total: float
) -> list[Sample]:
    """The samples of a histogram; ``numbers`` has one for each interval, the last one without a bound."""
    found, count = [], 0.0
    for bound, number in zip([*map(repr, bounds), "+Inf"], numbers, strict=True):
        count += number
        found.append(Sample({**labels, "le": bound}, count, "_bucket"))
    return [*found, Sample(labels, total, "_sum"), Sample(labels, count, "_count")]


def wants_openmetrics(accept: str) -> bool:
    """Whether a client prefers OpenMetrics, by its header Accept."""
    weights = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for offer in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in offer.split(";"))
        weight = next((p[2:] for p in parameters if re.fullmatch(r"q=[01](\.[0-9]{0,3})?", p)), "1")
        if (kind, next((p for p in parameters if p.startswith("version=")), "")) in OFFERS:
            weights[kind] = max(weights[kind], float(weight))
    return 0 < weights["application/openmetrics-text"] >= weights["text/plain"]


def written(families: Iterable[Family], openmetrics: bool) -> str:
    """All of them in one of the forms."""
    lines = []
    for family in families:
        if not family.samples:
            continue
        ending = {COUNTER: "_total", INFO: "_info"}.get(family.kind, "")
        kind = family.kind if openmetrics or family.kind != INFO else GAUGE
        name = family.name if openmetrics else family.name + ending
        lines += [f"# HELP {name} {escaped(family.help)}", f"# TYPE {name} {kind}"]
        for sample in family.samples:
            labels = ",".join(f'{label}="{escaped(value, quotes=True)}"' for label, value in sample.labels.items())
            braces = f"{{{labels}}}" if labels else ""
            lines.append(f"{family.name}{ending}{sample.suffix}{braces} {shown(sample.value)}")
    if openmetrics:
        lines.append("# EOF")
    return "".join(f"{line}\n" for line in lines)


def escaped(text: str, quotes: bool = False) -> str:
    """A text within a line."""
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def shown(value: float) -> str:
    """A number, whole ones without a point up to where a double counts."""
    return str(int(value)) if value == int(value) and abs(value) <= 2.0**53 else repr(float(value))
