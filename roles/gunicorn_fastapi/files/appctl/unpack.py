"""A release as it was sent, unpacked with modes of our own."""

import os
import tarfile
from pathlib import Path, PurePosixPath

from appctl import disk
from appctl.process import CtlError

PIECE = 1024 * 1024


def unpack(archive: Path, release: str, target: Path) -> None:
    """Unpack a release into a new directory.

    Modes are of our own choice whatever the umask is: 0755 and 0644, and 0640 for what the archive keeps from
    others. Raises CtlError for an archive that was cut off or holds anything else than one release.
    """
    target.mkdir(mode=0o700)
    links: list[tuple[Path, str]] = []
    try:
        with disk.named(target), tarfile.open(archive, mode="r|gz") as tar:
            for member in tar:
                inside = PurePosixPath(member.name)
                if inside.is_absolute() or ".." in inside.parts or inside.parts[:1] != (release,):
                    raise CtlError(f"{archive} holds {member.name}, which is not part of the release")
                path = target.joinpath(*inside.parts[1:])
                if member.isdir():
                    make_directories(path, target)
                elif member.issym():
                    make_directories(path.parent, target)
                    links.append((path, member.linkname))
                elif member.isreg():
                    make_directories(path.parent, target)
                    content = tar.extractfile(member)
                    mode = 0o640 if not member.mode & 0o007 else 0o755 if member.mode & 0o111 else 0o644
                    with path.open("xb") as file:
                        while content and (piece := content.read(PIECE)):
                            file.write(piece)
                        os.fchmod(file.fileno(), mode)
                else:
                    raise CtlError(f"{archive} holds {member.name}, which is not a file, directory or link")
    except FileNotFoundError as error:
        if not archive.exists():
            raise CtlError(f"{archive} is missing. Deploy again") from None
        raise CtlError(f"{archive} cannot be unpacked: {error}") from None
    except (tarfile.TarError, EOFError) as error:
        raise CtlError(f"{archive} cannot be unpacked: {error}. Deploy again") from None
    # Last, so that nothing was written through one.
    for path, to in links:
        path.symlink_to(to)


def make_directories(path: Path, top: Path) -> None:
    """Make a directory below `top` and those above it, open to others."""
    missing = []
    while path != top and not path.is_dir():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        directory.mkdir()
        directory.chmod(0o755)
