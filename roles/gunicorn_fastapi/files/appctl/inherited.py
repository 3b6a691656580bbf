"""What a program inherits from whoever starts it, beside the environment, which is kept from its children only."""

import os
import signal
import sys


def forget() -> None:
    """Have signals, descriptors and the umask as a program expects them. Called before anything else.

    Python waits for no child where SIGCHLD is ignored: each command that fails would be taken for one that succeeds.
    Nothing that is opened may get the number of an output that was closed, or one that is too high to be waited for.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(0o022)
    os.closerange(3, 1 << 30)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w"))
