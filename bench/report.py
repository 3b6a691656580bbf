"""Write what was measured into docs/performance.md: tables between their markers, and a plot for each part.

python3 report.py PART DOCS reads DOCS/performance/PART.jsonl, which the measurement has printed. A figure is the
median of the rounds, with the least and the most in brackets. A ratio is one of two samples of the same round,
and its median and range are those of the rounds' ratios.
"""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

Sample = dict[str, Any]
Figure = Callable[[Sample], float]


# --- Figures ----------------------------------------------------------------------------------------


class Samples:
    """The samples of a part, to be asked for by what they have in common."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = list(samples)

    def where(self, **wanted: object) -> "Samples":
        """Those that have all of these."""
        return Samples(s for s in self._samples if all(s.get(name) == value for name, value in wanted.items()))

    def having(self, name: str) -> "Samples":
        """Those that have this figure."""
        return Samples(s for s in self._samples if name in s)

    def names(self, name: str) -> list[Any]:
        """What there is under this name, in the order in which it came first."""
        return list(dict.fromkeys(sample[name] for sample in self._samples))

    def figures(self, figure: Figure) -> list[float]:
        """The figure in each of them."""
        return [figure(sample) for sample in self._samples]

    def ratios(self, figure: Figure, base: "Samples") -> list[float]:
        """The figure in each of them, divided by that of the base's sample of the same round."""
        of_base = {sample["round"]: figure(sample) for sample in base._samples}  # noqa: SLF001 (one of its own)
        return [figure(sample) / of_base[sample["round"]] for sample in self._samples]


def rate(sample: Sample) -> float:
    """Requests per second."""
    return float(sample["rate"])


def together(sample: Sample) -> float:
    """CPU time of the server and of the journal, in microseconds per request."""
    return float(sample["cpu"] + sample["journal"])


def named(name: str) -> Figure:
    """A figure as it was measured."""
    return lambda sample: float(sample[name])


def unevenness(sample: Sample) -> float:
    """Requests of the busiest worker by those of the idlest; with a worker that got none, by one."""
    spread = sample["spread"]
    idlest = spread[-1] if len(spread) == sample["workers"] else 1
    return float(spread[0] / idlest)


def text(figures: Sequence[float], digits: int = 0) -> str:
    """The median with the range, as a table has them; a single figure alone."""
    if not figures:
        return ""
    if len(figures) == 1:
        return f"{figures[0]:.{digits}f}"
    low, middle, high = (f"{value:.{digits}f}" for value in (min(figures), median(figures), max(figures)))
    return f"{middle} ({low} to {high})"


# --- Tables -----------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose first column is text and whose others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine_text(machine: Sample) -> str:
    """What the figures depend on."""
    where = (
        f"{machine['cpus']} CPUs ({machine['cpu']}), {machine['memory_gib']} GiB and Linux"
        f" {machine['kernel'].split('-')[0]}"
    )
    if "packages" not in machine:
        return (
            "Measured with hosts in containers, Debian 13, by ssh with pipelining, the controller beside them:\n"
            f"{where}; Python {machine['python']}."
        )
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return (
        f"Measured on {machine['system']} in a container on a virtual machine ({machine['virtualisation']}) with\n"
        f"{where}, which the load generator shares;\n"
        f"systemd {machine['systemd']}, Python {machine['python']}, {packages}."
    )


def logging_tables(samples: Samples) -> str:
    """What each way to log costs."""
    off = samples.where(server="ours, logs off")
    ways = ("logs off", "plain", "json", "journal", "plain, no syslog")
    order = ["stock, logs off", "stock", *(f"ours, {way}" for way in ways)]
    rows = []
    for server in order:
        own = samples.where(server=server)
        rows.append(
            [
                server,
                text(own.figures(rate)),
                text(own.ratios(rate, samples.where(server="stock")), 2),
                text(own.figures(named("cpu"))),
                text(own.figures(named("journal"))),
                text(own.figures(together)),
                text(own.ratios(together, off), 2),
            ]
        )
    head = [
        "",
        "requests/s",
        "of stock's",
        "CPU of the server, µs",
        "of the journal, µs",
        "together, µs",
        "of logs off",
    ]
    return table(head, rows)


def serving_tables(samples: Samples) -> str:
    """Who serves how much, how soon, at what cost."""
    hello = samples.where(path="/")
    servers = sorted(hello.names("server"), key=lambda name: (name != "ours", name != "specification", name))
    loads = [(workers, close) for close in (False, True) for workers in (1, 2, 4)]
    head = ["", *(f"{workers}, {'new' if close else 'kept'}" for workers, close in loads)]

    def each(cell: Callable[[Samples, Samples], str]) -> str:
        """A row for each server, a column for each number of workers and kind of connection."""
        rows = []
        for server in servers:
            cells = []
            for workers, close in loads:
                same = hello.where(workers=workers, close=close)
                cells.append(cell(same.where(server=server), same.where(server="specification")))
            rows.append([server, *cells])
        return table(head, rows)

    parts = [
        "Requests per second of `GET /`, by workers, with connections that are kept or new for each request:",
        each(lambda own, _: text(own.figures(rate))),
        "The same, as a multiple of the specification's command:",
        each(lambda own, specified: text(own.ratios(rate, specified), 2)),
        "CPU time of server and journal together for one request, µs:",
        each(lambda own, _: text(own.figures(together))),
    ]
    for path, what in (("/", "`GET /`"), ("/orders", "`POST /orders`, validated"), ("/wait", "`GET /wait`, 10 ms")):
        rows = []
        for server in servers:
            own = samples.where(server=server, path=path, workers=2, close=False)
            figures = [text(own.figures(named(name)), 1) for name in ("p50", "p99", "p99.9")]
            cpu = [text(own.figures(named(name))) for name in ("cpu", "journal")]
            rows.append([server, text(own.figures(rate)), *figures, *cpu])
        parts += [
            f"{what}, 2 workers, 64 connections that are kept:",
            table(["", "requests/s", "p50, ms", "p99, ms", "p99.9, ms", "CPU, µs", "journal, µs"], rows),
        ]
    rows = []
    for server in [*servers, "ours, preloaded"]:
        memory = [
            text([value / 2**20 / workers for value in own.figures(named("memory"))])
            for workers in (1, 2, 4)
            for own in [samples.having("memory").where(server=server, workers=workers)]
        ]
        spreads = [
            text(samples.having("spread").where(server=server, close=close).figures(unevenness), 2)
            for close in (False, True)
        ]
        rows.append([server, *memory, *spreads])
    parts += [
        "Memory (PSS of all processes, MiB), and the requests of the busiest of 4 workers by those of the idlest:",
        table(["", "1 worker", "2 workers", "4 workers", "spread, kept", "spread, new"], rows),
    ]
    return "\n\n".join(parts)


def idle_tables(samples: Samples) -> str:
    """What connections cost that say nothing."""
    rows = []
    for count in sorted(samples.names("idle")):
        own = samples.where(idle=count)
        figures = [text(own.figures(named(name)), 1) for name in ("p50", "p99", "p99.9")]
        closed = text(own.figures(named("closed")))
        rows.append([str(count), text(own.figures(rate)), *figures, text(own.figures(together)), closed])
    return table(["idle", "requests/s", "p50, ms", "p99, ms", "p99.9, ms", "CPU, µs", "closed meanwhile"], rows)


COSTS = ("seconds", "controller_cpu", "host_cpu")


def deploys_tables(samples: Samples) -> str:
    """What each kind of deploy costs with each tool."""
    rows = []
    for kind in samples.names("kind"):
        ours = samples.where(kind=kind, tool="role")
        for tool in samples.where(kind=kind).names("tool"):
            own = samples.where(kind=kind, tool=tool)
            costs = [text(own.having(name).figures(named(name)), 1) or "-" for name in COSTS]
            tasks = text(own.having("tasks").figures(named("tasks"))) or "-"
            against = "" if tool == "role" else text(ours.ratios(named("seconds"), own), 2)
            rows.append([f"{kind}, {tool}", *costs, tasks.partition(" ")[0], against])
    return table(["", "seconds", "CPU s, controller", "CPU s, host", "tasks", "role / it, seconds"], rows)


def pauses_tables(samples: Samples) -> str:
    """What clients see of each way to change what serves."""
    rows = []
    for boot in sorted(samples.names("boot")):
        nothing = samples.where(boot=boot, way="nothing")
        for way in samples.names("way"):
            own = samples.where(boot=boot, way=way)
            cells = [text(own.figures(named(name))) for name in ("p50", "p99", "p99.9", "pause")]
            ratio = text(own.ratios(named("p99.9"), nothing), 1 if way != "handover" else 2)
            answered, refused = (sum(own.figures(named(name))) for name in ("requests", "failures"))
            rows.append([f"{boot:g} s, {way}", *cells, ratio, f"{refused:.0f} of {answered + refused:.0f}"])
    head = ["boot, change", "p50, ms", "p99, ms", "p99.9, ms", "longest pause, ms", "p99.9 / nothing's", "refused"]
    return table(head, rows)


def growth_tables(samples: Samples) -> str:
    """How the cost of a deploy grows with hosts, releases and files."""
    rows = []
    for what in samples.names("what"):
        for size in samples.where(what=what).names("size"):
            for kind in samples.names("kind"):
                own = samples.where(what=what, size=size, kind=kind)
                rows.append([f"{size} {what}, {kind}", *(text(own.figures(named(name)), 1) for name in COSTS)])
    return table(["", "seconds", "CPU s, controller", "CPU s, hosts in all"], rows)


# --- Plots ------------------------------------------------------------------------------------------

WIDTH, NAME, BAR, GAP = 760, 150, 18, 10


def bars(title: str, rows: Sequence[tuple[str, Sequence[float], str]], top: int) -> tuple[str, int]:
    """A panel of horizontal bars, each of parts that are added up, with a label; the panel and its height."""
    most = max(sum(parts) for _, parts, _ in rows)
    scale = (WIDTH - NAME - 190) / most
    lines = [f'<text x="0" y="{top + 16}" font-weight="bold">{title}</text>']
    y = top + 28
    for name, parts, label in rows:
        x = float(NAME)
        lines.append(f'<text x="{NAME - 8}" y="{y + 13}" text-anchor="end">{name}</text>')
        for part, colour in zip(parts, ("#3b6ea5", "#e09f3e"), strict=False):
            lines.append(f'<rect x="{x:.1f}" y="{y}" width="{part * scale:.1f}" height="{BAR}" fill="{colour}"/>')
            x += part * scale
        lines.append(f'<text x="{x + 6:.1f}" y="{y + 13}">{label}</text>')
        y += BAR + GAP
    return "\n".join(lines), y - top + GAP


Panels = Sequence[tuple[str, Sequence[tuple[str, Sequence[float], str]]]]
"""Titles with rows, each a name, the parts of its bar, and a label."""


def plot(panels: Panels) -> str:
    """An SVG with one panel below the other."""
    drawn, top = [], 0
    for title, rows in panels:
        panel, height = bars(title, rows, top)
        drawn.append(panel)
        top += height
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}"'
    font = 'font-family="sans-serif" font-size="13"'
    return "\n".join([f"{head} {font}>", f'<rect width="{WIDTH}" height="{top}" fill="white"/>', *drawn, "</svg>\n"])


def served(samples: Samples) -> Panels:
    """Requests per second, and the CPU time of one in the server and in the journal."""
    rates, costs = [], []
    for server in sorted(samples.names("server")):
        own = samples.where(server=server)
        per_second = own.figures(rate)
        cpu, journal = (median(own.figures(named(name))) for name in ("cpu", "journal"))
        rates.append((server, [median(per_second)], text(per_second)))
        costs.append((server, [cpu, journal], f"{cpu:.0f} + {journal:.0f}"))
    return [("Requests per second", rates), ("CPU time of a request, µs: server + journal", costs)]


def panels(samples: Samples, title: str, panel: str, row: str, figure: str, digits: int) -> Panels:
    """One figure, by what tells the rows of a panel apart, in a panel for each of something else."""
    drawn = []
    for value in samples.names(panel):
        rows = []
        for name in samples.where(**{panel: value}).names(row):
            figures = samples.where(**{panel: value, row: name}).figures(named(figure))
            rows.append((str(name), [median(figures)], text(figures, digits)))
        drawn.append((title.format(value), rows))
    return drawn


PARTS: dict[str, tuple[Callable[[Samples], str], Callable[[Samples], Panels]]] = {
    "logging": (logging_tables, served),
    "serving": (serving_tables, lambda s: served(s.where(path="/", workers=2, close=False))),
    "idle": (idle_tables, lambda s: panels(s, "Requests per second of {}", "server", "idle", "rate", 0)),
    "deploys": (deploys_tables, lambda s: panels(s, "{}, seconds", "kind", "tool", "seconds", 1)),
    "pauses": (pauses_tables, lambda s: panels(s, "p99.9 when it boots in {} s, ms", "boot", "way", "p99.9", 0)),
    "growth": (
        growth_tables,
        lambda s: panels(
            s.where(kind="code"), "A release of changed code by {}, seconds", "what", "size", "seconds", 1
        ),
    ),
}
"""The tables of each part, and its plot."""


def main() -> None:
    """Write one part."""
    part, docs = sys.argv[1], Path(sys.argv[2])
    page = docs / "performance.md"
    lines = (docs / f"performance/{part}.jsonl").read_text().splitlines()
    objects = [json.loads(line) for line in lines]
    machine = next(entry for entry in objects if "kernel" in entry)
    samples = Samples(entry for entry in objects if "round" in entry)
    tables, plotted = PARTS[part]
    (docs / f"performance/{part}.svg").write_text(plot(plotted(samples)))
    begin, end = f"<!-- {part}: written by bench/report.py -->", f"<!-- {part}: end -->"
    head, _, rest = page.read_text().partition(begin)
    _, found, tail = rest.partition(end)
    if not found:
        sys.exit(f"{page} has no lines {begin} and {end}")
    page.write_text(f"{head}{begin}\n{machine_text(machine)}\n\n{tables(samples)}\n{end}{tail}")


if __name__ == "__main__":
    main()
