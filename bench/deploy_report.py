"""Write what deploy.py, pause.py and growth.py have measured into DOCS/performance.md, between its markers.

    python3 bench/deploy_report.py DOCS

reads deploy.json, pause.json and growth.json in DOCS/performance, those that are there, and writes a plot of
the same name beside each. A figure is the median of the rounds, with the least and the most in brackets.
"""

import json
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Figures = list[dict[str, Any]]
COLORS = {"role": "#1f77b4", "plain": "#ff7f0e", "ansistrano": "#2ca02c"}


def spread(values: Iterable[float], digits: int = 1) -> str:
    """The median, and the least and the most, as text. Of a single value only that."""
    known = sorted(values)
    if not known:
        return "-"
    median = f"{statistics.median(known):.{digits}f}"
    return median if len(known) == 1 else f"{median} ({known[0]:.{digits}f} to {known[-1]:.{digits}f})"


def column(figures: Figures, name: str, **wanted: object) -> list[float]:
    """One figure of all measurements that are as wanted."""
    return [f[name] for f in figures if name in f and all(f[key] == value for key, value in wanted.items())]


def ratio(figures: Figures, name: str, other: str, **wanted: object) -> str:
    """The median over the rounds of the role's figure over the other tool's in the same round."""
    rounds = sorted({f["round"] for f in figures})
    ratios = []
    for number in rounds:
        ours = column(figures, name, tool="role", round=number, **wanted)
        theirs = column(figures, name, tool=other, round=number, **wanted)
        ratios += [a / b for a, b in zip(ours, theirs, strict=False)]
    return spread(ratios, 2)


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table, the first column left, the others right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def svg(groups: list[tuple[str, list[tuple[str, list[float]]]]], unit: str, colors: dict[str, str]) -> str:
    """Bars of medians with a line from the least to the most, in groups."""
    bars = sum(len(bars) for _, bars in groups)
    height = 30 + 16 * bars + 14 * len(groups)
    most = max(max(values) for _, bars in groups for _, values in bars)
    scale = 460 / most
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{height}"',
        ' font-family="sans-serif" font-size="11">',
        f'<rect width="760" height="{height}" fill="white"/>',
    ]
    y = 12
    for group, members in groups:
        out.append(f'<text x="6" y="{y + 11}" font-weight="bold">{group}</text>')
        for name, values in members:
            median, least = statistics.median(values), min(values)
            out.append(f'<text x="205" y="{y + 11}" text-anchor="end">{name}</text>')
            color = colors.get(name, "#1f77b4")
            out.append(f'<rect x="210" y="{y + 2}" width="{median * scale:.1f}" height="11" fill="{color}"/>')
            left, right = 210 + least * scale, 210 + max(values) * scale
            out.append(f'<path d="M{left:.1f} {y + 7.5}H{right:.1f}" stroke="black"/>')
            out.append(f'<text x="{right + 5:.1f}" y="{y + 11}">{median:.1f}</text>')
            y += 16
        y += 14
    out += [f'<text x="210" y="{y + 8}">{unit}, median; the line is the range</text>', "</svg>"]
    return "\n".join(out) + "\n"


def deploys(figures: Figures, plot: Path) -> str:
    """What each kind of deploy costs with each tool."""
    kinds = list(dict.fromkeys(f["kind"] for f in figures))
    rows, groups = [], []
    for kind in kinds:
        tools = [tool for tool in COLORS if column(figures, "seconds", kind=kind, tool=tool)]
        groups.append((kind, [(tool, column(figures, "seconds", kind=kind, tool=tool)) for tool in tools]))
        for tool in tools:
            cells = [
                spread(column(figures, name, kind=kind, tool=tool))
                for name in ("seconds", "controller_cpu", "host_cpu")
            ]
            tasks = column(figures, "tasks", kind=kind, tool=tool)
            against = "1" if tool == "role" else ratio(figures, "seconds", tool, kind=kind)
            rows.append([kind, tool, *cells, f"{statistics.median(tasks):.0f}" if tasks else "-", against])
    plot.write_text(svg(groups, "seconds", COLORS))
    return table(["change", "tool", "seconds", "CPU s, controller", "CPU s, host", "tasks", "role / tool"], rows)


def pauses(figures: Figures, plot: Path) -> str:
    """What clients see of each way to change what serves."""
    rows, groups = [], []
    for boot in sorted({f["boot"] for f in figures}):
        members = []
        for way in dict.fromkeys(f["way"] for f in figures):
            cells = [spread(column(figures, name, boot=boot, way=way), 0) for name in ("p50", "p99", "p99.9", "pause")]
            failures = sum(column(figures, "failures", boot=boot, way=way))
            requests = sum(column(figures, "requests", boot=boot, way=way))
            rows.append([f"{boot:g} s, {way}", *cells, f"{failures:.0f} of {requests + failures:.0f}"])
            members.append((way, [value / 1000 for value in column(figures, "p99.9", boot=boot, way=way)]))
        groups.append((f"boots in {boot:g} s", members))
    plot.write_text(svg(groups, "p99.9 in seconds", {}))
    return table(["boot, change", "p50 ms", "p99 ms", "p99.9 ms", "longest pause ms", "attempts refused"], rows)


def growth(figures: Figures, plot: Path) -> str:
    """How the cost grows with hosts, releases and files."""
    rows, groups = [], []
    for what in dict.fromkeys(f["what"] for f in figures):
        members = []
        for size in sorted({f["size"] for f in figures if f["what"] == what}):
            for kind in dict.fromkeys(f["kind"] for f in figures if f["what"] == what):
                wanted = {"what": what, "size": size, "kind": kind}
                cells = [spread(column(figures, name, **wanted)) for name in ("seconds", "controller_cpu", "host_cpu")]
                rows.append([f"{size} {what}", kind, *cells])
                members.append((f"{size}, {kind}", column(figures, "seconds", **wanted)))
        groups.append((what, members))
    plot.write_text(svg(groups, "seconds", {}))
    return table(["size", "change", "seconds", "CPU s, controller", "CPU s, hosts in all"], rows)


def machine(known: dict[str, Any]) -> str:
    """What was measured, on what, in a sentence."""
    of = known["machine"]
    rounds = len({figure["round"] for figure in known["figures"]})
    return (
        f"{rounds} {'round' if rounds == 1 else 'rounds'} on {of['date']}: {of['cpus']} CPUs "
        f"({of['cpu']}), {of['memory_gib']} GiB, Linux {of['kernel']}; "
        "hosts in containers, Debian 13, by ssh with pipelining."
    )


def main() -> None:
    """Write the parts whose figures are there."""
    docs = Path(sys.argv[1])
    page = docs / "performance.md"
    text = page.read_text()
    for name, report in {"deploy": deploys, "pause": pauses, "growth": growth}.items():
        path = docs / f"performance/{name}.json"
        if not path.exists():
            continue
        known = json.loads(path.read_text())
        begin, end = f"<!-- {name}: written by bench/deploy_report.py -->", f"<!-- {name}: end -->"
        head, _, rest = text.partition(begin)
        _, found, tail = rest.partition(end)
        if not found:
            sys.exit(f"{page} has no lines {begin} and {end}")
        made = report(known["figures"], path.with_suffix(".svg"))
        text = f"{head}{begin}\n{machine(known)}\n\n{made}\n![](performance/{name}.svg)\n{end}{tail}"
    page.write_text(text)


if __name__ == "__main__":
    main()
