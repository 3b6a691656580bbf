"""One lock for each application: whoever changes it on this host holds it, and says who, what for and since when."""

import contextlib
import datetime
import fcntl
import getpass
import json
import os
import time
from collections.abc import Iterator

from appctl import disk, talk
from appctl.app import App
from appctl.process import CtlError

WAIT = 300.0
"""Seconds that whoever comes second waits by default."""

LOOK = 0.2
"""Seconds between two tries."""

_held: dict[str, int] = {}
"""How often this process has each application's lock: whoever has it may take it again."""


@contextlib.contextmanager
def lock(app: App, what: str, wait: float = WAIT, before: float = 0) -> Iterator[None]:
    """Hold the application's lock for as long as the block lasts; `what` is said to those who wait for it.

    It belongs to this process, not to the programs that it starts: what runs in a unit of its own takes it there,
    and whoever starts that unit must not hold it. It ends with the process, however that ends. Raises CtlError when
    another has it for `wait` seconds more, and tells them with the `before` that were waited already. Whoever had to
    wait has to look again at what there is to do.
    """
    if _held.get(app.name):
        _held[app.name] += 1
        try:
            yield
        finally:
            _held[app.name] -= 1
        return
    with disk.named(app.lock):
        descriptor = _acquire(app, what, wait, before)
    _held[app.name] = 1
    try:
        yield
    finally:
        del _held[app.name]
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
        os.close(descriptor)


@contextlib.contextmanager
def turn(app: App) -> Iterator[bool]:
    """Whether it is this process that may begin what takes the lock in a unit of its own, while the block lasts."""
    private(app)
    descriptor = os.open(app.private / "turn", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = True
    except BlockingIOError:
        ours = False
    try:
        yield ours
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def runs(app: App, wait: float = WAIT) -> Iterator[None]:
    """Keep others from beginning or ending a run in a release, or from removing releases, while the block lasts.

    Apart from the application's lock: a run changes nothing of the application, and need not wait for a deploy.
    Raises CtlError when it is not to be had for `wait` seconds.
    """
    private(app)
    descriptor = os.open(app.private, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    deadline = time.monotonic() + wait
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise CtlError(f"{app.name}: another run began or ended for {wait:g} s. Try again") from None
                time.sleep(LOOK)
        yield
    finally:
        os.close(descriptor)


def holder(app: App) -> str:
    """Who has the lock, what for and since when, in words. Empty when nobody has it."""
    try:
        descriptor = os.open(app.lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _words(app)
    finally:
        os.close(descriptor)
    return ""


def private(app: App) -> None:
    """Make the directory in /run that nobody but root can enter."""
    for directory, mode in ((app.runtime, 0o755), (app.private, 0o700)):
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=mode, parents=True)
            directory.chmod(mode)  # whatever the umask is


def by() -> str:
    """Who asks, as the lock and the history have it."""
    asking = os.environ.get("HANDOVER_BY")
    if asking:
        return asking
    user = os.environ.get("SUDO_USER") or getpass.getuser()
    origin = os.environ.get("SSH_CONNECTION", "").split(" ")[0]
    return f"{user} from {origin}" if origin else user


def _acquire(app: App, what: str, wait: float, before: float) -> int:
    """The descriptor that holds the lock. Raises CtlError after `wait` seconds."""
    private(app)
    deadline = time.monotonic() + wait
    told = False
    while True:
        try:
            descriptor = os.open(app.lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # its directory
            raise CtlError(
                f"{app.name} was uninstalled while {what} waited, and there is nothing left to change. Deploy it again"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            if _is_there(app, descriptor):
                now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps({"who": by(), "what": what, "since": now}).encode(), 0)
                return descriptor
            os.close(descriptor)  # an uninstall has removed it meanwhile
            continue
        if time.monotonic() >= deadline:
            raise CtlError(
                f"{app.name}: {_words(app)} is in progress, and {what} timed out after {round(before + wait, 1):g} s. "
                "Wait until it is finished, or raise gunicorn_fastapi_lock_wait"
            )
        if not told:
            talk.out(f"{what} waits for {_words(app)}, at most {round(wait, 1):g} s")
            told = True
        time.sleep(LOOK)


def _is_there(app: App, descriptor: int) -> bool:
    """Whether the file that was opened is still the one that others will open."""
    try:
        there = app.lock.lstat()
    except FileNotFoundError:
        return False
    opened = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (opened.st_dev, opened.st_ino)


def _words(app: App) -> str:
    """What the holder has written about itself."""
    try:
        said = json.loads(disk.read_bounded(app.lock, 4096))
        return f"{said['what']} by {said['who']} since {said['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another change"  # it has just begun or just ended
