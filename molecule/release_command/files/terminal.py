"""A terminal, to try what runs on it: what came out, how it ended, and what is left of it for whoever comes next."""

import fcntl
import os
import select
import struct
import termios
import time
from collections.abc import Callable
from typing import NamedTuple


class Session(NamedTuple):
    """What came of a command on a terminal of its own."""

    status: int
    output: str
    left: int
    """Bytes in the terminal's input that the next program would read."""
    restored: bool
    """Whether the terminal has the modes that it had."""


def on_a_terminal(command: list[str], steps: list[tuple[str, bytes | Callable[[int], None]]]) -> Session:
    """Run a command on a new terminal. When a word is seen, what stands beside it is typed, or called with the pid."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    modes = termios.tcgetattr(theirs)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
        for number in range(3):
            os.dup2(theirs, number)
        os.execvpe(command[0], command, {**os.environ, "TERM": "xterm"})
    output, waiting, ended = b"", list(steps), None
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.1)[0]:
            output += os.read(ours, 4096)
            if waiting and waiting[0][0].encode() in output:
                action = waiting.pop(0)[1]
                if callable(action):
                    action(pid)
                else:
                    os.write(ours, action)
        elif ended is not None:
            break
        if ended is None and (found := os.waitpid(pid, os.WNOHANG))[0]:
            ended = found[1]
    assert ended is not None, f"{command} has not ended: {output!r}"
    (left,) = struct.unpack("i", fcntl.ioctl(theirs, termios.FIONREAD, struct.pack("i", 0)))
    restored = termios.tcgetattr(theirs) == modes
    return Session(os.waitstatus_to_exitcode(ended), output.decode(errors="replace"), left, restored)
