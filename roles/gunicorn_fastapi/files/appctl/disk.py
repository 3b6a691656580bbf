"""Files that a power loss leaves whole, and files of others that are read with care."""

import errno
import os
import stat
from pathlib import Path


def durable(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file's content so that a power loss leaves the old or the new one, never a part."""
    building = path.with_name(f".{path.name}.building")
    with building.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    building.chmod(mode)
    building.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def read_bounded(path: Path, most: int) -> bytes:
    """The first `most` bytes of a regular file, without following a link or waiting. Raises OSError otherwise."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return file.read(most)


def swap_link(link: Path, target: str) -> None:
    """Have a link name another target, at once."""
    building = link.with_name(f".{link.name}.building")
    building.unlink(missing_ok=True)
    building.symlink_to(target)
    building.replace(link)
