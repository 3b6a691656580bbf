"""Lists of packages that uv has made from ones without hashes, or from locks that only it reads.

Each is made once, on one host, and kept on all of them: they outlive whoever deploys, such as a CI runner.
"""

import argparse
import base64
import json
import os
import re
import tempfile
import time
from pathlib import Path, PurePosixPath
from typing import Any

from appctl import disk, fetch, interpreter, lock, releases, sandbox, talk, tree, wheels
from appctl.app import App
from appctl.asking import add_lock_wait, read_request
from appctl.interpreter import Interpreter
from appctl.process import CtlError

MOST = 900.0
"""Seconds that the index may take."""

LIST_MAX = 64 * 1024 * 1024
"""Bytes of a list that is kept, with the wheels that belong to it."""

KEPT = 20
"""Lists that are kept; the oldest go."""

SERVERS = re.compile(
    r"require (gunicorn|uvicorn|httptools)[=<>~!].* and \1[=<>~!]|\b(gunicorn|uvicorn|httptools)>=[\d.]+ and \2==",
    re.DOTALL,
)
UNSUPPORTED = (
    "What is required of the server and what is supported (README) have nothing in common. Leave the server out of the "
    "list, and the role adds it, allow a supported version, or name it in gunicorn_fastapi_upgrade, which takes one"
)
OLD = re.compile(r"No solution found|pkg_resources|distutils")
DATED = 'For a list of years ago, gunicorn_fastapi_lock_date resolves as of a day, such as "2023-06-30"'

REMEDIES = ((SERVERS, UNSUPPORTED), (OLD, DATED))
"""What to do about uv's words; the first that fits."""

SOURCE_ONLY = re.compile(r"no usable wheels|no wheels with a matching|building (from )?source")
"""What uv says where packages without a wheel are needed."""


class Question:
    """What uv is asked, and about which files."""

    def __init__(self, asked: dict[str, Any]) -> None:
        try:
            self.key = key_of(asked)
            self.relock, self.resolves = bool(asked["relock"]), bool(asked["resolves"])
            self.command = [str(word) for word in asked["command"]]
            self.directory = str(asked["directory"])
            self.files = {str(path): str(text).encode() for path, text in asked["files"].items()}
            sources = asked.get("sources", {}).items()  # of packages that are built
            self.files |= {str(path): base64.b64decode(str(text)) for path, text in sources}
            self.python, self.index = str(asked["python"]), [str(word) for word in asked["index"]]
            self.uv = fetch.Uv.asked("lock", asked["uv"]["version"], asked["uv"]["list"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
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
        return {"made": float(found["made"]), **of(found)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def of(found: dict[str, Any]) -> dict[str, Any]:
    """The list itself in a request or a file: its lines, and the wheels that belong to it. Raises as it may be odd."""
    built = found.get("wheels", {}).items()
    return {
        "lines": [str(line) for line in found["lines"]],
        "wheels": {str(file): [str(text) for text in texts] for file, texts in built},
    }


def keep(app: App, key: str, made: float, found: dict[str, Any]) -> None:
    """Keep a list, and forget the oldest ones. The lock is the caller's."""
    app.locks.mkdir(mode=0o755, parents=True, exist_ok=True)
    disk.durable(app.locks / f"{key}.json", json.dumps({"made": made, **found}) + "\n")
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
        made, found = float(asked["made"]), of(asked)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CtlError(f"keep: the request on standard input has no {error}") from None
    with lock.lock(app, "keeping its list of packages", arguments.lock_wait):
        changed = kept(app, key) != {"made": made, **found}
        if changed:
            keep(app, key, made, found)
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
            found, made = resolved(app, question), time.time()
            keep(app, question.key, made, found)
        except OSError as error:
            raise CtlError(disk.told(error)) from None
    return {"changed": True, "made": made, **found}


def add_lock(command: argparse.ArgumentParser) -> None:
    add_lock_wait(command)


def resolved(app: App, question: Question) -> dict[str, Any]:
    """What uv says, in the sandbox of a build, and the wheels that it needs. The lock is the caller's."""
    python = interpreter.tried(app, question.python, [])
    fetch.clear(app)
    app.incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="lock-", dir=app.incoming))
    try:
        with disk.named(work):
            return Resolver(app, question, work, python).resolved()
    finally:
        fetch.clear(app)
        tree.remove(work)
        disk.sync_directory(app.incoming)  # a power cut would bring it back


class Resolver:
    """uv, the project that it is asked about, and the packages that exist as source only."""

    def __init__(self, app: App, question: Question, work: Path, python: Interpreter) -> None:
        self.app, self.question, self.work, self.python = app, question, work, python
        for name, content in question.files.items():
            file = work / "project" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        (work / "project" / question.directory).mkdir(parents=True, exist_ok=True)

    def resolved(self) -> dict[str, Any]:
        """The lines of the list, and the wheels that belong to it. Raises CtlError with uv's words."""
        question = self.question
        if not (question.uv.directory / "bin/uv").exists():
            fetch.fetch_uv(self.app, question.uv, question.index, self.work)
        words = question.command
        code, out, err = self.uv(words)
        if code and SOURCE_ONLY.search(err):  # now with packages that have no wheel
            words = [word for word in words if word != "--no-build"]
            code, out, err = self.uv(words)
        if code:
            told = err.strip() or out.strip() or f"uv exited with status {code}"
            advice = [remedy for pattern, remedy in REMEDIES if pattern.search(told)][:1]
            raise CtlError(". ".join([told.rstrip("."), *advice]))
        if "--no-build" in words:
            return {"lines": out.splitlines(), "wheels": {}}
        return self.with_wheels(out.splitlines(), words)

    def with_wheels(self, lines: list[str], words: list[str]) -> dict[str, Any]:
        """The list with wheels that were built in place of what has none."""
        others = [word for word in words if word not in ("--generate-hashes", "--format=requirements-txt")]
        code, out, err = self.uv([*others, "--format=pylock.toml"])
        if code:
            raise CtlError(err.strip() or f"uv exited with status {code}")
        built, wheels_by_file = {}, {}
        here = self.app.root / "project"
        bound = f"BindReadOnlyPaths={self.work}/project:{here}"
        found = wheels.sources(out, here / self.question.directory, here, self.python.version)
        without = ", ".join(source.name for source in found if not source.inside)
        for source in found:
            try:
                file, digest, texts = wheels.build(
                    self.app, self.question.uv, self.question.index, self.work, self.python, source, (bound,)
                )
            except CtlError as error:
                raise CtlError(f"{error}. Without a wheel are: {without}" if "," in without else str(error)) from None
            talk.out(f"{source.name} {source.version} has no wheel for this host: {file} was built of its source")
            built[source.inside or source.name] = (file, digest)
            wheels_by_file[file] = texts
        return {"lines": wheels.listed(lines, built), "wheels": wheels_by_file}

    def uv(self, words: list[str]) -> tuple[int, str, str]:
        """Ask uv in the directory of the project."""
        app, question, project = self.app, self.question, self.app.root / "project"
        here = project
        index = question.index if question.resolves else []
        copied: list[str] = []
        if any(word.startswith("--upgrade-package") for word in words):  # uv writes the lock before it exports it
            copied, here = [f"cp -R {fetch.join(project)} /tmp/project"], Path("/tmp/project")
        command = [question.uv.directory / "bin/uv", *words, f"--python={self.python.executable}", *index]
        script = [
            "set -eu",
            f"export UV_CACHE_DIR={fetch.join(app.virtualenvs)}/.cache-$(id -u)",
            *copied,
            f"cd {fetch.join(here / question.directory)}",
            f"exec {fetch.join(*command)}",
        ]
        offline = not question.resolves or "--no-index" in question.index
        confined_by = fetch.properties(app, self.work, self.python, offline)
        return sandbox.confined(
            fetch.unit(app), ["/bin/sh", "-c", "\n".join(script)],
            [*confined_by, f"BindReadOnlyPaths={self.work}/project:{project}"], "", MOST, (app.cache, fetch.TEMPORARY),
        )  # fmt: skip
