"""Server processes for the tests: started, watched and ended by their process id."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

BIN = Path(sys.executable).parent
"""Where the commands of the environment are in which the tests run."""

PATIENCE = 120
"""Seconds after which a test gives up. Generous, for busy machines: it only decides how soon a failure is reported."""

# What systemd does for a service with sockets: their descriptors are numbered from 3 on, and LISTEN_PID is the
# process that may use them. So the process sets it for itself and then becomes the server.
PASS_SOCKET = """
import fcntl, os, sys
copies = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in sys.argv[1].split(",")]
for number, copy in enumerate(copies, 3):
    os.dup2(copy, number)
    os.set_inheritable(number, True)
os.environ.update(LISTEN_FDS=str(len(copies)), LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until ``condition`` holds; fail with ``what`` and nothing else after ``PATIENCE``."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {PATIENCE} s: {what}")
        time.sleep(0.02)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class ServerProcess:
    """A server, its output in a file, ended at the latest by ``end()``."""

    def __init__(
        self,
        command: Sequence[str],
        output: Path,
        *,
        directory: Path,
        environment: Mapping[str, str],
        descriptors: Sequence[int] = (),
    ) -> None:
        self._output = output
        with output.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=directory,
                env={**os.environ, **environment},
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """Everything written to standard output and standard error so far."""
        return self._output.read_text()

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until the output contains ``text``, ``times`` times."""

        def there() -> bool:
            if self.output.count(text) >= times:
                return True
            assert self.process.poll() is None, f"ended without {text!r}:\n{self.output}"
            return False

        eventually(there, f"{text!r} {times} times in:\n{self.output}")

    def children(self) -> set[int]:
        """The process ids of the server's direct children."""
        pid = self.process.pid
        return {int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the main process alone."""
        self.process.send_signal(number)

    def stop(self) -> None:
        """SIGTERM, as systemd does; the process must end by itself with success."""
        self.signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0, self.output

    def end(self) -> None:
        """Kill what is left of the process and of those that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
