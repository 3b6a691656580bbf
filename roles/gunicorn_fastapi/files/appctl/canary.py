"""A release takes a share of the traffic beside the one in service, and is handed back when it answers worse."""

import contextlib
import time
from collections.abc import Iterator

from appctl import judge, shares, systemd, talk
from appctl.app import CANDIDATE, MAIN, App
from appctl.followed import Followed, Judging, failures, follow, sides
from appctl.process import CtlError
from appctl.releases import short

JOINED = 3.0
"""Seconds in which each worker has told that it takes part. It tells ten times a second."""

OFTEN = 60
"""How often a kept connection comes anew in a canary, so that requests are shared, too."""


class HandedBackError(CtlError):
    """A release that was judged worse than the one in service, which serves on."""


class Canary:
    """A share of the traffic, from before the candidate starts until it is judged."""

    def __init__(self, app: App, judging: Judging) -> None:
        self._app = app
        self._judging = judging

    def compare(self, release: str, before: str) -> None:
        """Compare both for as long as was asked. Raises HandedBackError when the new one is worse, or is not judged
        and may not go on then."""
        app, asked = self._app, self._judging
        told = f"release {short(release)}: canary"
        if silent := [names[0] for names in ((before, MAIN), (release, CANDIDATE)) if not joined(app, names[1])]:
            self.unjudged(
                release,
                f"{told} not judged: {short(silent[0])} does not take part, as older releases and other worker classes "
                "do not",
            )
            return
        talk.say(app, f"{told} takes {asked.share}% of the connections for {asked.seconds:g} s", release)
        new, old = Followed(app, CANDIDATE, release), Followed(app, MAIN, before)
        begin = time.monotonic()
        unit = app.instance_service(CANDIDATE)
        found = follow(
            new, old.seen, asked.bounds, asked.seconds, lambda: "" if systemd.serves(unit) else f"{unit} has ended", old
        )
        both = new.seen(), old.seen()
        table = "\n".join(sides(*both, (release, before)))
        if found:
            failed = "\n".join(failures(app, unit, new.since))
            raise HandedBackError(
                f"release {short(release)}: handed back after {time.monotonic() - begin:.0f} s of its canary, and "
                f"{short(before)} serves on: {'; '.join(found)}\n{table}"
                + (f"\n  the first failing requests:\n{failed}" if failed else "")
            )
        if not judge.is_judged(*both, asked.bounds):
            self.unjudged(
                release,
                f"{told} not judged: {both[0].requests:.0f} requests of it and {both[1].requests:.0f} of "
                f"{short(before)}, and {asked.bounds.requests} of each are needed",
            )
            return
        talk.say(app, f"{told} is no worse than {short(before)}. {self._taken(*both)}\n{table}", release)

    def _taken(self, new: judge.Seen, old: judge.Seen) -> str:
        """Which share it has had in truth."""
        taken = shares.taken(self._app.shares)
        connections, requests = sum(taken.values()), new.requests + old.requests
        return (
            f"It took {taken.get(CANDIDATE, 0) / max(connections, 1):.1%} of {connections} connections and "
            f"{new.requests / max(requests, 1):.1%} of {requests:.0f} requests"
        )

    def unjudged(self, release: str, why: str) -> None:
        """Tell why it was not judged. Raises HandedBackError when it may not go on then."""
        if self._judging.unjudged == "stop":
            raise HandedBackError(f"{why}, so it was handed back (gunicorn_fastapi_canary_unjudged)")
        talk.say(self._app, f"warning: {why}. It goes on (gunicorn_fastapi_canary_unjudged)", release)


def joined(app: App, generation: str) -> bool:
    """Whether a generation takes part."""
    deadline = time.monotonic() + JOINED
    while not (found := shares.takes_part(app.shares, generation)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


@contextlib.contextmanager
def steered(app: App, judging: Judging) -> Iterator[Canary]:
    """Have whatever candidate starts in the block take its share of the connections, until the block is over."""
    shares.begin(app.shares, judging.share / 100, max(1.0, judging.seconds / OFTEN))
    try:
        yield Canary(app, judging)
    finally:
        shares.end(app.shares)


def not_judged(app: App, release: str, judging: Judging) -> None:
    """Tell that the release takes over without a canary. Raises HandedBackError when it may not."""
    Canary(app, judging).unjudged(
        release, f"release {short(release)}: canary not judged: nothing can serve beside it now"
    )
