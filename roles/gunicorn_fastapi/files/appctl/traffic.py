"""What both generations of an application answer just now, side by side."""

import argparse
import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from appctl import measuring, table, talk, totals
from appctl.app import App
from appctl.releases import short

PERIOD = 1.0
"""Seconds from one look to the next."""

SPAN = 10
"""Looks that a rate on the screen is over."""

SHARES = (0.5, 0.95, 0.99)

MISSING = "-"


class Generation(NamedTuple):
    """One of them: what it has answered in so many seconds, and what is so now."""

    name: str
    release: str
    answered: table.Totals
    seconds: float
    now: table.Table

    def as_json(self) -> dict[str, Any]:
        """What is shown, in units of their own."""
        requests = table.requests(self.answered)
        shares = {f"p{share * 100:g}": table.percentile(self.answered, share) for share in SHARES}
        return {
            "generation": self.name,
            "release": self.release,
            "seconds": round(self.seconds, 3),
            "requests": int(requests),
            "requests_per_second": round(requests / max(self.seconds, 0.1), 3),
            "failed": int(table.failed(self.answered)),
            "percentiles": shares,
            "bytes": int(self.answered[table.BYTES]),
            "refused": int(self.answered[table.REFUSED]),
            "closed": int(self.answered[table.CLOSED]),
            "workers": self.now.serving,
            "workers_wanted": self.now.wanted,
            "connections": self.now.connections,
            "in_progress": self.now.running,
        }


def lately(counted: totals.Counted) -> list[Generation]:
    """Those that run, with what they say of the last minutes."""
    return [
        Generation(one.instance, one.release, one.counted.lately, one.counted.seconds, one.counted)
        for one in counted.running
        if one.counted.is_live
    ]


def between(before: totals.Counted, after: totals.Counted, seconds: float) -> list[Generation]:
    """Those that run, with what they have answered from one look to another."""
    former = {(one.instance, one.release): one.counted.totals for one in before.running}
    found = []
    for one in lately(after):
        since = former.get((one.name, one.release), [0.0] * table.TOTALS)
        # One that was started again meanwhile counts from nothing.
        answered = [max(count - earlier, 0.0) for count, earlier in zip(one.now.totals, since, strict=True)]
        found.append(one._replace(answered=answered, seconds=seconds))
    return found


def words(app: App, generations: Sequence[Generation], queues: dict[str, int]) -> list[str]:
    """A screen of it."""
    if not generations:
        return [f"{app.name}: no generation counts requests just now ({app.name}ctl status)"]
    shown = [one.as_json() for one in generations]
    over = max(one["seconds"] for one in shown)
    rows = {
        "release": [short(one["release"]) for one in shown],
        "requests/s": [f"{one['requests_per_second']:.1f}" for one in shown],
        "failed (5xx)": [f"{one['failed'] / one['requests']:.2%}" if one["requests"] else MISSING for one in shown],
        **{share: [duration(one["percentiles"][share]) for one in shown] for share in shown[0]["percentiles"]},
        "MiB/s": [f"{one['bytes'] / max(one['seconds'], 0.1) / 2**20:.1f}" for one in shown],
        "refused": [one["refused"] for one in shown],
        "closed": [one["closed"] for one in shown],
        "workers": [f"{one['workers']} of {one['workers_wanted']}" for one in shown],
        "connections": [one["connections"] for one in shown],
        "in progress": [one["in_progress"] for one in shown],
    }
    lines = [f"{app.name}: the last {over:.0f} s", " " * 16 + "".join(f"{one['generation']:>16}" for one in shown)]
    lines += [f"  {name:14}" + "".join(f"{cell:>16}" for cell in cells) for name, cells in rows.items()]
    return lines + [f"  {'queue':14}{waiting:>16}  {address}" for address, waiting in queues.items()]


def duration(seconds: float | None) -> str:
    """A percentile as it is shown."""
    if seconds is None:
        return MISSING
    if seconds >= table.BOUNDS[-1]:
        return f"> {table.BOUNDS[-1]:g} s"
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def queues(app: App) -> dict[str, int]:
    """How many connections wait, by address."""
    return {sample.labels["address"]: int(sample.value) for one in measuring.queue(app) for sample in one.samples}


def command_traffic(app: App, arguments: argparse.Namespace) -> dict[str, Any]:
    """Show what both generations answer, live on a terminal until q or Ctrl-C."""
    if arguments.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        generations, waiting = lately(totals.look(app)), queues(app)
        for line in words(app, generations, waiting):
            talk.out(line)
        return {"generations": [one.as_json() for one in generations], "queues": waiting}
    with screen() as descriptor, contextlib.suppress(KeyboardInterrupt):
        show(app, descriptor)
    return {}


def show(app: App, descriptor: int) -> None:
    """Show it until q is read from a terminal, or its end."""
    looks = [(time.monotonic(), totals.look(app))]
    while True:
        (before, former), (now, counted) = looks[0], looks[-1]
        generations = between(former, counted, now - before) if len(looks) > 1 else lately(counted)
        room = os.get_terminal_size(descriptor)
        lines = [*words(app, generations, queues(app)), "", "q: quit"][: max(room.lines - 1, 1)]
        text = "".join(f"{line[: room.columns]}\x1b[K\r\n" for line in lines)
        sys.stdout.write(f"\x1b[H{text}\x1b[J")
        sys.stdout.flush()
        if select.select([descriptor], [], [], PERIOD)[0] and os.read(descriptor, 64) in (b"", b"q", b"Q", b"\x04"):
            return
        looks = [*looks, (time.monotonic(), totals.look(app))][-SPAN - 1 :]


@contextlib.contextmanager
def screen() -> Iterator[int]:
    """The terminal with a screen of our own, on which each key is read at once; as it was before, afterwards."""
    descriptor = sys.stdin.fileno()
    former = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        sys.stdout.write("\x1b[?1049h\x1b[?25l")
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, former)
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()
