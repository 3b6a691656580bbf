"""Which interpreter releases are made with on a host.

Asked as nobody: root executes nothing that others may have put there.
"""

from __future__ import annotations

import os
import platform
import pwd
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HIDDEN = ("/root", "/home", "/run/user")
"""What the service cannot see (ProtectHome=)."""


PYTHONS = "/opt/gunicorn_fastapi/pythons"
"""Where builds of Python are that stand alone, for all applications."""

VERSION = r"3\.[0-9]{1,2}(\.[0-9]{1,2})?"


def fits(version: str, wanted: str) -> bool:
    """Whether a version is one that was asked for, such as 3.14.2 for 3.14."""
    return version == wanted or version.startswith(f"{wanted}.")


def version_of(python: str) -> tuple[str, str]:
    """The version of an interpreter, as anybody but root can ask it; empty, with the reason, when nobody can."""
    for place in (python, os.path.realpath(python)):
        for top in HIDDEN:
            if Path(place).is_relative_to(top):
                return "", f"{place} lies below {top}, which the service cannot see"
    command = [python, "-I", "-S", "-c", "import platform; print(platform.python_version())"]
    nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    rights: dict[str, Any] = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []} if nobody else {}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=30, cwd="/", env={}, **rights
        )
    except PermissionError as error:
        return "", closed(python) or str(error.strerror)
    except FileNotFoundError:
        return "", "what has to start it is missing: the program in its first line, or its loader"
    except OSError as error:
        return "", error.strerror or type(error).__name__
    except subprocess.SubprocessError:
        return "", "it did not answer within 30 s"
    version = done.stdout[:100].decode(errors="replace").strip()
    if done.returncode == 0 and re.fullmatch(r"[0-9]+(\.[0-9]+)+[\w+.]*", version):
        return version, ""
    words = done.stderr[-1000:].decode(errors="replace").strip().rpartition("\n")[2]
    if done.returncode < 0:
        return "", words or f"it was killed by signal {-done.returncode}"
    return "", words or f"it ended with {done.returncode} and named no version"


def closed(python: str) -> str:
    """Which directory on the way to a program others cannot enter. Empty when none is seen."""
    for name in (python, os.path.realpath(python)):
        for directory in reversed(Path(name).parents):
            if not directory.stat().st_mode & stat.S_IXOTH:
                return (
                    f"the directory {directory} is closed to others (mode {stat.S_IMODE(directory.stat().st_mode):04o})"
                )
    return ""


def unusable(python: str) -> str:
    """Why a path is no program, empty when it is none that is there."""
    path = Path(python)
    if "/" not in python or not os.path.lexists(python):
        return ""
    if not path.exists():
        return "it is a link that leads nowhere"
    if not path.is_file():
        return "it is no file"
    if os.statvfs(python).f_flag & os.ST_NOEXEC:
        return "its file system is mounted noexec"
    return "it is not executable"


def look(wanted: str, builds: Mapping[str, Any], run: Callable[..., str]) -> dict[str, Any]:
    """Version and absolute path of the interpreter, or why it has no version, and what has to be installed for it."""
    nothing = {"python": "", "python_path": "", "python_why": "", "python_package": "", "python_build": {}}
    if re.fullmatch(VERSION, wanted):
        return nothing | of_version(wanted, builds.get(platform.machine(), {}), run)
    version, path, why = named(wanted)
    return nothing | {"python": version, "python_path": path, "python_why": why}


def named(wanted: str) -> tuple[str, str, str]:
    """Version and path of an interpreter by its name or path, and why it has no version."""
    path = shutil.which(wanted) or ""
    if not path:
        why = unusable(wanted)
        return "", wanted if why else "", why
    version, why = version_of(path)
    return version, path, why


def of_version(wanted: str, build: Mapping[str, Any], run: Callable[..., str]) -> dict[str, Any]:
    """What the host has of a version, or what can be installed, in this order.

    A build that is there comes before a package that is not: what was chosen once stays chosen.
    """
    minor = ".".join(wanted.split(".")[:2])
    for name in (f"python{minor}", "python3"):
        path = shutil.which(name) or ""
        version = version_of(path)[0] if path else ""
        if fits(version, wanted):
            return {"python": version, "python_path": path}
    of_build = {
        "python": build.get("version", ""),
        "python_path": f"{PYTHONS}/{build.get('name')}/bin/python{minor}",
    }
    if build and shutil.which(of_build["python_path"]) and version_of(of_build["python_path"])[0] == build["version"]:
        return of_build
    package = f"python{minor}"
    version = candidate(package, run)
    if fits(version, wanted):
        return {"python": version, "python_path": f"/usr/bin/{package}", "python_package": package}
    return {**of_build, "python_build": dict(build)} if build.get("place") else {}


def candidate(package: str, run: Callable[..., str]) -> str:
    """Which version of Python a Debian package would bring, as far as apt knows; empty for none."""
    said = run("apt-cache", "show", "--no-all-versions", package) if shutil.which("apt-cache") else ""
    match = re.search(r"(?m)^Version: (?:\d+:)?(\d+\.\d+\.\d+)(?![\d.a-z~])", said)
    return match[1] if match else ""
