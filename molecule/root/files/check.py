#!/usr/bin/env python3
"""What root does for an application, attempted to be turned against the host. Runs as root on the host.

check.py GOOD ATTACKING [ATTEMPT...]. Prints a line for each attempt, and ends with status 1 and the reason at the first
that succeeds.
"""

import sys

import building
import leaving
import running
import stored
from checks import attempt
from host import ATTACKING, in_service


def main() -> None:
    wanted = sys.argv[3:]
    in_service(ATTACKING)
    for one in (*building.ATTEMPTS, *running.ATTEMPTS, *stored.ATTEMPTS, *leaving.ATTEMPTS):
        if not wanted or one.__name__ in wanted:
            attempt(one)


if __name__ == "__main__":
    main()
