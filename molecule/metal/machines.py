"""Machines of tools/metal, as cuts.py uses them: what they print, and at which step of a deploy one is."""

import contextlib
import queue
import subprocess
import threading
import time
from pathlib import Path
from typing import IO

HERE = Path(__file__).resolve().parent
METAL = str(HERE.parent.parent / "tools/metal")
PATIENCE = 900
"""Seconds that a command may take, also on a machine with much else to do."""


class CutError(Exception):
    """What was expected, and what was seen instead."""


def metal(*arguments: str, stdin: IO[str] | None = None) -> str:
    """What tools/metal prints."""
    done = subprocess.run(
        [METAL, *arguments],
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode:
        raise CutError(f"tools/metal {' '.join(arguments[:3])}: {done.stdout}{done.stderr}")
    return done.stdout


def on(name: str, script: str, *arguments: str) -> str:
    """What a script of files/ prints on a machine."""
    with (HERE / "files" / script).open() as text:
        try:
            return metal("shell", name, f"python3 - {' '.join(arguments)}", stdin=text)
        except CutError as error:
            raise CutError(f"{script}: {error}") from None


class Watch:
    """What step.py says on a machine."""

    def __init__(self, name: str, steps: list[str]) -> None:
        words = " ".join(f"'{step}'" for step in steps)
        with (HERE / "files/step.py").open() as script:
            self.process = subprocess.Popen(
                [METAL, "shell", name, f"python3 - {words}"],
                stdin=script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        """Line by line; an empty one is the end."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(line.strip())
        self.lines.put("")

    def wait(self, step: str, deploy: "subprocess.Popen[str] | None" = None) -> None:
        """Wait until it says the step. Raises CutError when the deploy is over without it."""
        end, said = time.monotonic() + PATIENCE, ""
        while time.monotonic() < end:
            if deploy and not said and deploy.poll() is not None:
                end, said = time.monotonic() + 15, str(deploy.communicate()[0])[-2000:]
            with contextlib.suppress(queue.Empty):
                line = self.lines.get(timeout=0.2)
                if line == step:
                    return
                raise CutError(f"{step} was not seen, but {line or 'nothing'}: {said}")
        raise CutError(f"{step} was not seen: {said}")

    def end(self) -> None:
        """It is of no use any more."""
        self.process.kill()
        self.process.wait()
