"""Makes what an application may write, before it starts: as its own user, in its sandbox, once.

``/usr/bin/python3 -IS seeding.py RELEASE``, the release's directory. Stands alone.
"""

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path

SCRATCH = ".scratch"
"""In the state directory: a directory for each release."""


def main(release: Path) -> None:
    """Make the paths of a release, and forget those of releases that are gone."""
    wanted = json.loads((release / "etc/state.json").read_text(encoding="utf-8"))
    state = Path(wanted["directory"])
    own = state / SCRATCH / release.name
    for below, paths in ((state, wanted["state"]), (own, wanted["scratch"])):
        for path, kind in paths.items():
            put(release / "seed" / path, below / path, kind)
    there = {entry.name for entry in release.parent.iterdir()}
    for left in (state / SCRATCH).iterdir() if (state / SCRATCH).is_dir() else ():
        if left.name not in there:
            shutil.rmtree(left, ignore_errors=True)


def put(seed: Path, target: Path, kind: str) -> None:
    """Make a path from what the source held, unless it is there. Another instance may do the same at this moment."""
    if os.path.lexists(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    making = target.with_name(f".{target.name}.{os.getpid()}.seeding")
    if kind == "directory":
        if seed.is_dir():
            shutil.copytree(seed, making, symlinks=True)
        else:
            making.mkdir()
        try:
            making.rename(target)
        except OSError:  # the other one was earlier
            shutil.rmtree(making)
            if not target.is_dir():
                raise
    elif seed.is_file():
        shutil.copy(seed, making)
        with contextlib.suppress(FileExistsError):
            os.link(making, target)
        making.unlink()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except OSError as error:
        sys.exit(f"OSError: the state directory cannot be prepared: {error.filename}: {error.strerror}")
