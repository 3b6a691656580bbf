"""Files that a power loss leaves whole, and files of others that are read with care."""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from appctl.process import CtlError

PIECE = 65536
"""Bytes that are read at once."""

ROOM = 32 * 1024 * 1024
"""Bytes that stay free on a disk, whatever is built: others write there, too."""


def durable(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file's content so that a power loss leaves the old or the new one, never a part.

    Its mode is `mode` whatever the umask is. Raises OSError and leaves nothing behind when it cannot be written.
    """
    building = path.with_name(f".{path.name}.building")
    building.unlink(missing_ok=True)
    try:
        descriptor = os.open(building, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode(errors="surrogateescape"))
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        building.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            building.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Have a directory's names on the disk."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


NEXT = {
    errno.ENOSPC: "Free disk space there, and try again",
    errno.EDQUOT: "Free disk space there, and try again",
    errno.EROFS: "Remount it writable (findmnt --target shows the mount), and try again",
}
"""What to do about an error of the disk."""


def told(error: OSError) -> str:
    """An error as an operator needs it: the thing, the reason, and the next step."""
    what = f"{error.filename}: " if error.filename is not None else ""
    step = NEXT.get(error.errno or 0, "Fix that, and try again")
    return f"{what}{error.strerror or type(error).__name__}. {step}"


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Give errors without the path of a file this one, such as those of a disk that is full."""
    try:
        yield
    except OSError as error:
        if not str(error.filename).startswith("/"):
            error.filename = str(path)
        raise


def has_room(place: Path) -> bool:
    """Whether more than ROOM is free on a disk."""
    status = os.statvfs(place)
    return not status.f_blocks or status.f_bavail * status.f_frsize > ROOM


def spare(place: int | Path, what: str, size: int = 0) -> None:
    """Raise CtlError when `size` bytes more would leave less than ROOM on a disk; `what` takes them."""
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    if status.f_blocks and free < size + ROOM:  # else it has no such number
        where = Path(f"/proc/self/fd/{place}").readlink() if isinstance(place, int) else place
        raise CtlError(
            f"{what} needs {(size + ROOM) // 2**20} MiB, and {free // 2**20} MiB are free on the disk of {where}. "
            "Free disk space there, and try again"
        )


def try_to_write(directory: Path) -> None:
    """Raises OSError when a few pages cannot be written into a directory. Leaves nothing there."""
    probe = directory / "writable"
    try:
        durable(probe, " " * 65536, mode=0o600)
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def read_bounded(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes.

    Follows no link at the end of the path, and waits for nobody. Raises OSError when it is anything else, or larger.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        content = bytearray()
        # Python would have room for all that may come before it reads what there is.
        while len(content) <= most and (piece := os.read(descriptor, min(PIECE, most + 1 - len(content)))):
            content += piece
    finally:
        os.close(descriptor)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {most} bytes", str(path))
    return bytes(content)


def swap_link(link: Path, target: str) -> None:
    """Have a link name another target, at once, and on the disk."""
    with staged_link(link, target) as replacement:
        replacement.put_in_place()


class Replacement:
    """What takes the place of a file or a link and lies beside it, so that neither that nor the way back takes room."""

    def __init__(self, path: Path, make: Callable[[Path], None]) -> None:
        self._path = path
        self._new = path.with_name(f".{path.name}.building")
        self._old = path.with_name(f".{path.name}.former")
        self.discard()
        try:
            make(self._new)
            if os.path.lexists(path):
                os.link(path, self._old, follow_symlinks=False)
        except OSError as error:
            self.discard()
            error.filename = str(path)
            raise

    def put_in_place(self) -> None:
        """Replace it at once; a power loss leaves the old or the new one."""
        self._new.replace(self._path)
        sync_directory(self._path.parent)

    def put_back(self) -> None:
        """Have the old one back, or none where there was none. Does nothing when it was not replaced."""
        if os.path.lexists(self._new):
            return
        if os.path.lexists(self._old):
            self._old.replace(self._path)
        else:
            self._path.unlink(missing_ok=True)
        sync_directory(self._path.parent)

    def discard(self) -> None:
        """Remove what lies beside it."""
        self._new.unlink(missing_ok=True)
        self._old.unlink(missing_ok=True)


@contextlib.contextmanager
def _discarded(replacement: Replacement) -> Iterator[Replacement]:
    """A replacement for as long as the block lasts."""
    try:
        yield replacement
    finally:
        replacement.discard()


def staged(path: Path, text: str) -> contextlib.AbstractContextManager[Replacement]:
    """A replacement for a file, for as long as the block lasts. Raises OSError where there is no room for it."""
    return _discarded(Replacement(path, lambda new: durable(new, text)))


def staged_link(link: Path, target: str) -> contextlib.AbstractContextManager[Replacement]:
    """The same for a link."""
    return _discarded(Replacement(link, lambda new: new.symlink_to(target)))
