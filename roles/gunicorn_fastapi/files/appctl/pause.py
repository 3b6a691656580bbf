"""A pause: the service is stopped, its clients wait in the kernel's queue, and it ends by itself after a time.

What holds them is a unit with the same sockets, so that no client starts the service. Its end starts the service,
whatever has become of this command by then.
"""

import time
from pathlib import Path

from appctl import addresses, answering, bounded, opening, releases, systemd, talk
from appctl.app import App
from appctl.disk import read_bounded
from appctl.instance import start
from appctl.process import CtlError, run

LONGEST = 600
"""Seconds of a pause at most: clients and proxies do not wait longer."""

LOOK = 0.2

TABLES = ("tcp", "tcp6", "unix")


def unit_text(app: App, seconds: float) -> str:
    """The unit that holds the addresses for so long."""
    sockets = " ".join([app.socket, *sorted(set(opening.units(app)) - {app.socket})])
    return (
        "# Written by gunicorn_fastapi, for a pause.\n\n"
        f"[Unit]\nDescription={app.name}: paused, clients wait\nRequires={app.socket}\nAfter={sockets}\n\n"
        f"[Service]\nType=exec\nSockets={sockets}\nSlice={app.slice}\nUser={app.name}\nNoNewPrivileges=yes\n"
        f"ProtectSystem=strict\nPrivateNetwork=yes\nCapabilityBoundingSet=\nExecStart=/usr/bin/sleep {seconds:g}\n"
        f"ExecStopPost=+/usr/bin/systemctl start --no-block {app.service}\n"
    )


def pause(app: App, seconds: float) -> None:
    """Stop the service, hold its clients for at most so long, and start it. Says how many waited."""
    release = releases.current(app)
    path = app.transient / app.holder
    app.transient.mkdir(exist_ok=True)
    path.write_text(unit_text(app, seconds))
    run("systemctl", "daemon-reload")
    begin = time.monotonic()
    try:
        run("systemctl", "start", app.holder)
        talk.say(app, f"paused for at most {seconds:g} s: clients wait ({app.name}ctl pause --end)", release)
        # When its time is over before the service has stopped, the end of the pause has cancelled that.
        bounded.change("stop", app.service, check=False)
        while systemd.active(app.holder) and time.monotonic() < begin + seconds + 5:
            time.sleep(LOOK)
    finally:
        waited, lasted = waiting(app), time.monotonic() - begin
        try:
            took = start(app.service)
        finally:
            run("systemctl", "stop", app.holder, check=False)
            path.unlink(missing_ok=True)
            run("systemctl", "daemon-reload")
    talk.say(app, f"the pause is over after {lasted:.1f} s: {waited}. {app.service} started in {took}", release)


def end(app: App) -> bool:
    """End a pause that another one has begun. False when there is none."""
    if not systemd.active(app.holder):
        return False
    run("systemctl", "stop", app.holder)
    return True


def waiting(app: App) -> str:
    """How many clients wait in the queues of the public addresses, in words."""
    held = [address for found in addresses.layout(app, opening.units(app)).values() for address in found]
    try:
        number = sum(queued(held, table) for table in TABLES)
    except OSError as error:
        return f"how many waited is unknown ({error})"
    return f"{number} client{'' if number == 1 else 's'} waited"


def queued(held: list[addresses.Address], table: str) -> int:
    """How many wait by one of the kernel's tables: in the queue of a listening socket, or beside that of a path."""
    lines = read_bounded(Path("/proc/net") / table, answering.MOST).decode("utf-8", "replace").split("\n")[1:]
    fields = [line.split() for line in lines]
    if table == "unix":
        paths = {address.text for address in held if not address.host}
        # A connection that nobody has accepted has the path of its listener, and no file yet.
        return sum(1 for words in fields if len(words) == 8 and words[7] in paths and words[6] == "0")
    wanted = {f"{answering.as_kernel(address.host)}:{address.port:04X}" for address in held if address.host}
    listening = [w for w in fields if len(w) > 9 and w[3] == answering.LISTENING and w[1] in wanted]
    return sum(int(words[4].partition(":")[2], 16) for words in listening)


def check(app: App) -> None:
    """Raises CtlError when there is nothing that could be paused."""
    if not systemd.serves(app.service):
        raise CtlError(
            f"{app.service} does not serve, so there is nothing to pause. Start it, or see {app.name}ctl status"
        )
