"""One release takes the place of another. Whatever fails, the old one is put back."""

import contextlib
import datetime
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from appctl import (
    admitting,
    behind,
    bounded,
    canary,
    counting,
    departing,
    disk,
    exchange,
    followed,
    generations,
    history,
    limits,
    lock,
    maintenance,
    origin,
    processes,
    releases,
    shares,
    static,
    systemd,
    talk,
    timers,
    watch,
    watching,
)
from appctl.addresses import for_candidate
from appctl.app import CANDIDATE, IMPORT, MAIN, PREFLIGHT, App
from appctl.disk import Replacement, durable, read_bounded, staged, try_to_write
from appctl.instance import instance, left, loosened, remove, start, unit_text
from appctl.opening import Change, interrupted
from appctl.process import CtlError, run
from appctl.releases import short
from appctl.text import visible

PROVED = 3600.0
"""Seconds for which a preflight proves a release: the other hosts of a run may take their turn first."""


def preflight(app: App, release: str, kind: str = PREFLIGHT) -> None:
    """Boot the release where no client can reach it, or only load it. Raises CtlError when it does not work."""
    try:
        static.publish(app, release)
        with instance(app, release, kind) as took:
            if kind == IMPORT:
                talk.say(app, f"release {short(release)}: can be imported ({took})", release)
                return
            if stops_first(app, release):
                talk.say(
                    app,
                    f"release {short(release)}: imported in {took}. It must not run twice (gunicorn_fastapi_handover), "
                    "so it starts only when the previous release has stopped",
                    release,
                )
            else:
                talk.say(app, f"release {short(release)}: preflight passed in {took}", release)
                if told := too_large(app, release):
                    talk.say(app, told, release)
        durable(app.proof, json.dumps({"release": release, "at": time.time()}))
    except CtlError as failure:
        raise CtlError(
            f"release {short(release)}: preflight failed; {serving(app)} (journalctl -u {app.name}-{kind}): {failure}"
        ) from None


def stops_first(app: App, release: str) -> bool:
    """Whether the application must never run twice, so that the old release stops before the new one starts."""
    return releases.manifest(app, release).get("handover") == "stop_first"


def too_large(app: App, release: str) -> str:
    """Whether a worker takes more memory than is reckoned for it, in words. Empty when it does not."""
    reckoned = releases.manifest(app, release).get("worker_memory")  # none where the number of workers is given
    unit = app.instance_service(PREFLIGHT)
    taken = limits.worker_memory(systemd.number(systemd.show(unit, "MainPID")["MainPID"])) // limits.MIB
    if not isinstance(reckoned, int) or taken <= reckoned:
        return ""
    return (
        f"warning: release {short(release)}: a worker uses {taken} MiB before its first request, and "
        f"gunicorn_fastapi_worker_memory expects {reckoned}. Set it to what a worker takes under load, "
        "so that no more workers are started than memory holds"
    )


def is_proved(app: App, release: str) -> bool:
    """Whether the release has passed its preflight a moment ago, in this boot. Good for one handover."""
    try:
        proof = json.loads(read_bounded(app.proof, 4096))
        app.proof.unlink()
        return bool(proof["release"] == release and time.time() - proof["at"] < PROVED)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def serving(app: App) -> str:
    """What serves just now, in words."""
    current = releases.current(app)
    if not current:
        return "no client ever reached it"
    try:
        state = systemd.show(app.service, "ActiveState")["ActiveState"]
        running = releases.running(app, app.service)
    except CtlError as failure:
        return f"whether {app.name} serves is unknown ({failure})"
    if state in systemd.SERVING and running:
        return f"{app.name} keeps serving {short(running)}"
    return f"{app.service} is {state or 'not there'}, and was before"


def switch(
    app: App,
    release: str,
    replacement: Replacement,
    link: Replacement,
    change: Change,
    beside: Callable[[], None] = lambda: None,
) -> str:
    """Put the release's unit, the addresses and the link in place and restart. Whatever fails, the old ones come back.

    `beside` is what switches with it; whoever gave it takes back what it has done.
    """
    try:
        replacement.put_in_place()
        opened = change.write()
        run("systemctl", "daemon-reload")
        took = start(app.service, "restart", *opened)
        change.finish()
        beside()
        link.put_in_place()
    except BaseException as failure:
        replacement.put_back()
        link.put_back()
        first = not app.unit.exists()
        if first:
            with contextlib.suppress(CtlError):  # what it is put back from has been told
                bounded.change("stop", app.service, app.socket, check=False)
        opened, moved = [], ""
        try:
            opened = change.undo()
        except (CtlError, OSError) as other:  # the service comes first, and the next handover settles the addresses
            moved = f"\nIts previous addresses could not be restored: {other}"
        run("systemctl", "daemon-reload", check=False)
        told = f"release {short(release)}: {app.service} failed"
        words = f"{str(failure) or type(failure).__name__}{moved}"
        if first:
            raise CtlError(f"{told}: {words}") from failure
        try:
            start(app.service, "restart", *opened)
            change.undone()
        except CtlError as second:
            raise CtlError(
                f"{told}: {words}\nand does not start on {short(releases.current(app))} either: {second}"
            ) from failure
        raise CtlError(f"{told} on it and serves {short(releases.current(app))} again: {words}") from failure
    try:
        static.point(app)
    except (CtlError, OSError) as failure:
        why = disk.told(failure) if isinstance(failure, OSError) else str(failure)
        talk.say(
            app, f"{app.name} serves, and the next handover puts its static files in order: {why}", release, error=True
        )
    return took


def execute(
    app: App,
    release: str,
    wanted: dict[str, Any] | None = None,
    judging: followed.Judging = followed.NOT_AT_ALL,
    why: str = "",
) -> None:
    """All steps, with the addresses that are `wanted`. Raises CtlError after putting everything back as it was.

    `judging`: how it is compared with the one of before. `why`: the reason of who hands back, for the history.
    """
    before = releases.current(app)
    begin, since = time.monotonic(), time.time()
    outcome = "failed"
    beside = []
    other = bool(before) and before != release
    baseline = None
    way = f"from {short(before)} to {short(release)}" if before else f"to {short(release)} (first deployment)"
    whence = origin.words(origin.of(app, release))
    talk.say(app, f"handover {way} begins{f': {whence}' if whence else ''}", release)
    try:
        # First what takes room on the disk.
        try_to_write(app.root)  # the history, and the link
        with (
            staged(app.unit, unit_text(app, release, app.service)) as replacement,
            releases.pointed(app, release) as link,
            contextlib.ExitStack() as around,
        ):
            change = Change(app, wanted)
            if change.moves and behind.is_alone(app):
                raise CtlError(
                    f"gunicorn_fastapi_bind: addresses do not change while maintenance is {behind.words(app)}, and "
                    f"nothing has changed. Turn it off first ({app.name}ctl maintenance off)"
                )
            admitting.check_behind(app, release)
            around.enter_context(departing.departure(app, wanted))
            change.check()
            if not is_proved(app, release):
                preflight(app, release)
            static.offer(app, release)
            # In maintenance nobody is kept waiting by a restart.
            alone = stops_first(app, release) or behind.is_alone(app)
            with generations.generation(app, release) as generation:
                if judging.watch and other:
                    baseline = followed.lately(app, MAIN)
                if systemd.active(app.socket) and change.beside and not alone:
                    with contextlib.ExitStack() as stack:
                        trial = stack.enter_context(canary.steered(app, judging)) if judging.share and other else None
                        more = for_candidate(change.kept)
                        took = stack.enter_context(instance(app, release, CANDIDATE, more))
                        talk.say(app, f"release {short(release)}: serves beside {short(before)} after {took}", release)
                        if trial:
                            trial.compare(release, before)
                            shares.end(app.shares)
                        took = switch(app, release, replacement, link, change, generation.switch)
                        talk.say(app, f"release {short(release)}: {app.service} restarted on it in {took}", release)
                        beside = counting.answers(app, CANDIDATE)
                else:
                    if judging.share and other:
                        canary.not_judged(app, release, judging)
                    took = switch(app, release, replacement, link, change, generation.switch)
                    talk.say(app, f"release {short(release)}: {app.service} started in {took}", release)
        outcome = "done"
    except BaseException as failure:
        text = disk.told(failure) if isinstance(failure, OSError) else str(failure)
        if isinstance(failure, canary.HandedBackError):
            outcome = history.HANDED_BACK
        why = visible((text or type(failure).__name__).split("\n", 1)[0])
        static.withdraw(app)
        raise
    finally:
        record(app, before, release, outcome, why, time.monotonic() - begin)
    if change.moves:
        talk.say(app, change.told(), release)
    talk.say(app, f"handover {way} done", release)
    if loosened(app):
        talk.say(app, loosened(app), release)
    if baseline:
        watching.begin(app, release, before, judging, baseline)
    if told := first_words(app, since, beside):
        talk.say(app, f"warning: release {short(release)}: {told} (journalctl -u {app.name} -p err)", release)


def first_words(app: App, since: float, beside: Sequence[exchange.Answer]) -> str:
    """What the release that has just come into service says of its first requests, also those `beside`. Never fails."""
    try:
        return watch.trouble(app, counting.requests([*beside, *counting.answers(app, MAIN)]), since).words()
    except Exception as error:  # noqa: BLE001 (what is told decides nothing)
        return f"its first log lines could not be read: {type(error).__name__}: {error}"


def record(app: App, before: str, after: str, outcome: str, reason: str, seconds: float | None) -> None:
    """Add a line to the history. That it cannot be written is told, and changes nothing else."""
    line = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "from": before,
        "to": after,
        "outcome": outcome,
        "reason": reason,
        "seconds": None if seconds is None else round(seconds, 1),
        "by": lock.by(),
    }
    try:
        history.append(app.history, line)
    except OSError as error:
        talk.say(app, f"{app.history} could not be written: {error}. This handover is missing in it", after, error=True)


def active_by_history(app: App) -> str:
    """The release that the history says is active. Another one than the current one was interrupted."""
    records, _ = history.read(app.history)
    return next((str(line.get("to")) for line in reversed(records) if line.get("outcome") == "done"), "")


def settle(app: App) -> None:
    """Finish or undo what an interrupted handover left. Changes nothing when nothing was left.

    The unit is only ever replaced while a proved candidate serves, so the service is brought to the
    release that its unit names, and then the candidate goes. Raises CtlError when the service does not
    come up; the candidate goes on serving.
    """
    remove(app, PREFLIGHT)
    remove(app, IMPORT)
    shares.end(app.shares)
    current = releases.current(app)
    if not current:
        return
    sockets = interrupted(app)
    if sockets is not None:
        run("systemctl", "daemon-reload")
        start(app.service, "restart", *sockets)
        Change(app, None).finish()
    maintenance.settle(app)
    if CANDIDATE in left(app) or is_stale(app, current):
        run("systemctl", "daemon-reload")
        # A start or restart that is under way by itself is waited for.
        verb = "start" if releases.running(app, app.service) == current else "restart"
        start(app.service, verb)
        remove(app, CANDIDATE)
        talk.say(app, f"an interrupted handover was completed: {app.service} serves {short(current)}", current)
    # After a loss of power this may be all that is left to do.
    if not releases.is_pointed(app):
        releases.point(app)
    static.point(app)
    generations.settle(app)
    if active_by_history(app) != current:
        record(app, active_by_history(app), current, "done", "after an interruption", None)


def is_stale(app: App, current: str) -> bool:
    """Whether the service still runs another release than its unit names."""
    return systemd.active(app.service) and releases.running(app, app.service) not in ("", current)


def is_settled(app: App, release: str) -> bool:
    """Whether a release is active, with nothing left over from a handover.

    One that stops, for whatever reason it has told systemd, is not.
    """
    serves = releases.current(app) == releases.running(app, app.service) == release
    return (
        serves
        and systemd.serves(app.service)
        and releases.is_pointed(app)
        and active_by_history(app) == release
        and not left(app)
        and interrupted(app) is None
        and processes.is_settled(app)
        and timers.is_settled(app)
    )
