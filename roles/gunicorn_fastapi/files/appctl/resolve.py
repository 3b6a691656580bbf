"""Ask uv whether a lock file could be installed here. Nothing of it stays on the host."""

import argparse
import os
import tempfile
from pathlib import Path

from appctl import fetch, lock, sandbox, tree
from appctl.app import App
from appctl.asking import read_request
from appctl.interpreter import Interpreter
from appctl.process import CtlError

MOST = 600.0
"""Seconds that the index may take."""


def command_resolve(app: App, _: argparse.Namespace) -> dict[str, object]:
    """Ask uv what it would install; the request is on standard input."""
    asked = read_request("resolve")
    try:
        uv = fetch.Uv.asked("resolve", asked["uv"]["version"])
        python = Interpreter(str(asked["version"]), str(asked["python"]))
        text, index = str(asked["list"]), [str(word) for word in asked["index"]]
    except (KeyError, TypeError):
        raise CtlError("resolve: the request on standard input is not understood") from None
    resolve(app, uv, python, text, index)
    return {"changed": False, "resolved": True}


def resolve(app: App, uv: fetch.Uv, python: Interpreter, text: str, index: list[str]) -> None:
    """Raise CtlError with uv's words when the list could not be installed."""
    lock.private(app)
    work = Path(tempfile.mkdtemp(prefix="resolve-", dir=app.private))
    command = (
        "cd /tmp && UV_CACHE_DIR=/tmp/cache exec "
        + fetch.join(
            uv.directory / "bin/uv", "pip", "install", "--quiet", "--dry-run", f"--python={python.executable}",
            "--target=/tmp/target", "--require-hashes", "--no-build", "--requirements=-", *index,
        )
    )  # fmt: skip
    try:
        properties = fetch.properties(app, work, python, "--no-index" in index)
        # A unit of its own: it takes no lock, and must end neither a build nor another question.
        unit = f"{app.name}-resolve-{os.getpid()}.service"
        code, out, err = sandbox.confined(unit, ["/bin/sh", "-c", command], properties, text, MOST, (fetch.TEMPORARY,))
    finally:
        tree.remove(work)
    if code:
        raise CtlError(err.strip() or out.strip() or f"uv exited with status {code}")
