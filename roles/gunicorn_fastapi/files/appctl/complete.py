"""Whether a release is complete: one question for all who build, start, show, roll back to or remove releases.

A release is complete when its manifest can be read, its files and its virtualenv are as they were built, the
interpreter is the one that it was built for, and its credentials can be decrypted.
"""

import json
import os
from pathlib import Path

from appctl import contents, credentials, disk, interpreter, lock, tree
from appctl.app import App
from appctl.process import CtlError

MEMORY_MAX = 4 * 1024 * 1024


def why_not(app: App, release: str, thorough: bool = False) -> str:
    """Why a release is not complete, in words; empty when it is.

    Quick: the content of files is compared once after each boot, because what another boot wrote is not trusted, and
    then only paths, modes and sizes of the release's own files; the virtualenv by its interpreter. `thorough`
    compares all of it again.
    """
    directory = app.release(release)
    try:
        if directory.is_symlink():
            return f"{directory} is a link"
        if not directory.is_dir():
            return "it is not on this host"
        manifest = contents.read_manifest(directory / "manifest.json")
        if manifest["release"] != release:
            return f"its manifest is that of {manifest['release']}"
        memory = Memory(app)
        # One that was built by a version without seals has none.
        why = "" if tree.facts(directory) is None else tree.broken(directory)
        if not why and (thorough or not memory.knows(f"whole {release}", _mark(directory))):
            changed = contents.changed_files(directory, manifest)
            if changed:
                more = f", and {len(changed) - 1} more" if len(changed) > 1 else ""
                why = f"{directory / changed[0]} differs from what was deployed{more}"
        why = why or virtualenv(app, (directory / "venv").resolve().name, memory, thorough)
        why = why or _credentials(app, release, memory)
        if not why:
            memory.note(f"whole {release}", _mark(directory))
    except (CtlError, OSError) as failure:
        return str(failure)
    return why


def virtualenv(app: App, name: str, memory: "Memory", thorough: bool = False) -> str:
    """Why a virtualenv is not complete, in words; empty when it is."""
    directory = app.virtualenvs / name
    try:
        python = str((directory / "bin/python").readlink())
        facts = tree.facts(directory)
        if facts is None:
            return "" if os.access(python, os.X_OK) else f"its interpreter {python} is missing"
        if python != facts["executable"]:
            return f"{directory}/bin/python is not the interpreter that it was built for"
        mark = interpreter.mark(python)
        why = _standing(Path(python).parent.parent, memory, thorough)
        if why:
            return why
    except OSError as error:
        return f"its virtualenv is damaged: {error.filename}: {error.strerror}"
    except (CtlError, KeyError) as failure:
        return f"its virtualenv is damaged: {failure}"
    if mark != facts["mark"] and not memory.knows(f"interpreter {name}", str(mark)):
        # It was updated in place. That changes nothing as long as it is of the same minor version.
        try:
            now = interpreter.tried(app, python, [])
        except CtlError as failure:
            return str(failure)
        if now.minor != facts["minor"]:
            return f"it was built for Python {facts['minor']}, and {python} is {now.version} now"
        memory.note(f"interpreter {name}", str(mark))
    if thorough or not memory.knows(f"virtualenv {name}", _mark(directory)):
        why = tree.broken(directory)
        if why:
            return why
        memory.note(f"virtualenv {name}", _mark(directory))
    return ""


def _standing(python: Path, memory: "Memory", thorough: bool) -> str:
    """What of a Python that stands alone is not as it was installed, in words; nothing of one of the host's own."""
    if tree.facts(python) is None or (memory.knows(f"python {python}", _mark(python)) and not thorough):
        return ""
    why = tree.broken(python)
    if not why:
        memory.note(f"python {python}", _mark(python))
    return why


def _credentials(app: App, release: str, memory: "Memory") -> str:
    """Which credential of a release cannot be decrypted, in words; asked again when a file or the key has changed."""
    wanted = credentials.loaded_by(credentials.unit_of(app, release))
    if not wanted:
        return ""
    try:
        key = credentials.key([path for _, path in wanted])
    except OSError as error:
        return f"the credential {error.filename} is missing"
    if memory.knows(f"credentials {release}", key):
        return ""
    why = credentials.undecryptable(wanted)
    if not why:
        memory.note(f"credentials {release}", key)
    return why


def _mark(directory: Path) -> str:
    """Differs once a directory was put there anew."""
    status = directory.stat()
    return f"{status.st_ino}:{status.st_ctime_ns}"


class Memory:
    """What was found good since the last boot, so that it need not be looked at again. Root's own."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._path = app.private / "complete.json"
        self._known: dict[str, str] = {}
        try:
            found = json.loads(disk.read_bounded(self._path, MEMORY_MAX))
            self._known = {str(key): str(value) for key, value in found.items()}
        except (OSError, ValueError, AttributeError, RecursionError):
            pass

    def knows(self, what: str, mark: str) -> bool:
        """Whether this was found good, with this mark."""
        return self._known.get(what) == mark

    def note(self, what: str, mark: str) -> None:
        """Remember that it is good. Only root can; for others it is forgotten."""
        if self.knows(what, mark):
            return
        self._known[what] = mark
        try:
            lock.private(self._app)
            disk.durable(self._path, json.dumps(self._known), mode=0o600)
        except OSError:
            pass
