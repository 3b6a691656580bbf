"""What carries an application's name on this host, and what of that is provably the application's.

The proof is a record of root's own: it lists what was made for the application, and nothing else is. Stands alone,
for it is asked before anything is installed:  python3 -I -S - check|claim NAME [TIMER...]
"""

import grp
import json
import os
import pwd
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

GECOS = "application of gunicorn_fastapi"
"""How the role describes the users that it makes."""

UNIT_DIRECTORIES = (
    "etc/systemd/system.control", "run/systemd/system.control", "run/systemd/transient", "run/systemd/generator.early",
    "etc/systemd/system", "etc/systemd/system.attached", "run/systemd/system", "run/systemd/system.attached",
    "run/systemd/generator", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system",
    "run/systemd/generator.late",
)  # fmt: skip
KINDS = ("service", "socket", "slice", "target", "timer", "path", "scope", "mount")
INSTANCES = (
    "probe", "preflight", "candidate", "import", "release", "run-[0-9a-f]+", "handover", "maintenance", "pause",
    "watch", "build", "interpreter", "metrics", "address-[0-9a-f]+",
    "[a-z][a-z0-9_]*-[0-9a-f]{1,12}@", "processes",
)  # fmt: skip
"""What stands between the name and the kind of a unit, beside nothing."""

METRICS = ("-metrics.socket", "-metrics.service")
"""How the names of the units end that serve the metrics, where they are wanted."""

COMMANDS = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")

RESERVED = re.compile(
    r"apache2|apparmor|apt|auditd|avahi|bind|caddy|chrony|cloud|containerd|cron|dbus|dnsmasq|docker|dovecot|dpkg|exim4"
    r"|ftp|grafana|gunicorn_fastapi|haproxy|httpd|init|journal|kubelet|libvirt|lxc|lxd|machine|mariadb|memcached|mongodb"
    r"|mysql|named|network|nfs|nginx|nscd|ntp|ntpsec|pam|podman|polkitd|postfix|postgres|postgresql|private|prometheus"
    r"|python|rabbitmq|redis|root|rsync|rsyslog|samba|snapd|squid|ssh|sshd|ssl|sudo|system|systemd|traefik|udev|unbound|user"
    # NAMEctl would take the place of theirs.
    r"|alsa|apache|audit|bluetooth|boot|brightness|coredump|cups|dax|etcd|home|import|kube|lldp|nd|nm|oom|portable|resolve"
    r"|smart|storage|supervisor|teamd|udisks|update|wp"
)
"""Names of the system, and of packages that bring a user, a unit, a directory or a command when they come."""


class Ours:
    """One application's name on a host."""

    def __init__(self, name: str, base: Path = Path("/"), owner: int = 0) -> None:
        self.name = name
        self.base = base
        self.owner = owner
        self.record = base / "var/lib/gunicorn_fastapi/applications" / f"{name}.json"
        self.state = base / "var/lib" / name

    def standard(self) -> list[str]:
        """What an installation makes, whatever else it makes."""
        system = [f"{self.name}{suffix}" for suffix in (".service", ".socket", ".slice", "-probe.socket", *METRICS)]
        return [
            f"user {self.name}",
            f"group {self.name}",
            *(f"/{place}/{self.name}" for place in ("opt", "var/lib", "run", "var/cache")),
            f"/usr/local/sbin/{self.name}ctl",
            *(f"/etc/systemd/system/{unit}" for unit in system),
        ]

    def made(self) -> list[str] | None:
        """What the record lists, None without one. A record that others than root could have written is none."""
        try:
            for path, kind in ((self.record.parent, stat.S_ISDIR), (self.record, stat.S_ISREG)):
                status = path.lstat()
                if not kind(status.st_mode) or status.st_uid != self.owner or status.st_mode & 0o022:
                    return None
            listed = json.loads(self.record.read_text(encoding="utf-8"))["made"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return [str(thing) for thing in listed] if isinstance(listed, list) else None

    def former(self) -> bool:
        """Whether a version of the role that kept no record has installed the application here."""
        user = self.user()
        if user is None or user.pw_gecos != GECOS or user.pw_dir != "/nonexistent" or user.pw_uid >= 1000:
            return False
        try:
            found = [(self.base / "opt" / self.name).lstat(), (self.base / "opt" / self.name / "releases").stat()]
        except OSError:
            return False
        return all(status.st_uid == self.owner for status in found) and stat.S_ISDIR(found[1].st_mode)

    def user(self) -> pwd.struct_passwd | None:
        """The user of that name."""
        try:
            return pwd.getpwnam(self.name)
        except KeyError:
            return None

    def group(self) -> grp.struct_group | None:
        """The group of that name, also of a source that lists none, such as a directory service."""
        try:
            return grp.getgrnam(self.name)
        except KeyError:
            return None

    def there(self) -> Iterator[str]:
        """All that has the name, or a name that follows from it."""
        if self.user():
            yield f"user {self.name}"
        if self.group():
            yield f"group {self.name}"
        for place in ("opt", "var/lib", "run", "var/cache"):
            if os.path.lexists(self.base / place / self.name):
                yield f"/{place}/{self.name}"
        yield from self.units()
        if os.path.lexists(self.base / "etc/init.d" / self.name):
            yield f"/etc/init.d/{self.name}"
        seen = set()
        for place in COMMANDS:
            path = self.base / place / f"{self.name}ctl"
            if os.path.lexists(path) and path.resolve() not in seen:
                seen.add(path.resolve())
                yield f"/{place}/{self.name}ctl"

    def units(self) -> Iterator[str]:
        """Files of units with such a name, and the directories of their drop-ins, in any directory of systemd's."""
        wanted = re.compile(
            rf"{self.name}(-({'|'.join(INSTANCES)}))?\.({'|'.join(KINDS)})(\.d)?|{self.name}-\.({'|'.join(KINDS)})\.d"
        )
        made, seen = self.made() or [], set()
        for place in UNIT_DIRECTORIES:
            directory = self.base / place
            if not directory.is_dir() or directory.resolve() in seen:  # /lib is a link to /usr/lib
                continue
            seen.add(directory.resolve())
            found = (f"/{place}/{entry}" for entry in sorted(p.name for p in directory.iterdir()))
            # Timers have names that others' units could have, too: only the record tells which are the application's.
            yield from (path for path in found if wanted.fullmatch(path.rpartition("/")[2]) or path in made)

    def taken(self, timers: list[str]) -> list[str]:
        """Units of somebody else that have the names of such timers, or of their jobs."""
        wanted = re.compile(rf"{self.name}-({'|'.join(timers)})(-[0-9a-f]{{1,12}})?\.(service|timer)")
        made = self.made() or []
        found = (path for place in UNIT_DIRECTORIES for path in (self.base / place).glob(f"{self.name}-*"))
        paths = {f"/{path.relative_to(self.base)}" for path in found if timers and wanted.fullmatch(path.name)}
        return sorted(paths.difference(made))

    def foreign(self) -> list[str]:
        """What has the name and is not provably the application's."""
        made = self.made()
        installed = made is not None and f"user {self.name}" in made
        if made is None and self.former():
            made, installed = self.standard(), True
        found = []
        for thing in self.there():
            # What an operator adds to a service of ours ("systemctl edit", "systemctl set-property") is no obstacle,
            # and what runs beside it leaves its units in /run.
            addition = installed and re.match(
                rf"/(etc|run)/systemd/system(\.control)?/.*\.d$|/run/systemd/(system|transient)/{self.name}-", thing
            )
            if thing not in (made or []) and not addition:
                found.append(thing if " " in thing else f"{self.kind(thing)} {thing}")
        user = self.user()
        if user and f"user {self.name}" in (made or []) and user.pw_gecos != GECOS:
            found.append(f"user {self.name} (described as {user.pw_gecos!r}, not as {GECOS!r})")
        return found

    def kind(self, thing: str) -> str:
        """What an operator calls such a path."""
        if thing.startswith(("/opt", "/var", "/run/" + self.name)):
            return "directory"
        if "/systemd/" in thing or "/init.d/" in thing:
            return "drop-ins" if thing.endswith(".d") else "unit"
        return "command"

    def refusal(self) -> str:
        """Why the name cannot be had, and what to do; empty when it can."""
        foreign = self.foreign()
        if RESERVED.fullmatch(self.name) and self.made() is None and not self.former():
            there = f", and is there already ({', '.join(foreign)})" if foreign else ""
            return (
                f"{self.name} is a name of the system or of a well-known package{there}. "
                "Choose another name for the application, such as shop"
            )
        if not foreign:
            return ""
        told = f"{self.name} is taken on this host: {', '.join(foreign)}, not managed by this role. "
        if foreign == [f"directory /var/lib/{self.name}"]:
            # An uninstallation by a version that kept no record.
            record = json.dumps({"made": [f"/var/lib/{self.name}"]})
            return (
                f"{told}Choose another name, or move it away. If the application itself wrote it before it was "
                f"uninstalled, record that: echo '{record}' | sudo install -D -m 644 /dev/stdin {self.record}"
            )
        return f"{told}Choose another name, or remove what is in the way"

    def write(self, made: list[str]) -> None:
        """Replace the record."""
        self.record.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        building = self.record.with_name(f".{self.record.name}.building")
        building.unlink(missing_ok=True)
        try:
            with os.fdopen(os.open(building, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(json.dumps({"name": self.name, "made": sorted(set(made))}, indent=1) + "\n")
                file.flush()
                os.fsync(file.fileno())
            building.replace(self.record)
        except OSError as error:
            building.unlink(missing_ok=True)
            error.filename = str(self.record)  # where there is no room
            raise
        directory = os.open(self.record.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)

    def add(self, *things: str) -> None:
        """Note something before it is made."""
        made = self.made() or []
        if not set(things) <= set(made):
            self.write([*made, *things])

    def marked(self) -> bool:
        """Whether the record names all that an installation makes."""
        return set(self.standard()) <= set(self.made() or [])

    def claim(self) -> bool:
        """Note that all of this name is the application's; whether that is new. Raises ValueError if it is not."""
        refusal = self.refusal()
        if refusal:
            raise ValueError(refusal)
        if self.marked():
            return False
        self.add(*self.standard())
        return True


def main() -> None:
    action, name, *timers = sys.argv[1:]
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,30}", name):
        sys.exit(f"{name}: no name of an application")
    ours = Ours(name)
    if action == "claim":
        try:
            print(json.dumps({"changed": ours.claim()}))
        except ValueError as refusal:
            sys.exit(str(refusal))
    else:
        user = ours.user()
        print(
            json.dumps(
                {
                    "refusal": ours.refusal(),
                    "marked": ours.marked(),
                    "taken": ours.taken(timers),
                    "there": list(ours.there()),
                    "user": user is not None and user.pw_gecos == GECOS,
                }
            )
        )


if __name__ == "__main__":
    main()
