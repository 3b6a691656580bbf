"""Two generations side by side: what each has done, until the judge has seen enough of it."""

import contextlib
import json
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from appctl import journal, judge, limits, reason, systemd, table, totals, watch
from appctl.app import App
from appctl.journal import Record
from appctl.judge import Bounds, Seen
from appctl.process import CtlError
from appctl.releases import short
from appctl.text import visible

CLOSER = 5
"""Looks of which one reads the journal and the memory, too: that takes some 50 ms of a CPU."""

WARM = 10.0
"""Seconds at the beginning whose durations are not compared, or a tenth of all, if that is less: caches are cold."""

FAILURES = 3
"""Failing requests that are shown."""

NEAR = 1_000_000
"""Microseconds between an answer of 5xx and the error that has caused it, at most."""

REQUEST = re.compile(r'"([A-Z]{1,16} \S{1,2000}) HTTP/\d\.\d" (5\d\d)$')
IN_JSON = re.compile(r'"status": ?5\d\d\b')


class Judging(NamedTuple):
    """What an operator has asked for. Without a share there is no canary, without `watch` no watch."""

    share: int = 0
    """Percent."""
    seconds: float = 120
    unjudged: str = "continue"
    watch: float = 0
    """Seconds."""
    despite: bool = False
    """Whether the watch hands back, though a release command has run."""
    bounds: Bounds = Bounds()


NOT_AT_ALL = Judging()


def asked(text: str) -> Judging:
    """What a playbook has asked for, in JSON. Raises CtlError."""
    try:
        found: dict[str, Any] = json.loads(text or "{}")
        return Judging(**{**found, "bounds": Bounds(**found.get("bounds", {}))})
    except (ValueError, TypeError, AttributeError):
        raise CtlError(f"--judging: {text} is not understood") from None


class Followed:
    """A release in one of the instances, from now on, however often that is started."""

    def __init__(self, app: App, instance: str, release: str) -> None:
        self._app = app
        self._release = release
        self._unit = app.instance_service(instance)
        self.since = time.time()
        self._before = self._read()
        self._warm = self._before[0]
        self._errors = 0
        self._memories: list[int] = []

    def _read(self) -> tuple[Sequence[float], float]:
        counted = totals.look(self._app)
        crashed = sum(one.counted.crashed for one in counted.running if one.release == self._release)
        return counted.by_release().get(self._release, [0.0] * table.TOTALS), crashed

    def warm(self) -> None:
        """Compare the durations of what comes from now on."""
        self._warm = self._read()[0]

    def look_closer(self) -> None:
        """Read the journal and the memory."""
        self._errors = errors(self._app, self._unit, self.since)
        self._memories.append(memory(self._unit))

    def seen(self) -> Seen:
        """What it has done until now."""
        counted, crashed = self._read()
        return Seen(
            difference(counted, self._before[0]),
            difference(counted, self._warm),
            self._errors,
            max(crashed - self._before[1], 0.0),
            min(self._memories[-2:], default=0),  # a single large request is no leak
        )


def lately(app: App, instance: str) -> Seen:
    """What a generation has done in the last minutes."""
    tables = [one.counted for one in totals.look(app).running if one.instance == instance]
    counted = table.added([[0.0] * table.TOTALS, *(one.lately for one in tables)])
    seconds = max((one.seconds for one in tables), default=0.0)
    whole = sum(table.requests(one.totals) for one in tables)
    crashed = sum(one.crashed for one in tables) * (table.requests(counted) / whole if whole else 0.0)
    unit = app.instance_service(instance)
    return Seen(counted, counted, errors(app, unit, time.time() - seconds), crashed, memory(unit))


def difference(after: Sequence[float], before: Sequence[float]) -> list[float]:
    """What was counted meanwhile."""
    return [max(now - then, 0.0) for now, then in zip(after, before, strict=True)]


def errors(app: App, unit: str, since: float) -> int:
    """How many errors a unit has logged since then; -1 when they are too many to be counted."""
    found = error_records(app, unit, since)
    return len(found) if len(found) < watch.RECORDS else -1


def error_records(app: App, unit: str, since: float) -> list[Record]:
    """The errors themselves, the latest ones."""
    run = watch.invocation(app, unit)
    if not run:
        return []
    found = journal.entries(f"_SYSTEMD_INVOCATION_ID={run}", *watch.ERRORS, lines=watch.RECORDS, since=since)
    return [entry for entry in found if not reason.is_ours(entry) and not reason.access_status(reason.readable(entry))]


def memory(unit: str) -> int:
    """Bytes of the largest worker of a unit, 0 when it does not run."""
    main = systemd.number(systemd.show(unit, "MainPID")["MainPID"])
    return limits.worker_memory(main) if main else 0


def follow(
    new: Followed, old: Callable[[], Seen], bounds: Bounds, seconds: float, ended: Callable[[], str], *others: Followed
) -> list[str]:
    """Look until the new release is found to be worse, or `ended` says why there is no more to see, or time is over.

    Says in which ways it is worse, in none when it is not.
    """
    begin = time.monotonic()
    looks = max(1, min(judge.LOOKS, int(seconds)))
    is_warm = False
    for number in range(1, looks + 1):
        time.sleep(max(0.0, begin + seconds * number / looks - time.monotonic()))
        if why := ended():
            return [why]
        if number % CLOSER == 0 or number == looks:
            for one in (new, *others):
                one.look_closer()
        if found := judge.worse(new.seen(), old(), bounds):
            new.look_closer()  # for who reads of it
            return found
        if not is_warm and time.monotonic() - begin >= min(WARM, seconds / 10):
            is_warm = True
            for one in (new, *others):
                one.warm()
    return []


def sides(new: Seen, old: Seen, names: tuple[str, str]) -> list[str]:
    """Both in numbers, side by side."""
    both = (new, old)
    percentiles = {share: [table.percentile(seen.durations, share) for seen in both] for share in (0.5, 0.95)}
    rows = {
        "": [short(name) for name in names],
        "requests": [f"{seen.requests:.0f}" for seen in both],
        "failed (5xx)": [f"{table.failed(seen.totals) / seen.requests:.2%}" if seen.requests else "-" for seen in both],
        "errors logged": [f"{seen.errors}" if seen.errors >= 0 else f"{watch.RECORDS} or more" for seen in both],
        "refused": [f"{seen.refused:.0f}" for seen in both],
        **{
            f"p{share * 100:g}": ["-" if found is None else f"{found * 1000:.1f} ms" for found in pair]
            for share, pair in percentiles.items()
        },
        "workers crashed": [f"{seen.crashed:.0f}" for seen in both],
        "largest worker": [f"{seen.memory / 2**20:.0f} MiB" if seen.memory else "-" for seen in both],
    }
    return [f"    {name:16}" + "".join(f"{cell:>14}" for cell in cells) for name, cells in rows.items()]


def failures(app: App, unit: str, since: float) -> list[str]:
    """The first requests that have failed in a unit, each with its path, status and the reason. Never fails."""
    try:
        run = watch.invocation(app, unit)
        match = f"_SYSTEMD_INVOCATION_ID={run}"
        grep = r'--grep=HTTP/\d\.\d" 5\d\d$|"status": ?5\d\d'
        lines = journal.entries(match, grep, lines=watch.RECORDS, since=since) if run else []
        causes = error_records(app, unit, since)
        return [f"    {failure(entry, causes)}" for entry in lines if shown(entry)][:FAILURES]
    except Exception as error:  # noqa: BLE001 (what is told decides nothing)
        return [f"    (they could not be read: {type(error).__name__}: {error})"]


def shown(entry: Record) -> str:
    """The request and its status, if a record is the access line of one that has failed."""
    text = entry.get("MESSAGE", "")
    if line := reason.parsed(text):
        status = line.get("status")
        is_failed = isinstance(status, int) and 500 <= status <= 599
        return visible(f"{line.get('method')} {line.get('path')} {status}", 300, one_line=True) if is_failed else ""
    match = REQUEST.search(text)
    return visible(f"{match[1]} {match[2]}", 300, one_line=True) if match else ""


def failure(entry: Record, causes: Sequence[Record]) -> str:
    """A failed request with the error that was logged nearest to it."""
    at = moment(entry)
    nearest = min(causes, key=lambda cause: abs(moment(cause) - at), default=None)
    if nearest is None or abs(moment(nearest) - at) > NEAR:
        return shown(entry)
    why = reason.reason_in(reason.lines_of([nearest]))
    return f"{shown(entry)}  {visible(why, 300, one_line=True)}"


def moment(entry: Record) -> int:
    """When a record was logged, in microseconds."""
    with contextlib.suppress(ValueError):
        return int(entry.get("__REALTIME_TIMESTAMP", ""))
    return 0
