"""The release command: run once, in the sandbox of the new release, before it serves anywhere."""

import contextlib
import time

from appctl import disk, ending, reason, released, talk
from appctl.app import RELEASE, App
from appctl.handover import serving
from appctl.instance import WORDS, forget, place, start, unit_text
from appctl.instance import why as said
from appctl.process import CtlError
from appctl.releases import short

CHANGED = "the database may have changed"


def run(app: App, release: str, again: bool) -> None:
    """Run it, unless it has succeeded before, and note what came of it. Raises CtlError when it fails.

    The lock is held. Whatever ends it early, the record says that it has begun.
    """
    if not released.command_of(app, release):
        talk.out(f"release {short(release)} has no release command")
        return
    if not again and (record := released.done(app).get(released.command_of(app, release))):
        talk.out(ran(release, record))
        return
    unit = app.instance_service(RELEASE)
    released.note(app, release, released.BEGUN)
    talk.say(app, f"release {short(release)}: its release command begins (journalctl -u {unit})", release)
    begin, since = time.monotonic(), time.time()
    try:
        place(app, unit, unit_text(app, release, unit), {})
        start(unit)
    except BaseException as failure:  # noqa: BLE001 (whatever it is, the command has begun)
        why = words(unit, failure, since)
        forget(app, unit)
        with contextlib.suppress(OSError):  # the record says that it has begun, and whoever comes next notes its end
            released.note(app, release, released.FAILED, why.split("\n", 1)[0])
        raise CtlError(
            f"release {short(release)}: its release command failed after {time.monotonic() - begin:.1f} s. Nothing was "
            f"switched, and {serving(app)}; {CHANGED} (journalctl -u {unit}): {why}"
        ) from None
    lines = reason.last_words(f"_SYSTEMD_UNIT={unit}", since)[-WORDS:]
    forget(app, unit)
    try:
        released.note(app, release, released.DONE)
    except OSError as error:
        raise CtlError(
            f"release {short(release)}: its release command is done, and {app.released} could not be written, so "
            f"nothing was switched, and it runs again with the next deploy; {CHANGED}: {disk.told(error)}"
        ) from None
    talk.say(app, f"release {short(release)}: its release command is done in {time.monotonic() - begin:.1f} s", release)
    for line in lines:
        talk.out(f"    {line}")


def words(unit: str, failure: BaseException, since: float) -> str:
    """Why the command has failed: how it ended, and what it said. What systemctl says of it is no more."""
    if not isinstance(failure, CtlError):
        return f"{released.INTERRUPTED} ({type(failure).__name__})"
    try:
        ended = ending.of(unit)
    except CtlError:
        return str(failure)
    if ended == ending.UNKNOWN:  # it did not come to it
        return str(failure)
    how = "it took longer than gunicorn_fastapi_release_timeout" if ended.status == ending.TIMED_OUT else ended.words
    return ". ".join(part for part in (how, said(unit, since)) if part)


def ran(release: str, record: dict[str, str]) -> str:
    """When and where it has run, in words."""
    where = f" on {record['where']}" if record.get("where") else ""
    return f"release {short(release)}: its release command has run at {record['time']}{where}"


def settle(app: App) -> None:
    """End what an interruption has left of a release command, and note it. The lock is held."""
    release = released.begun(app)
    forget(app, app.instance_service(RELEASE))
    if release:
        released.note(app, release, released.FAILED, released.INTERRUPTED)
        told = f"release {short(release)}: its release command was interrupted; {CHANGED}"
        talk.say(app, told, release, error=True)
