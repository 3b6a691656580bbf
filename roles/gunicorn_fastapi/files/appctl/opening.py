"""What a change of the public addresses opens, closes and leaves alone on this host."""

import grp
import json
import os
import pwd
import re
import socket
import stat
from pathlib import Path
from typing import Any

from appctl import systemd
from appctl.addresses import Address, Layout, Options, layout, meaning, parse, plan, settings, unit_text
from appctl.app import App
from appctl.disk import durable, read_bounded
from appctl.ours import Ours
from appctl.process import CtlError, run

IP_FREEBIND = 15
"""Python's socket module has its name from 3.14 on."""


def units(app: App) -> dict[str, str]:
    """The units of the public addresses, and their texts."""
    wanted = re.compile(rf"{app.name}(-address-[0-9a-f]+)?\.socket")
    found = {}
    for path in sorted(app.system.glob(f"{app.name}*.socket")):
        if wanted.fullmatch(path.name):
            found[path.name] = path.read_text(errors="replace")
    return found


def try_to_open(address: Address) -> None:
    """Listen there and give it back. Raises CtlError with the reason when that fails."""
    try:
        if not address.host:
            path = Path(address.text)
            if os.path.lexists(path) and not stat.S_ISSOCK(path.lstat().st_mode):
                raise OSError(17, "something that is no socket is there")
            with socket.socket(socket.AF_UNIX) as client:
                if client.connect_ex(address.text) == 0:
                    raise OSError(98, "somebody else answers there")
            try_to_place(path)
            return
        six = ":" in address.host
        with socket.socket(socket.AF_INET6 if six else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.setsockopt(socket.SOL_IP, IP_FREEBIND, 1)
            if six:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address.alone))
            probe.bind((address.host, address.port))
    except OSError as error:
        who = f"See who has it: ss -ltnp 'sport = :{address.port}'" if address.host else "Choose another path"
        raise CtlError(f"gunicorn_fastapi_bind: {address.text} cannot be opened: {error.strerror}. {who}") from None


def try_to_place(path: Path) -> None:
    """Make a socket where systemd is to make one, and the directories before it, and remove it. Raises OSError."""
    there = next(parent for parent in path.parents if os.path.lexists(parent))
    directory = os.open(there, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        trial = f"/proc/self/fd/{directory}/.{path.name[:32]}.{os.getpid()}"
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(trial)
        Path(trial).unlink()
    except OSError as error:
        raise OSError(error.errno, f"{there}: {error.strerror}") from error
    finally:
        os.close(directory)


class Change:
    """From the addresses that there are to those that are wanted. Without `wanted` nothing changes."""

    def __init__(self, app: App, wanted: dict[str, Any] | None) -> None:
        self.app = app
        self.texts = units(app)
        self.now = layout(app, self.texts)
        self.after = self.now
        self.target = self.texts
        self.options = Options()
        self.reverse: Change | None = None
        if wanted is not None:
            self.options = Options(wanted["backlog"], wanted["mode"], wanted["user"], wanted["group"])
            self.after = plan(self.now, parse(wanted["bind"]), app.name)
            self.target = {unit: unit_text(app, unit, self.after, self.options) for unit in self.after}
        self.opened = [
            unit for unit, held in self.after.items() if unit not in self.now or set(held) - set(self.now[unit])
        ]
        if self.now.get(app.socket) and not self.after[app.socket]:
            self.opened.append(app.socket)
        self.closed = [unit for unit in self.now if unit not in self.after]

    @property
    def moves(self) -> bool:
        """Whether an address is opened or closed."""
        return self.now != self.after

    @property
    def differs(self) -> bool:
        """Whether there is anything to do."""
        return {u: meaning(t) for u, t in self.texts.items()} != {u: meaning(t) for u, t in self.target.items()}

    @property
    def beside(self) -> bool:
        """Whether a second instance can serve meanwhile. It would hold on to what NAME.socket is to give up."""
        return self.app.socket not in self.opened

    @property
    def kept(self) -> list[str]:
        """The units beside NAME.socket that stay open as they are."""
        return sorted(u for u in self.now if u in self.after and u not in (self.app.socket, *self.opened))

    def check(self) -> None:
        """Try to open what is new. Raises CtlError when that is not possible, before anything has changed."""
        if not all(address.host for addresses in self.after.values() for address in addresses):
            _ = self.owners
        held = [address for addresses in self.now.values() for address in addresses]
        ours = {address.port for address in held if address.host} if systemd.active(self.app.socket) else set()
        for unit in self.opened:
            for address in self.after[unit]:
                # Where we have the port ourselves (of another address, or of all), only the change itself can tell.
                if address not in held and not (address.host and address.port in ours):
                    try_to_open(address)

    def write(self) -> list[str]:
        """Put the units in place; those that it returns have to be restarted together with the service.

        The reload has systemd close what leaves. The service still has it, until it is restarted.
        """
        if not self.differs:
            return []
        app, up = self.app, systemd.active(self.app.socket)
        Ours(app.name, app.base).add(*(f"/{(app.system / unit).relative_to(app.base)}" for unit in self.target))
        if self.moves and up:
            durable(noted(app), json.dumps({"opened": self.opened, "closed": self.closed}))
        for unit, text in self.target.items():
            durable(app.system / unit, text)
        for unit in self.closed:
            (app.system / unit).unlink()
        run("systemctl", "daemon-reload")
        for unit in self.after if up else []:
            self.adjust(unit)
        return self.opened if up else []

    def adjust(self, unit: str) -> None:
        """Give the open unix sockets of a unit their new mode and owners."""
        if unit in self.opened or meaning(self.texts[unit]) == meaning(self.target[unit]):
            return
        for address in self.after[unit]:
            if not address.host:
                self.give(address.text)

    def give(self, path: str) -> None:
        """Give a unix socket its mode and owners. By a descriptor: others may be able to put a link in its place."""
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                os.chown(f"/proc/self/fd/{descriptor}", *self.owners)
                Path(f"/proc/self/fd/{descriptor}").chmod(int(self.options.mode, 8))
        finally:
            os.close(descriptor)

    @property
    def owners(self) -> tuple[int, int]:
        """The numbers of the user and the group that unix sockets belong to. Raises CtlError without such."""
        try:
            return pwd.getpwnam(self.options.user).pw_uid, grp.getgrnam(self.options.group).gr_gid
        except KeyError as error:
            raise CtlError(
                f"gunicorn_fastapi_socket_user, gunicorn_fastapi_socket_group: {error.args[0]} on this host. "
                "Nothing has changed. Install the proxy first, or name another one"
            ) from None

    def finish(self) -> None:
        """Have systemd forget what was closed. Raises CtlError when something could not be opened."""
        if self.closed:
            run("systemctl", "stop", *self.closed, check=False)
            run("systemctl", "reset-failed", *self.closed, check=False)
        for unit in self.opened:
            if not systemd.active(unit):
                for address in self.after[unit]:
                    try_to_open(address)
                raise CtlError(f"gunicorn_fastapi_bind: {unit} could not be opened (journalctl -u {unit})")
        noted(self.app).unlink(missing_ok=True)

    def undo(self) -> list[str]:
        """Take back what `write` has done; returns what has to be restarted together with the service."""
        if not self.texts:
            for unit in self.target:
                (self.app.system / unit).unlink(missing_ok=True)
            return []
        if self.target == self.texts:
            return []
        self.reverse = Change(self.app, {"bind": self.bind(self.now), **self.former()})
        return self.reverse.write()

    def undone(self) -> None:
        """See that the previous addresses are open again. Raises CtlError when one is not."""
        if self.reverse:
            self.reverse.finish()

    def bind(self, addresses: Layout) -> list[str]:
        """The addresses of a layout as operators give them."""
        return [address.text for held in addresses.values() for address in held]

    def former(self) -> dict[str, Any]:
        """What the addresses have had in common."""
        text = "".join(self.texts.values())
        given = {
            "backlog": settings(text, "Backlog"),
            "mode": settings(text, "SocketMode"),
            "user": settings(text, "SocketUser"),
            "group": settings(text, "SocketGroup"),
        }
        return {key: type(default)((given[key] or [default])[-1]) for key, default in Options()._asdict().items()}

    def told(self) -> str:
        """What a change did."""
        before, after = set(self.bind(self.now)), set(self.bind(self.after))
        parts = [(word, sorted(texts)) for word, texts in (("opened", after - before), ("closed", before - after))]
        return "addresses: " + "; ".join(f"{word} {', '.join(texts)}" for word, texts in parts if texts)


def noted(app: App) -> Path:
    """Where it is noted that addresses are being changed; a reboot ends that."""
    return app.runtime / "addresses.json"


def interrupted(app: App) -> list[str] | None:
    """What a change that was interrupted has still to restart together with the service; None without one."""
    try:
        units = json.loads(read_bounded(noted(app), 65536))["opened"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return [str(unit) for unit in units if (app.system / str(unit)).is_file()]
