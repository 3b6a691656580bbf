#!/usr/bin/env python3
"""What root does for an application, attempted to be turned against the host. Runs as root on the host.

check.py GOOD ATTACKING [ATTEMPT...]. Prints a line for each attempt, and ends with status 1 and the reason at the first
that succeeds.
"""

import sys
import time

import building
import leaving
import running
import stored
from host import ATTACKING, Succeeded, in_service


def main() -> None:
    wanted = sys.argv[3:]
    in_service(ATTACKING)
    for attempt in (*building.ATTEMPTS, *running.ATTEMPTS, *stored.ATTEMPTS, *leaving.ATTEMPTS):
        if wanted and attempt.__name__ not in wanted:
            continue
        begin = time.monotonic()
        try:
            attempt()
        except Succeeded as error:
            sys.exit(f"{attempt.__name__}: {error}")
        print(f"{attempt.__name__} ({time.monotonic() - begin:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
