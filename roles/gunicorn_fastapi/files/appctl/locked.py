"""Lists of packages that uv has made from ones without hashes, or from locks that only it reads.

Each is made once, on one host, and kept on all of them: they outlive whoever deploys, such as a CI runner.
"""

import argparse
import json
import os
import re
import tempfile
import time
from pathlib import Path, PurePosixPath
from typing import Any

from appctl import disk, fetch, interpreter, lock, releases, sandbox, tree
from appctl.app import App
from appctl.asking import read_request, seconds
from appctl.interpreter import Interpreter
from appctl.process import CtlError

MOST = 900.0
"""Seconds that the index may take."""

LIST_MAX = 16 * 1024 * 1024
"""Bytes of a list that is kept."""

KEPT = 20
"""Lists that are kept; the oldest go."""

OLD = "For a list of years ago, gunicorn_fastapi_lock_date resolves as of a day, such as 2023-06-30"
DATED = re.compile(r"pkg_resources|setuptools|distutils|imp\b|No solution found")


class Question:
    """What uv is asked, and about which files."""

    def __init__(self, asked: dict[str, Any]) -> None:
        try:
            self.key = key_of(asked)
            self.relock, self.resolves = bool(asked["relock"]), bool(asked["resolves"])
            self.command = [str(word) for word in asked["command"]]
            self.directory = str(asked["directory"])
            self.files = {str(path): str(text) for path, text in asked["files"].items()}
            self.python, self.index = str(asked["python"]), [str(word) for word in asked["index"]]
            self.uv = fetch.Uv.asked("lock", asked["uv"]["version"], asked["uv"]["list"])
        except (KeyError, TypeError, AttributeError) as error:
            raise CtlError(f"lock: the request on standard input has no {error}") from None
        for path in map(PurePosixPath, (*self.files, self.directory)):
            if path.is_absolute() or ".." in path.parts:
                raise CtlError("lock: the request names a file outside of the project")


def key_of(asked: dict[str, Any]) -> str:
    """The name under which a list is kept. Raises CtlError for one that is none."""
    if not releases.ID.fullmatch(str(asked.get("key", ""))):
        raise CtlError("the request names no list by its digest")
    return str(asked["key"])


def kept(app: App, key: str) -> dict[str, Any]:
    """What is kept under a name: when it was made, and the lines of the list. Nothing when it cannot be read.

    Lines, because a text as long as the list is cut off in an answer.
    """
    try:
        found = json.loads(disk.read_bounded(app.locks / f"{key}.json", LIST_MAX))
        return {"made": float(found["made"]), "lines": [str(line) for line in found["lines"]]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def keep(app: App, key: str, made: float, lines: list[str]) -> None:
    """Keep a list, and forget the oldest ones. The lock is the caller's."""
    app.locks.mkdir(mode=0o755, parents=True, exist_ok=True)
    disk.durable(app.locks / f"{key}.json", json.dumps({"made": made, "lines": lines}) + "\n")
    there = sorted(app.locks.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in there[KEPT:]:
        old.unlink()


def command_locked(app: App, _: argparse.Namespace) -> dict[str, object]:
    """Show the list that is kept under the name on standard input."""
    return {"changed": False, **kept(app, key_of(read_request("locked")))}


def command_keep(app: App, arguments: argparse.Namespace) -> dict[str, object]:
    """Keep a list that another host has made; it is on standard input."""
    asked = read_request("keep")
    key = key_of(asked)
    try:
        made, lines = float(asked["made"]), [str(line) for line in asked["lines"]]
    except (KeyError, TypeError, ValueError) as error:
        raise CtlError(f"keep: the request on standard input has no {error}") from None
    with lock.lock(app, "keeping its list of packages", arguments.lock_wait):
        changed = kept(app, key) != {"made": made, "lines": lines}
        if changed:
            keep(app, key, made, lines)
    return {"changed": changed}


def command_lock(app: App, arguments: argparse.Namespace) -> dict[str, object]:
    """Have uv make a list with hashes, and keep it; the request is on standard input."""
    os.umask(0o022)
    question = Question(read_request("lock"))
    with lock.lock(app, "the resolution of its packages", arguments.lock_wait):
        there = kept(app, question.key)
        if there and not question.relock:  # whoever had the lock has made it
            return {"changed": False, **there}
        try:
            lines, made = resolved(app, question).splitlines(), time.time()
            keep(app, question.key, made, lines)
        except OSError as error:
            raise CtlError(disk.told(error)) from None
    return {"changed": True, "made": made, "lines": lines}


def add_lock(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--lock-wait", type=seconds, default=lock.WAIT, metavar="SECONDS", help="how long to wait for another change"
    )


def resolved(app: App, question: Question) -> str:
    """What uv says, in the sandbox of a build. The lock is the caller's. Raises CtlError with uv's words."""
    python = interpreter.tried(app, question.python, [])
    fetch.clear(app)
    app.incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="lock-", dir=app.incoming))
    try:
        with disk.named(work):
            return _asked(app, question, work, python)
    finally:
        fetch.clear(app)
        tree.remove(work)


def _asked(app: App, question: Question, work: Path, python: Interpreter) -> str:
    project, here = work / "project", app.root / "project"
    for name, text in question.files.items():
        file = project / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (project / question.directory).mkdir(parents=True, exist_ok=True)
    index = question.index if question.resolves else []
    if not (question.uv.directory / "bin/uv").exists():
        fetch.fetch_uv(app, question.uv, question.index, work)
    command = [question.uv.directory / "bin/uv", *question.command, f"--python={python.executable}", *index]
    script = [
        "set -eu",
        f"export UV_CACHE_DIR={fetch.join(app.virtualenvs)}/.cache-$(id -u)",
        f"cd {fetch.join(here / question.directory)}",
        f"exec {fetch.join(*command)}",
    ]
    confined_by = fetch.properties(app, work, python, not question.resolves or "--no-index" in question.index)
    code, out, err = sandbox.confined(
        fetch.unit(app), ["/bin/sh", "-c", "\n".join(script)],
        [*confined_by, f"BindReadOnlyPaths={project}:{here}"], "", MOST, (app.cache, fetch.TEMPORARY),
    )  # fmt: skip
    if code:
        told = err.strip() or out.strip() or f"uv exited with status {code}"
        raise CtlError(told + (f". {OLD}" if question.resolves and DATED.search(told) else ""))
    return out
