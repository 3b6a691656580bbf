"""Directories with many files: copied from what others could write, and compared with what they were when built."""

import contextlib
import errno
import itertools
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from appctl import disk
from appctl.process import CtlError

MOST_FILES = 500_000
MOST_LEVELS = 64
MOST_BYTES = 64 * 1024**3
"""What a tree of somebody else's may have. The largest published virtualenvs have about 100,000 files and 10 GiB."""

SEAL = ".seal"
"""The file that says what a tree had in it when it was built: facts in the first line, then a line for each file."""

SEAL_MAX = 128 * 1024 * 1024

Facts = dict[str, Any]


def copy(source: Path, target: Path, skip: frozenset[str] = frozenset()) -> None:
    """Copy a tree that somebody else has written into a new directory of root's.

    By descriptors, so that no link is followed; regular files, directories and links that stay inside alone; with
    modes of our own and the times of the source, which compiled files refer to. `skip` are paths to leave out.
    Raises CtlError for anything else, and for what would fill the disk.
    """
    target.mkdir(mode=0o755)
    target.chmod(0o755)
    with disk.named(target), _opened(source) as old, _opened(target) as new:
        _copy(old, new, PurePosixPath(), skip, _Copied())


class _Copied:
    """How much was copied so far."""

    files = 0
    size = 0


@contextlib.contextmanager
def _opened(path: str | Path, directory: int | None = None) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _copy(old: int, new: int, here: PurePosixPath, skip: frozenset[str], copied: _Copied) -> None:
    """Copy what is in one directory into another, both by their descriptors."""
    if len(here.parts) > MOST_LEVELS:
        raise CtlError(f"{here}: more than {MOST_LEVELS} nested directories were built")
    with os.scandir(old) as found:  # and not all at once, for there may be millions
        names = sorted(entry.name for entry in itertools.islice(found, MOST_FILES + 1 - copied.files))
    copied.files += len(names)
    if copied.files > MOST_FILES:
        raise CtlError(f"more than {MOST_FILES} files were built")
    for name in names:
        path = here / name
        if str(path) in skip:
            continue
        mode = os.stat(name, dir_fd=old, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            os.mkdir(name, dir_fd=new)
            with _opened(name, old) as inner, _opened(name, new) as made:
                os.fchmod(made, 0o755)
                _copy(inner, made, path, skip, copied)
        elif stat.S_ISREG(mode):
            _copy_file(old, new, name, path, copied)
        elif stat.S_ISLNK(mode):
            link = os.readlink(name, dir_fd=old)
            if not _stays_inside(here, link):
                raise CtlError(f"{path}: what was built has a link to a place outside, {link}")
            os.symlink(link, name, dir_fd=new)
        else:
            raise CtlError(f"{path}: what was built is neither a file nor a directory")


def _copy_file(old: int, new: int, name: str, path: PurePosixPath, copied: _Copied) -> None:
    """Copy one regular file."""
    source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=old)
    try:
        status = os.fstat(source)
        if not stat.S_ISREG(status.st_mode):
            raise CtlError(f"{path}: what was built is not a regular file")
        copied.size += status.st_size  # and not what it takes where it is: it may have holes
        if copied.size > MOST_BYTES:
            raise CtlError(f"{path}: what was built has more than {MOST_BYTES // 1024**3} GiB")
        disk.spare(new, str(path), status.st_size)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        target = os.open(name, flags, 0o600, dir_fd=new)
        try:
            left = status.st_size
            while left > 0 and (sent := os.sendfile(target, source, None, left)):
                left -= sent
            os.fchmod(target, 0o755 if status.st_mode & 0o111 else 0o644)
            os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
        finally:
            os.close(target)
    finally:
        os.close(source)


def _stays_inside(here: PurePosixPath, link: str) -> bool:
    """Whether a link in the directory `here` of a tree names something in the tree: not further up, and not up again.

    Up again (``a/..``) could lead out by way of another link.
    """
    parts = PurePosixPath(link).parts
    up = next((position for position, part in enumerate(parts) if part != ".."), len(parts))
    return not link.startswith("/") and up <= len(here.parts) and ".." not in parts[up:]


def entries(top: Path) -> Iterator[tuple[str, int, int, str]]:
    """Path, mode, size and target (of links) of all that is below a directory, but for its seal."""
    waiting = [""]
    while waiting:
        here = waiting.pop()
        with os.scandir(top / here) as found:
            for entry in found:
                path = f"{here}{entry.name}"
                status = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    yield path, status.st_mode, 0, ""
                    waiting.append(f"{path}/")
                elif path != SEAL:
                    link = str(Path(entry.path).readlink()) if entry.is_symlink() else ""
                    yield path, status.st_mode, status.st_size, link


def seal(top: Path, facts: Facts) -> None:
    """Write down what a tree has in it, with facts about it."""
    lines = []
    size = len(json.dumps(facts))
    for entry in entries(top):
        lines.append(json.dumps(entry))
        size += len(lines[-1]) + 1
        if size >= SEAL_MAX:
            raise CtlError(f"{top}: the names of what was built have more than {SEAL_MAX // 2**20} MiB")
    disk.durable(top / SEAL, "\n".join([json.dumps(facts), *sorted(lines)]) + "\n")


def facts(top: Path) -> Facts | None:
    """The facts of a seal; None without one. Raises CtlError for one that cannot be read."""
    try:
        first = disk.read_bounded(top / SEAL, SEAL_MAX).partition(b"\n")[0]
        found = json.loads(first)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise CtlError(f"{top / SEAL} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise CtlError(f"{top / SEAL} is not a seal")
    return found


def broken(top: Path) -> str:
    """What of a sealed tree is not as it was built, in words; empty when all of it is.

    Compares paths, modes, sizes and links, no content. What was added does not count.
    """
    try:
        lines = disk.read_bounded(top / SEAL, SEAL_MAX).split(b"\n")[1:-1]
        wanted = [tuple(json.loads(line)) for line in lines]
        there = {path: (mode, size, link) for path, mode, size, link in entries(top)}
        other = [(path, size) for path, *rest in wanted if there.get(path) != tuple(rest) for size in rest[1:2]]
    except (OSError, ValueError, TypeError, RecursionError) as error:
        return f"{top} cannot be compared with what was built: {error}"
    if not other:
        return ""
    path, size = other[0]
    now = f"has {there[path][1]} bytes of {size}" if path in there else "is missing"
    if path in there and there[path][1] == size:
        now = "has another mode or target"
    more = f", and {len(other) - 1} more differ from what was built" if len(other) > 1 else ""
    return f"{top / path} {now}{more}"


def put(new: Path, place: Path) -> None:
    """Have a directory at its place, at once; whatever was there is at `new` afterwards, for the caller to remove."""
    if not os.path.lexists(place):
        new.rename(place)
        return
    import ctypes  # here, because only a build needs it

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(new), -100, os.fsencode(place), 2) == 0:  # AT_FDCWD, RENAME_EXCHANGE
        return
    if ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(place))
    # This file system cannot exchange two names.
    aside = new.with_name(f"{new.name}.before")
    place.rename(aside)
    new.rename(place)
    aside.rename(new)


def remove(path: Path) -> None:
    """Remove a tree, a file or a link, if it is there, as `remove_at` does."""
    with contextlib.suppress(FileNotFoundError), disk.named(path):
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            remove_at(directory, path.name)
        finally:
            os.close(directory)


def remove_at(directory: int, name: str) -> None:
    """Remove what has this name in a directory, with all that is in it, however deep that is.

    By descriptors, so that no link is followed. Raises OSError for a mount point, whose content stays.
    """
    if not stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=directory)
        return
    with _opened(name, directory) as top:
        if _mount(top) != _mount(directory):
            raise _mounted(name)
        _empty(top)
    os.rmdir(name, dir_fd=directory)


def _empty(top: int) -> None:
    """Remove all that is in a directory.

    Directories in others are moved up to the top first: then a tree of any depth takes two descriptors, and the
    kernel refuses to move a mount point.
    """
    prefix = f".{os.urandom(8).hex()}-"
    moved = itertools.count()
    waiting = _lift(top, top, prefix, moved)
    while waiting:
        name = waiting.pop()
        with _opened(name, top) as directory:
            waiting += _lift(directory, top, prefix, moved)
        os.rmdir(name, dir_fd=top)


def _lift(source: int, top: int, prefix: str, moved: Iterator[int]) -> list[str]:
    """Remove what is in a directory, but move its directories to the top; their names there."""
    lifted = []
    while names := _some(source, prefix):
        for name in names:
            if not stat.S_ISDIR(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=source)
                continue
            new = f"{prefix}{next(moved)}"
            try:
                os.rename(name, new, src_dir_fd=source, dst_dir_fd=top)
                lifted.append(new)
            except OSError as error:
                if error.errno == errno.EBUSY:
                    raise _mounted(name) from None
                if error.errno != errno.EXDEV:
                    raise
                remove_at(source, name)  # of an overlay's lower layer, which does not move
    return lifted


def _mounted(name: str) -> OSError:
    return OSError(errno.EBUSY, "it is a mount point, and what is in it stays. Unmount it", name)


def _some(directory: int, but: str) -> list[str]:
    """Some names of a directory, but for those with a prefix. Not all: there may be millions."""
    with os.scandir(directory) as found:
        return list(itertools.islice((entry.name for entry in found if not entry.name.startswith(but)), 4096))


def _mount(descriptor: int) -> str:
    """The mount that a descriptor is on; a directory of the same disk may be mounted elsewhere too."""
    return next(line for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().split("\n") if "mnt_id" in line)
