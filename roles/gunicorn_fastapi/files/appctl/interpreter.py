"""The interpreter that a release is made for: tried as the application, and never by root."""

import json
import os
import pwd
import stat
from pathlib import Path
from typing import NamedTuple

from appctl import sandbox
from appctl.app import App
from appctl.process import CtlError

HIDDEN = ("/root", "/home", "/run/user")
"""What ProtectHome= hides."""

ASK = (
    "import json, os, platform, sys; "
    "print(json.dumps([platform.python_version(), os.path.realpath(sys._base_executable)]))"
)

REMEDY = (
    "Install one where every user may execute it, such as /usr/local or /opt, and name it in gunicorn_fastapi_python"
)


class Interpreter(NamedTuple):
    """What answered."""

    version: str
    executable: str
    """Its own file: a link to another name would lead elsewhere after an upgrade of the distribution."""

    @property
    def minor(self) -> str:
        """What its bytecode and compiled packages belong to, such as 3.11."""
        return ".".join(self.version.split(".")[:2])


def tried(app: App, path: str, unit_texts: list[str]) -> Interpreter:
    """The interpreter, once it has run as the application's user under the protections of its unit.

    Raises CtlError with the reason and the next step when it does not run there.
    """
    try:
        pwd.getpwnam(app.name)
        user = f"User={app.name}"
    except KeyError:
        user = "DynamicUser=yes"
    code, out, err = sandbox.confined(
        f"{app.name}-interpreter.service",
        [path, "-I", "-S", "-c", ASK],
        [user, *sandbox.of_unit(*unit_texts)],
    )
    try:
        version, executable = json.loads(out)
        if code == 0 and version and str(executable).startswith("/"):
            return Interpreter(str(version), str(executable))
    except (ValueError, TypeError, RecursionError):
        pass
    ended = f"it exited with status {code}" if code else "it answers what no Python does"
    why = obstacle(path) or err.strip().rsplit("\n", 1)[-1] or ended
    raise CtlError(f"the interpreter {path} does not run as the application: {why}. {REMEDY}")


def obstacle(path: str) -> str:
    """What keeps an ordinary user from executing a file, in words; empty when nothing can be seen."""
    real = os.path.realpath(path)
    where = path if real == path else f"{path}, which is {real}"
    hidden = [top for name in (path, real) for top in HIDDEN if Path(name).is_relative_to(top)]
    if hidden:
        return f"{where}, lies below {hidden[0]}, which the service cannot see (ProtectHome=)"
    for name in (path, real):
        for directory in reversed(Path(name).parents):
            try:
                mode = directory.stat().st_mode
            except OSError as error:
                return f"{directory}: {error.strerror}"
            if not mode & stat.S_IXOTH:
                return f"the directory {directory} is closed to others (mode {stat.S_IMODE(mode):04o})"
    try:
        mode = Path(real).stat().st_mode
        if not stat.S_ISREG(mode):
            return f"{real} is not a file"
        if not mode & stat.S_IXOTH:
            return f"{real} is not executable for others (mode {stat.S_IMODE(mode):04o})"
        if os.statvfs(real).f_flag & os.ST_NOEXEC:
            return f"{real} is on a file system that is mounted noexec"
    except OSError as error:
        return f"{real}: {error.strerror}"
    return ""


def mark(executable: str) -> list[int]:
    """Size and time of an interpreter's file, which differ once it was replaced. Raises OSError when it is gone."""
    status = Path(executable).stat()
    return [status.st_size, status.st_mtime_ns]
