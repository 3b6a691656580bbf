"""Between whoever asks and a program in a unit: what is typed, printed and signalled, and nothing else.

The program never has the operator's terminal. It gets one of its own, which is gone with it, or pipes: what it pushes
into its terminal's input (TIOCSTI), or sets there, reaches nobody else. Only what it prints comes to the operator's.
"""

import contextlib
import fcntl
import os
import select
import signal
import struct
import termios
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from appctl import systemd

PIECE = 4096
"""Bytes that are moved at once: a pipe that can be written to takes so many without waiting."""

LAST = 5.0
"""Seconds for what was printed last to come, when all processes have ended."""

SOON = 0.05
"""Seconds until a signal is passed on again, where the program has not begun yet."""

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Way:
    """Bytes on their way from one descriptor to another; with `kept`, only the last so many, to nobody."""

    def __init__(self, source: int, sink: int = -1, kept: int = 0) -> None:
        self.source = source
        self.sink = sink
        self.kept = kept
        self.held = b""
        self.cut = False
        self.open = True

    def read(self) -> None:
        """Take what is there; at the end of it, the way is closed when all has gone on."""
        try:
            piece = os.read(self.source, PIECE)
        except BlockingIOError:
            return
        except OSError:  # a terminal whose other side is gone
            piece = b""
        if not piece:
            self.open = False
        elif self.kept:
            whole = self.held + piece
            self.cut = self.cut or len(whole) > self.kept
            self.held = whole[-self.kept :]
        else:
            self.held += piece

    def write(self) -> None:
        """Pass on what is held. Nobody to take it is the end of the way."""
        try:
            self.held = self.held[os.write(self.sink, self.held[:PIECE]) :]
        except BlockingIOError:
            pass
        except OSError:
            self.held, self.open = b"", False


class Relay:
    """What goes between: `into` the program, and `out` of it."""

    def __init__(self, into: list[Way], out: list[Way]) -> None:
        self.into = into
        self.out = out
        self.closes = [way.sink for way in into]
        """What the program sees the end of, once the operator's input has ended."""

    def until_ended(self, unit: str, wake: int) -> None:
        """Pass everything on until the main process of the unit has ended. `wake`: where signals are announced."""
        owed: list[signal.Signals] = []
        with contextlib.suppress(ProcessLookupError), systemd.main_process(unit) as main:
            while True:
                ready = self._step([main.descriptor, wake], SOON if owed else None)
                if wake in ready:
                    owed += [signal.Signals(number) for number in os.read(wake, 64)]
                owed = [number for number in owed if not self._signal(unit, number, main.pid)]
                if main.descriptor in ready:
                    return

    def to_the_end(self) -> None:
        """Pass on what was printed last."""
        deadline = time.monotonic() + LAST
        while any(way.open or (way.held and way.sink >= 0) for way in self.out) and time.monotonic() < deadline:
            self._step([], 0.1, last=True)

    def _step(self, others: list[int], timeout: float | None, last: bool = False) -> list[int]:
        """Wait for something to pass on, and do it; the descriptors of `others` that are ready."""
        ways = self.out if last else [*self.into, *self.out]
        sources = {way.source: way for way in ways if way.open and (way.kept or not way.held)}
        sinks = {way.sink: way for way in ways if way.held and not way.kept}
        readable, writable, _ = select.select([*sources, *others], [*sinks], [], timeout)
        for descriptor in readable:
            if descriptor in sources:
                sources[descriptor].read()
        for descriptor in writable:
            sinks[descriptor].write()
        for way in self.into:
            if not way.open and not way.held and way.sink in self.closes:
                self.closes.remove(way.sink)
                self._closed(way.sink)
        for way in self.out:
            if not way.open and not way.held and way.source >= 0:
                self._closed(way.source)  # the program is told that nobody reads on
                way.source = -1
        return readable

    def _closed(self, descriptor: int) -> None:
        """Close one of the program's descriptors, which for a terminal is the same in both directions."""
        if not os.isatty(descriptor):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _signal(self, unit: str, number: signal.Signals, shell: int) -> bool:
        """Pass a signal on to all processes of the unit but the shell around them. Whether there is one."""
        if number == signal.SIGWINCH:
            for way in self.into:
                copy_size(way.source, way.sink)
            return True
        group = systemd.show(unit, "ControlGroup")["ControlGroup"]
        there = {pid for pid in systemd.processes(unit) - {shell} if not is_copy(pid, shell)}
        for pid in there:
            with contextlib.suppress(ProcessLookupError), systemd.process(pid, group) as process:
                process.signal(number)
        return bool(there)


def is_copy(pid: int, shell: int) -> bool:
    """Whether a process is the shell once more, about to become a program. It would handle a signal as the shell."""
    words = [Path(f"/proc/{number}/cmdline") for number in (pid, shell)]
    try:
        return words[0].read_bytes() == words[1].read_bytes() != b""
    except OSError:
        return False


def copy_size(source: int, target: int) -> None:
    """Give a terminal the size of another."""
    with contextlib.suppress(OSError):
        size = fcntl.ioctl(source, termios.TIOCGWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
        fcntl.ioctl(target, termios.TIOCSWINSZ, size)


@contextlib.contextmanager
def announced(*more: signal.Signals) -> Iterator[int]:
    """Have signals announce themselves at a descriptor, by their numbers, for as long as the block lasts."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def handler(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(writing, bytes([number]))

    former = {number: signal.signal(number, handler) for number in (*SIGNALS, *more)}
    try:
        yield reading
    finally:
        for number, was in former.items():
            signal.signal(number, was)
        os.close(reading)
        os.close(writing)


@contextlib.contextmanager
def raw(terminal: int) -> Iterator[None]:
    """Have a terminal pass on each key, for as long as the block lasts.

    What is left in its input is forgotten then: the program may have had the terminal answer to what it printed.
    """
    former = termios.tcgetattr(terminal)
    tty.setraw(terminal)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, former)


def fifo(path: Path, writes: bool) -> tuple[int, int]:
    """Make a pipe with a name. Our end of it, which does not block, and one that keeps it open until the other is."""
    os.mkfifo(path, 0o600)
    keeper = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    ours = os.open(path, (os.O_WRONLY if writes else os.O_RDONLY) | os.O_NONBLOCK | os.O_CLOEXEC)
    return ours, keeper
