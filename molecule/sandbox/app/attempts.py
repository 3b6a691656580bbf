"""Execute pieces of Python, a JSON list on standard input, and print how each of them ended.

With a word, such as "process", what is in the state directory is executed as soon as it is there, and how it ended is
kept there under that word.
"""

import ctypes
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)


def call(function: str, *arguments: Any) -> int:
    """Call a function of the C library. Raises OSError when it returns -1."""
    result: int = getattr(libc, function)(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), function)
    return result


def command(*words: str) -> str:
    """What a program prints. Raises RuntimeError with its complaint when it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=240)
    if done.returncode:
        raise RuntimeError(done.stderr or done.stdout[-4000:])
    return done.stdout


def write(path: str) -> None:
    """Write to a file without changing it, where it is there; make and remove it, where it is not."""
    there = Path(path).exists()
    with Path(path).open("ab"):
        pass
    if not there:
        Path(path).unlink()


def attempt(code: str) -> str:
    """Execute a piece of Python in a process of its own, and tell "done" or the error that ended it."""
    with tempfile.TemporaryFile() as told:
        child = os.fork()
        if child == 0:
            signal.alarm(240)
            try:
                exec(code, {"call": call, "command": command, "write": write, "os": os, "Path": Path})
                outcome = "done"
            except OSError as error:
                outcome = f"{errno.errorcode.get(error.errno or 0, type(error).__name__)} {error}"
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the outcome
                outcome = f"{type(error).__name__} {error}"
            os.write(told.fileno(), outcome.encode())
            os._exit(0)
        _, status = os.waitpid(child, 0)
        told.seek(0)
        return told.read().decode() if status == 0 else f"ended by status {status}"


def kept(word: str) -> None:
    """Execute what is left in the state directory, and leave there how it ended."""
    state = Path(os.environ["STATE_DIRECTORY"])
    while not (state / "attempts.json").exists():
        time.sleep(0.2)
    outcomes = [attempt(code) for code in json.loads((state / "attempts.json").read_text())]
    (state / f"{word}.new").write_text(json.dumps(outcomes))
    (state / f"{word}.new").replace(state / f"{word}.json")


if __name__ == "__main__":
    if sys.argv[1:]:
        kept(sys.argv[1])
        if sys.argv[1] == "process":
            signal.pause()
    else:
        json.dump([attempt(code) for code in json.load(sys.stdin)], sys.stdout)
