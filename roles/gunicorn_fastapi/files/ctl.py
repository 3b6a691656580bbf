#!/usr/bin/python3
"""Look at the releases of one application and hand over between them.

Installed as NAMEctl; NAME is the application. Standard library only, so that it works when
nothing else does. Every command leaves an application that serves, or says why it does not.
"""

import argparse
import contextlib
import dataclasses
import datetime
import getpass
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SYSTEM = Path("/etc/systemd/system")
TRANSIENT = Path("/run/systemd/system")
"""Units that a reboot forgets: a handover that lost its power leaves none of them behind."""

DEATHS = 3
"""Workers that may die before the first answer; one may have bad luck, three have a reason."""

LASTING = 60
"""Seconds that the service has to have been up, or else its next failure is one more in a row."""

LONGEST = 60
"""Most seconds between two tries of a service that fails in a row. systemd itself waits the first of them."""

REPLACED = 1.0
"""Seconds within which gunicorn has replaced a dead worker. Otherwise it has given up, and waits only for
the others to leave, for as long as their graceful timeout allows."""


TRAFFIC_SECONDS = 300
TRAFFIC_RECORDS = 2000
"""What the status looks at to tell how many requests there are: the log of these seconds, and no more records."""


class CtlError(Exception):
    """What failed, why, and what to do next; for the operator, as it stands."""


def run(*command: str, check: bool = True) -> str:
    """What a command prints. Raises CtlError with its own words when it fails and `check` is set."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise CtlError(f"{' '.join(command)}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return done.stdout


def show(unit: str) -> dict[str, str]:
    """The properties of a unit, as systemctl prints them. A unit that is not there has empty ones."""
    wanted = (
        "ActiveState,SubState,MainPID,StatusText,MemoryCurrent,Description,"
        "ActiveEnterTimestamp,ActiveEnterTimestampMonotonic,ActiveExitTimestampMonotonic,"
        "InactiveExitTimestamp,NRestarts"
    )
    lines = run("systemctl", "show", f"--property={wanted}", unit).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def active(unit: str) -> bool:
    """Whether a unit is up or on its way up."""
    return show(unit)["ActiveState"] in ("active", "activating", "reloading")


@dataclasses.dataclass(frozen=True)
class App:
    """One application on this host: where its releases are and what its units are called."""

    name: str

    @property
    def root(self) -> Path:
        return Path("/opt") / self.name

    @property
    def service(self) -> str:
        return f"{self.name}.service"

    @property
    def unit(self) -> Path:
        """The file that says which release serves. Replacing it is the switch."""
        return SYSTEM / self.service

    def socket(self, instance: str) -> Path:
        """Where exactly this instance (main, candidate, preflight) answers, and no other."""
        return Path("/run") / self.name / f"{instance}.sock"

    @property
    def failures(self) -> Path:
        """What is known of the service's failures in a row (see ``command_backoff``); a reboot forgets it."""
        return Path("/run") / self.name / "failures.json"

    def releases(self) -> list[str]:
        """Complete releases, the latest built first."""
        manifests = self.root.glob("releases/*/manifest.json")
        return [m.parent.name for m in sorted(manifests, key=lambda m: m.stat().st_mtime, reverse=True)]

    def manifest(self, release: str) -> dict[str, Any]:
        """What a release was built from. Raises CtlError when there is no such release."""
        try:
            manifest: dict[str, Any] = json.loads((self.root / "releases" / release / "manifest.json").read_text())
        except FileNotFoundError:
            known = ", ".join(self.releases()) or "none"
            raise CtlError(f"release {release}: there is no such release on this host. There are: {known}") from None
        return manifest

    def current(self) -> str:
        """The release that the unit names, empty when nothing was ever taken into service."""
        try:
            return self.release_in(self.unit.read_text())
        except FileNotFoundError:
            return ""

    def running(self, unit: str) -> str:
        """The release that a unit's main process was really started from, empty when it does not run."""
        pid = show(unit)["MainPID"]
        try:
            return self.release_in(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode())
        except FileNotFoundError:
            return ""

    def release_in(self, text: str) -> str:
        match = re.search(rf"{re.escape(str(self.root))}/releases/(\w+)/", text)
        return match.group(1) if match else ""

    def history(self) -> list[dict[str, Any]]:
        """The handovers of this host, the oldest first. A line that was cut off by a power loss is left out."""
        records = []
        with contextlib.suppress(FileNotFoundError):
            for line in (self.root / "history.jsonl").read_text().splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    records.append(json.loads(line))
        return records

    def served(self) -> str:
        """The release that the history says is in service. Another one than the current one was interrupted."""
        return next((str(record["to"]) for record in reversed(self.history()) if record["outcome"] == "done"), "")

    def previous(self) -> str:
        """The release that served before the current one and is still there. Empty when there is none."""
        current, there = self.current(), self.releases()
        for record in reversed(self.history()):
            served = [record["to"]] if record["outcome"] == "done" else []
            for release in [*served, record["from"]]:
                if release != current and release in there:
                    return str(release)
        return ""

    def resolve(self, word: str) -> str:
        """The release that a word of the command line means: an id, its beginning, "current" or "previous"."""
        if word == "previous":
            if not self.previous():
                raise CtlError(f"{self.name}: no other release has served on this host, so there is none to go back to")
            return self.previous()
        if word == "current":
            if not self.current():
                raise CtlError(f"{self.name}: no release is in service. Deploy one first")
            return self.current()
        matches = [release for release in self.releases() if release.startswith(word)]
        if len(matches) == 1:
            return matches[0]
        self.manifest(word)
        return word


# --- Asking an instance whether it works ------------------------------------------------------------


def children(pid: int) -> set[int]:
    """Process ids of a process's children."""
    with contextlib.suppress(OSError):
        return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    return set()


def ask(address: Path, path: str) -> socket.socket:
    """A connection on which the health path has been asked for. It waits in the queue until a worker takes it."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(address))
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: health\r\nConnection: close\r\n\r\n"
    connection.sendall(request.encode())
    return connection


def status_of(connection: socket.socket) -> int:
    """The status code of the answer that has arrived, 0 when the worker left without one."""
    # Without http.client, which takes longer to import than all the rest of this.
    with contextlib.suppress(OSError), connection.makefile("rb") as answer:
        match = re.match(rb"HTTP/1\.[01] (\d{3})\b", answer.readline(1024))
        return int(match.group(1)) if match else 0
    return 0


def recycle(pid: int, timeout: float) -> None:
    """Have gunicorn replace its workers, and wait until the former ones have left, or gunicorn has.

    Raises CtlError when that takes longer than `timeout` seconds; then they still may leave later.
    """
    former = children(pid)
    os.kill(pid, signal.SIGHUP)
    deadline = time.monotonic() + timeout
    while former & children(pid):
        if time.monotonic() >= deadline:
            raise CtlError(f"{len(former & children(pid))} of the former workers did not leave within {timeout:g} s")
        time.sleep(0.1)


def probe(address: Path, path: str, timeout: float, pid: int, kill: bool = True) -> str:
    """Wait until an instance answers its health path with 2xx, and say how that went.

    503 is "not yet"; any other answer is final. Raises CtlError as soon as that is certain: on such an
    answer, when the main process `pid` is gone or has given up, when workers die one after the other, or
    after `timeout` seconds. An instance that answered nothing at all is killed, because it would not heed
    a request to stop either, unless `kill` is false.
    """
    begin = time.monotonic()
    seen: set[int] = set()
    most = 0
    complete_at = begin
    last = "no answer"
    with contextlib.ExitStack() as opened:
        try:
            main = os.pidfd_open(pid)
        except ProcessLookupError:
            raise CtlError(f"gunicorn ended before {path} was answered") from None
        opened.callback(os.close, main)
        connection = opened.enter_context(ask(address, path))
        while (left := begin + timeout - time.monotonic()) > 0:
            ready, _, _ = select.select([main, connection.fileno()], [], [], min(left, 0.1))
            if main in ready:
                raise CtlError(f"gunicorn ended before {path} was answered")
            if connection.fileno() in ready:
                status = status_of(connection)
                connection.close()
                if 200 <= status < 300:
                    return f"{path} answered {status} after {time.monotonic() - begin:.1f} s"
                if status not in (0, 503):
                    if status >= 500:
                        time.sleep(0.5)  # the exception behind it is logged after the answer
                    raise CtlError(f"GET {path} answered {status}, and only 2xx counts as healthy")
                last = f"last answer {status}" if status else "the connection was closed without an answer"
                time.sleep(min(left, 0.2))
                connection = opened.enter_context(ask(address, path))
            alive = children(pid)
            seen |= alive
            dead = len(seen - alive)
            most = max(most, len(alive))
            if len(alive) == most:
                complete_at = time.monotonic()
            if dead >= DEATHS:
                failure = f"{dead} workers died one after the other before {path} was answered"
                break
            if dead and time.monotonic() - complete_at > REPLACED:
                failure = f"a worker ended before {path} was answered, and gunicorn gave up"
                break
        else:
            failure = f"{path} did not answer 2xx within {timeout:g} s ({last})"
    if kill:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    raise CtlError(failure)


# --- The journal ------------------------------------------------------------------------------------


LEVELS = {"2": "CRITICAL", "3": "ERROR", "4": "WARNING", "6": "INFO", "7": "DEBUG"}
"""Names of the journal's priorities, as Python's logging has them."""


def entries(*query: str) -> list[dict[str, Any]]:
    """The records that match a query of journalctl, the oldest first; those that the caller may read."""
    run("journalctl", "--sync", check=False)  # needs root; without it the last moments may be missing
    # --all: without it, long messages and those with unprintable characters are left out.
    lines = run("journalctl", "--quiet", "--output=json", "--all", *query, check=False).splitlines()
    return [json.loads(line) for line in lines]


def readable(entry: dict[str, Any]) -> str:
    """A record as the format "plain" has it, whatever its own is; without the time, when it is in another."""
    message = entry.get("MESSAGE") or ""
    text = message if isinstance(message, str) else bytes(message).decode(errors="replace")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        line = json.loads(text)
        said = f"{line['level']} - {line['logger']} - {line['message']}"
        return f"{said}\n{line['exception']}" if "exception" in line else said
    logger = entry.get("LOGGER")
    if logger and f" - {logger} - " not in text.partition("\n")[0]:
        return f"{LEVELS.get(entry['PRIORITY'], 'NOTICE')} - {logger} - {text}"
    return text


def last_words(match: str, since: float = 0) -> list[str]:
    """The lines of the records that match FIELD=VALUE, since a time (of the epoch), of at most the latest 200."""
    latest = entries(match, "--lines=200", f"--since=@{since:.6f}")
    return [line for entry in latest for line in readable(entry).splitlines()]


def reason_in(lines: list[str]) -> str:
    """The line that tells most: an exception's last one, the last warning or error, or else the last print.

    Where gunicorn refuses one of its settings, the line before the exception is the one that names it.

    What gunicorn says when it ends because of a worker is no reason: the worker has told.
    """
    consequence = (
        r"gunicorn\.errors\.HaltServer|(.* - )?CRITICAL - root - Uncaught exception"
        r"|.* gunicorn\.error - (Shutting down|Reason|Workers have died|Worker \(pid:\d+\) exited)"
    )
    lines = [line for line in lines if not re.match(consequence, line)]
    exception = r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt|Fault)\b"
    setting = r"Invalid value for \w+: "
    for pattern in (
        setting,
        exception,
        r"(.* - )?(WARNING|ERROR|CRITICAL) - ",
        r"(?!\s|Traceback|During|(\S+ \S+ - )?[A-Z]+ - ).",
    ):
        for line in reversed(lines):
            if re.match(pattern, line):
                return line
    return lines[-1] if lines else ""


def sandbox_hint(reason: str) -> str:
    """What to know about a reason that may be the sandbox's doing, in brackets. Empty when it is not."""
    if "SIGSYS" in reason:
        return " (killed for a forbidden system call; the kernel's audit has its number: journalctl --grep=type=1326)"
    # EPERM, EACCES, EROFS, EAFNOSUPPORT: what the sandbox answers, though not it alone.
    if re.search(r"\[Errno (1|13|30|97)\]", reason):
        return " (maybe the sandbox denies that; the traceback says which call or path it was)"
    return ""


def say(app: App, text: str, release: str, error: bool = False) -> None:
    """Tell whoever waits, and the journal."""
    with contextlib.suppress(OSError):  # nobody waits any more, and the handover goes on
        print(text, file=sys.stderr if error else sys.stdout, flush=True)
    tell(app, text, release, error)


def tell(app: App, text: str, release: str, error: bool = False) -> None:
    """Tell the journal, where it is found under the application's own unit."""
    fields = {
        "MESSAGE": text,
        "PRIORITY": "3" if error else "5",
        "SYSLOG_IDENTIFIER": f"{app.name}ctl",
        "OBJECT_SYSTEMD_UNIT": app.service,
        "RELEASE": release,
    }
    # The native protocol, with the length before each value: a reason may have many lines, in one record.
    packed = [(name.encode(), value.encode()) for name, value in fields.items()]
    datagram = b"".join(name + b"\n" + len(value).to_bytes(8, "little") + value + b"\n" for name, value in packed)
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.sendto(datagram, "/run/systemd/journal/socket")


# --- Handing over -----------------------------------------------------------------------------------


def durable(path: Path, text: str) -> None:
    """Replace a file's content so that a power loss leaves the old or the new one, never a part."""
    building = path.with_name(f".{path.name}.building")
    with building.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    building.chmod(0o644)
    building.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


class Handover:
    """One release takes the place of another."""

    def __init__(self, app: App, release: str) -> None:
        self.app = app
        self.release = release
        self.manifest = app.manifest(release)

    def unit_text(self, unit: str) -> str:
        return (self.app.root / "releases" / self.release / "systemd" / unit).read_text()

    def start(self, unit: str, verb: str = "start") -> str:
        """Start a unit and wait until its own probe says that it is healthy; says how long that took.

        Raises CtlError with the application's reason, and leaves the unit as it failed.
        """
        begin, since = time.monotonic(), time.time()
        done = subprocess.run(["systemctl", verb, unit], capture_output=True, text=True, check=False)
        if done.returncode:
            # Not by the invocation: a client that waits may have started the next one by now.
            lines = last_words(f"_SYSTEMD_UNIT={unit}", since)
            words = "\n".join(f"    {line}" for line in lines[-20:])
            reason = reason_in(lines) or done.stderr.strip()
            raise CtlError(f"{reason}{sandbox_hint(reason)}\n{words}")
        return f"{time.monotonic() - begin:.1f} s"

    @contextlib.contextmanager
    def instance(self, kind: str) -> Iterator[str]:
        """A second instance of the application for as long as the block lasts; gives its time to start."""
        names = [f"{self.app.name}-{kind}.socket", f"{self.app.name}-{kind}.service"]
        TRANSIENT.mkdir(exist_ok=True)
        for name in names:
            (TRANSIENT / name).write_text(self.unit_text(name))
        extensions = SYSTEM / f"{self.app.service}.d"
        link = TRANSIENT / f"{names[1]}.d"
        link.unlink(missing_ok=True)
        if extensions.is_dir():  # what the operator added to the service holds for this instance too
            link.symlink_to(extensions)
        run("systemctl", "daemon-reload")
        try:
            # A former candidate may still run, where the service could not be brought up.
            yield self.start(names[1], "restart")
        finally:
            if show(self.app.service)["ActiveState"] == "active" or not active(names[1]) or kind == "preflight":
                remove_instance(self.app, kind)
            else:
                say(self.app, f"{self.app.service} is not up, so {names[1]} goes on serving", self.release, error=True)

    def preflight(self) -> None:
        """Boot the release where no client can reach it. Raises CtlError when it does not work."""
        try:
            with self.instance("preflight") as took:
                say(self.app, f"release {self.release}: preflight passed in {took}", self.release)
        except CtlError as failure:
            serving = self.app.current()
            keeps = f"{self.app.name} keeps serving {serving}" if serving else "no client ever saw it"
            raise CtlError(
                f"release {self.release}: preflight failed; {keeps} "
                f"(journalctl -u {self.app.name}-preflight): {failure}"
            ) from None

    def switch(self) -> str:
        """Put the release's unit in place and restart on it. Puts the old one back when that fails."""
        app = self.app
        before = app.unit.read_text() if app.unit.exists() else ""
        durable(app.unit, self.unit_text(app.service))
        run("systemctl", "daemon-reload")
        try:
            took = self.start(app.service, "restart")
        except CtlError as failure:
            if not before:
                run("systemctl", "stop", app.service, f"{app.name}.socket", check=False)
                app.unit.unlink()
                run("systemctl", "daemon-reload")
                raise CtlError(f"release {self.release}: {app.service} failed: {failure}") from None
            durable(app.unit, before)
            run("systemctl", "daemon-reload")
            run("systemctl", "restart", app.service)
            raise CtlError(
                f"release {self.release}: {app.service} failed on it and serves {app.current()} again: {failure}"
            ) from None
        point(app)
        return took

    def execute(self, proved: bool) -> None:
        """All steps. Raises CtlError after putting everything back as it was."""
        app = self.app
        before = app.current()
        begin = time.monotonic()
        outcome = "failed"
        reason = ""
        say(app, f"handover from {before or 'nothing'} to {self.release} begins", self.release)
        try:
            if not proved:
                self.preflight()
            if active(f"{app.name}.socket"):
                with self.instance("candidate") as took:
                    say(app, f"release {self.release}: serves beside {before} after {took}", self.release)
                    took = self.switch()
                    say(app, f"release {self.release}: {app.service} restarted on it in {took}", self.release)
            else:
                took = self.switch()
                say(app, f"release {self.release}: {app.service} started in {took}", self.release)
            outcome = "done"
        except CtlError as failure:
            reason = str(failure).splitlines()[0]
            raise
        finally:
            record(app, before, self.release, outcome, reason, time.monotonic() - begin)
        say(app, f"handover from {before or 'nothing'} to {self.release} done", self.release)
        if loosened(app):
            say(app, loosened(app), self.release)


def exposure(*unit: str) -> float:
    """What systemd thinks of a unit's sandbox, from 0, the best, to 10."""
    text = run("systemd-analyze", "security", "--no-pager", *unit)
    match = re.search(r"Overall exposure level for \S+: (\d+\.\d)", text)
    if not match:
        raise CtlError(f"systemd-analyze security {' '.join(unit)} told no exposure level")
    return float(match.group(1))


def loosened(app: App) -> str:
    """By how much drop-ins of the running service loosen its sandbox, in words. Empty when they do not."""
    extensions = SYSTEM / f"{app.service}.d"
    if not extensions.is_dir():
        return ""
    # The same sandbox, and no drop-ins.
    alone = app.root / "releases" / app.current() / "systemd" / f"{app.name}-preflight.service"
    try:
        intended, real = exposure("--offline=true", str(alone)), exposure(app.service)
    except CtlError as failure:
        return f"warning: what {extensions} does to the sandbox is unknown: {failure}"
    if real <= intended:
        return ""
    return (
        f"warning: {extensions} raises the exposure of {app.service} from {intended} to {real} "
        f"(systemd-analyze security {app.service})"
    )


def point(app: App) -> None:
    """Have the link `current` name the release that the unit names."""
    building = app.root / ".current.building"
    building.unlink(missing_ok=True)
    building.symlink_to(f"releases/{app.current()}")
    building.replace(app.root / "current")


def remove_instance(app: App, kind: str) -> None:
    """Stop a second instance, if there is one, and forget its units."""
    names = [f"{app.name}-{kind}.service", f"{app.name}-{kind}.socket"]
    files = [TRANSIENT / name for name in [*names, f"{names[0]}.d"]]
    if not any(os.path.lexists(file) for file in files):
        return
    run("systemctl", "stop", *names, check=False)
    for file in files:
        file.unlink(missing_ok=True)
    # A stopped unit that nothing refers to is forgotten without a reload, unless it is remembered as failed.
    run("systemctl", "reset-failed", *names, check=False)


def record(app: App, before: str, after: str, outcome: str, reason: str, seconds: float | None) -> None:
    """Add a line to the history, and wait until it is on the disk."""
    line = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "from": before,
        "to": after,
        "outcome": outcome,
        "reason": reason,
        "seconds": None if seconds is None else round(seconds, 1),
        "by": os.environ.get("HANDOVER_BY", getpass.getuser()),
    }
    with (app.root / "history.jsonl").open("a+b") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":  # the power went while the last line was written
                file.write(b"\n")
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def settle(app: App) -> None:
    """Finish or undo what an interrupted handover left. Changes nothing when nothing was left.

    The unit is only ever replaced while a proved candidate serves, so the service is brought to the
    release that its unit names, and then the candidate goes. Raises CtlError when the service does not
    come up; the candidate goes on serving.
    """
    remove_instance(app, "preflight")
    if not app.current():
        return
    if (TRANSIENT / f"{app.name}-candidate.service").exists():
        run("systemctl", "daemon-reload")
        # A start or restart that is under way by itself is waited for.
        verb = "start" if app.running(app.service) == app.current() else "restart"
        Handover(app, app.current()).start(app.service, verb)
        remove_instance(app, "candidate")
        say(app, f"an interrupted handover was settled: {app.service} serves {app.current()}", app.current())
    # After a loss of power this may be all that is left to do.
    if not is_pointed(app):
        point(app)
    if app.served() != app.current():
        record(app, app.served(), app.current(), "done", "after an interruption", None)


def in_the_background(app: App, release: str, *command: str) -> None:
    """Run a command of this program as a unit of its own, which a lost connection does not end, and wait for it.

    There is one such unit, so there is one handover at a time. Raises CtlError when another is under way.
    """
    unit = f"{app.name}-handover.service"
    state = show(unit)
    if state["ActiveState"] not in ("inactive", "failed"):
        raise CtlError(
            f"{app.name}: {state['Description']} is under way since {state['InactiveExitTimestamp']}. "
            f"Wait until it is over (journalctl -fu {app.name}), then try again"
        )
    by = os.environ.get("SUDO_USER") or getpass.getuser()
    origin = os.environ.get("SSH_CONNECTION", "").split(" ")[0]
    who = f"{by} from {origin}" if origin else by
    me = str(Path(sys.argv[0]).resolve())
    done = subprocess.run(
        [
            "systemd-run", "--quiet", "--collect", "--wait", "--pipe", f"--unit={unit}",
            f"--description=the handover to {release} by {who}", f"--setenv=HANDOVER_BY={who}",
            f"--property=ExecStopPost={me} settle", "--property=TimeoutStopSec=infinity",
            me, *command,
        ],
        check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.returncode)


# --- The commands -----------------------------------------------------------------------------------


def command_handover(app: App, arguments: argparse.Namespace) -> None:
    """Put a release into service, if it is not yet."""
    release = app.resolve(arguments.release)
    if not arguments.again and is_settled(app, release):
        print(f"release {release} is in service already")
        if loosened(app):
            print(loosened(app))
        return
    app.manifest(release)
    options = [option for option in ("again", "proved") if getattr(arguments, option)]
    in_the_background(app, release, "execute", release, *(f"--{option}" for option in options))


def is_pointed(app: App) -> bool:
    """Whether the link `current` names the release that the unit names."""
    link = app.root / "current"
    return link.is_symlink() and link.readlink().name == app.current()


def is_settled(app: App, release: str) -> bool:
    """Whether a release is in service, with nothing left over from a handover."""
    left = [TRANSIENT / f"{app.name}-{kind}.service" for kind in ("preflight", "candidate")]
    serves = app.current() == app.running(app.service) == release and is_pointed(app)
    return serves and not any(file.exists() for file in left)


def command_rollback(app: App, arguments: argparse.Namespace) -> None:
    """Put a release that is already here into service: the one that served before, or a named one."""
    arguments.again = arguments.proved = False
    command_handover(app, arguments)


def command_restart(app: App, arguments: argparse.Namespace) -> None:
    """Start the current release afresh, without losing a request."""
    arguments.release, arguments.again, arguments.proved = "current", True, False
    command_handover(app, arguments)


def command_preflight(app: App, arguments: argparse.Namespace) -> None:
    """Prove a release where no client can reach it."""
    release = app.resolve(arguments.release)
    if not is_settled(app, release):
        in_the_background(app, release, "execute", release, "--preflight-only")


def command_execute(app: App, arguments: argparse.Namespace) -> None:
    """The inside of a handover: runs in a unit of its own."""
    release = arguments.release
    try:
        settle(app)
    except CtlError as failure:
        # The release that comes now is the way out.
        say(app, f"{app.service} does not come up: {failure}", app.current(), error=True)
    try:
        handover = Handover(app, release)
        if not arguments.again and is_settled(app, release):
            say(app, f"release {release} has come into service by that", release)
        elif arguments.preflight_only:
            handover.preflight()
        else:
            handover.execute(arguments.proved)
    except CtlError as failure:
        say(app, str(failure), release, error=True)
        sys.exit(1)


def command_settled(app: App, _: argparse.Namespace) -> None:
    """The release to which a handover would have nothing to do and nothing to tell."""
    if is_settled(app, app.current()) and not loosened(app):
        print(app.current())


def command_settle(app: App, _: argparse.Namespace) -> None:
    """Clear up after an interrupted handover."""
    settle(app)


def command_prune(app: App, arguments: argparse.Namespace) -> None:
    """Remove old releases, never the current one nor the one to roll back to."""
    kept = [release for release in (app.current(), app.previous()) if release]
    kept += [release for release in app.releases() if release not in kept]
    for release in kept[max(arguments.keep, 2) :]:
        directory = app.root / "releases" / release
        (directory / "manifest.json").unlink()
        shutil.rmtree(directory)
        print(f"removed release {release}")
    used = {(release / "venv").resolve().name for release in app.root.glob("releases/*")}
    for virtualenv in app.root.glob("virtualenvs/*"):
        if virtualenv.name not in used:
            shutil.rmtree(virtualenv)
    for directory in app.root.glob("credentials/*"):
        if not (app.root / "releases" / directory.name).exists():
            shutil.rmtree(directory)


def command_probe(app: App, arguments: argparse.Namespace) -> None:
    """Wait until an instance is healthy. systemd asks this at each start and reload."""
    pid = int(os.environ["MAINPID"])
    since = time.time() if arguments.reload else 0
    try:
        if arguments.reload:
            recycle(pid, arguments.timeout)
        address = app.socket(arguments.instance)
        print(probe(address, arguments.path, arguments.timeout, pid, kill=not arguments.reload))
    except CtlError as failure:
        reason = reason_in(last_words(f"_SYSTEMD_INVOCATION_ID={os.environ['INVOCATION_ID']}", since))
        raise CtlError(f"{failure}. {reason}" if reason else str(failure)) from None


def command_backoff(app: App, _: argparse.Namespace) -> None:
    """Wait before a service that has failed is tried again, longer each time, and tell the operator.

    systemd asks this before each start. A start that somebody asked for is not kept waiting.
    """
    unit = show(app.service)
    entered = int(unit["ActiveEnterTimestampMonotonic"]) / 1e6
    exited = int(unit["ActiveExitTimestampMonotonic"]) / 1e6
    restarts, former = int(unit["NRestarts"]), failed_before(app)
    failures, wait = 0, 0
    # Not whether it is above 0: systemd 252 keeps the number when the service is stopped between two tries.
    if restarts > former.get("restarts", 0):
        came_up = entered != former.get("entered", 0)
        failures = 1 if came_up and exited - entered >= LASTING else former.get("failures", 0) + 1
        wait = min(2 ** min(failures - 1, 10), LONGEST) - 1
        # What it said in its last seconds, or else since it was tried.
        since = time.time() - (time.monotonic() - exited) - 5 if came_up else former.get("tried", 0)
        reason = why_it_ended(app, since, came_up)
    tried = time.time() + wait
    state = {"failures": failures, "restarts": restarts, "tried": tried, "entered": entered}
    durable(app.failures, json.dumps(state))
    if failures:
        often = "once" if failures == 1 else f"{failures} times in a row"
        when = f"in {wait} s" if wait else "now"
        tell(app, f"{app.service} has failed {often}. It is tried again {when}. {reason}", app.current(), error=True)
        time.sleep(wait)


def failed_before(app: App) -> dict[str, Any]:
    """What `command_backoff` has noted last. Empty when there was no start since boot."""
    try:
        state: dict[str, Any] = json.loads(app.failures.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return state


def why_it_ended(app: App, since: float, came_up: bool) -> str:
    """The reason of the service itself or, where it had no time to tell one, systemd's."""
    # What goes well is no reason, nor is what the probe and command_backoff themselves have said.
    other = rf"(\S+ \S+ - )?(DEBUG|INFO) - |/\S+ answered |{re.escape(app.service)} has failed "
    lines = [line for line in last_words(f"_SYSTEMD_UNIT={app.service}", since) if not re.match(other, line)]
    exits = [line for line in last_words(f"UNIT={app.service}", since) if "process exited" in line]
    if came_up and exits and "code=exited" not in exits[-1]:
        return exits[-1]  # a signal ended it, whatever it has said shortly before
    return reason_in(lines) or "".join(exits[-1:])


def health(app: App) -> str:
    """What the health path of the running service answers just now, in words."""
    try:
        path = app.manifest(app.running(app.service))["health_path"]
        begin = time.monotonic()
        with contextlib.closing(ask(app.socket("main"), path)) as connection:
            connection.settimeout(5)
            status = status_of(connection)
        took = (time.monotonic() - begin) * 1000
    except PermissionError:
        return "unknown, asking it needs root"
    except (OSError, CtlError) as error:
        return f"not to be asked ({error})"
    return f"{path} answers {status} in {took:.0f} ms" if status else f"{path} does not answer within 5 s"


def traffic(app: App) -> dict[str, float] | None:
    """Requests in the log of the last minutes: how many, how many of them were answered with 5xx, in how many seconds.

    Looks at the latest records only, so that it costs the same under any load. None when there is nothing to see.
    """
    units = [f"_SYSTEMD_UNIT={app.name}{suffix}.service" for suffix in ("", "-candidate")]
    now = time.time()
    latest = entries(*units, f"--since=@{now - TRAFFIC_SECONDS:.6f}", f"--lines={TRAFFIC_RECORDS}")
    matches = [re.search(r" - uvicorn\.access - .* (\d)\d\d$", readable(entry)) for entry in latest]
    statuses = [match.group(1) for match in matches if match]
    if not statuses:
        return None
    whole = len(latest) < TRAFFIC_RECORDS
    seconds = TRAFFIC_SECONDS if whole else now - int(latest[0]["__REALTIME_TIMESTAMP"]) / 1e6
    return {"logged": len(statuses), "failed": statuses.count("5"), "seconds": round(seconds, 1)}


def command_status(app: App, arguments: argparse.Namespace) -> None:
    """What serves, since when, how well, and what happened last."""
    unit = show(app.service)
    candidate = app.running(f"{app.name}-candidate.service")
    memory = unit["MemoryCurrent"]
    up = unit["ActiveState"] == "active"
    handovers = app.history()[-5:]
    requests = traffic(app)
    failed = {} if up else failed_before(app)
    state = {
        "name": app.name,
        "release": app.running(app.service) or app.current(),
        "state": f"{unit['ActiveState']} ({unit['SubState']})",
        "since": unit["ActiveEnterTimestamp"] if up else unit["InactiveExitTimestamp"],
        "status": unit["StatusText"],
        "workers": len(children(int(unit["MainPID"]))),
        "memory": int(memory) if memory.isdigit() else None,
        "health": health(app) if up else "the service is not up",
        "requests": requests,
        "restarts": int(unit["NRestarts"] or 0),
        "failures": failed.get("failures", 0),
        "candidate": candidate,
        # Only root may look into the releases.
        "previous": app.previous() if os.geteuid() == 0 else None,
        "handovers": handovers,
    }
    if arguments.json:
        print(json.dumps(state))
        return
    print(f"{app.name}: release {state['release'] or 'none'}, {state['state']} since {state['since'] or 'never'}")
    print(f"  health    {state['health']}")
    print(f"  workers   {state['workers']}")
    print(f"  status    {state['status']}")
    print(f"  memory    {'unknown' if state['memory'] is None else f'{int(memory) / 2**20:.0f} MiB'}")
    if requests:
        print(
            f"  requests  {requests['logged']} logged in {requests['seconds']:g} s, {requests['failed']} failed (5xx)"
        )
    print(f"  restarts  {state['restarts']} by systemd since the last start")
    if state["failures"]:
        at = datetime.datetime.fromtimestamp(failed["tried"], datetime.UTC).isoformat(timespec="seconds")
        print(f"  failures  {state['failures']} in a row, the next try is at {at} (journalctl -u {app.name} -p err)")
    if candidate:
        print(f"  handover  under way, {candidate} serves beside it")
    print(f"  previous  {'unknown, that needs root' if state['previous'] is None else state['previous'] or 'none'}")
    for entry in handovers:
        print(f"  {entry['time']}  {entry['from'] or '-':12} -> {entry['to']}  {entry['outcome']} {entry['reason']}")


def command_list(app: App, arguments: argparse.Namespace) -> None:
    """The releases on this host, the latest built first."""
    current, previous = app.current(), app.previous()
    rows = []
    for release in app.releases():
        built = (app.root / "releases" / release / "manifest.json").stat().st_mtime
        rows.append(
            {
                "release": release,
                "built": datetime.datetime.fromtimestamp(built, datetime.UTC).isoformat(timespec="seconds"),
                "role": {current: "current", previous: "previous"}.get(release, ""),
            }
        )
    if arguments.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(f"{row['release']}  {row['built']}  {row['role']}".rstrip())


def command_packages(app: App, arguments: argparse.Namespace) -> None:
    """The packages of a release, with their versions and the digests that were accepted."""
    packages = app.manifest(app.resolve(arguments.release)).get("packages", [])
    if arguments.json:
        print(json.dumps(packages))
        return
    for package in packages:
        condition = f" ; {package['condition']}" if package["condition"] else ""
        print(f"{package['name']}=={package['version']}{condition}")
        for digest in package["hashes"]:
            print(f"    {digest}")


def parser(app: App) -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog=f"{app.name}ctl", description=f"Releases of {app.name} on this host.")
    commands: Any = top.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, function: Any, needs_root: bool = True, hidden: bool = False) -> argparse.ArgumentParser:
        summary = (function.__doc__ or "").splitlines()[0]
        shown = {} if hidden else {"help": summary}
        command: argparse.ArgumentParser = commands.add_parser(name, description=summary, **shown)
        command.set_defaults(function=function, needs_root=needs_root, name=name)
        return command

    add("status", command_status, needs_root=False).add_argument("--json", action="store_true")
    add("list", command_list).add_argument("--json", action="store_true")
    packages = add("packages", command_packages)
    packages.add_argument("release", nargs="?", default="current")
    packages.add_argument("--json", action="store_true")
    add("preflight", command_preflight).add_argument("release")
    handover = add("handover", command_handover)
    handover.add_argument("release", help="its id, the beginning of it, or current or previous")
    handover.add_argument("--again", action="store_true", help="even if it is in service already")
    handover.add_argument("--proved", action="store_true", help="its preflight has just passed: do not repeat it")
    add("rollback", command_rollback).add_argument("release", nargs="?", default="previous")
    add("restart", command_restart)
    add("prune", command_prune).add_argument("--keep", type=int, default=5, metavar="N")
    asking = add("probe", command_probe, hidden=True)
    asking.add_argument("instance", choices=["main", "candidate", "preflight"])
    asking.add_argument("path")
    asking.add_argument("--timeout", type=float, default=60, metavar="SECONDS")
    asking.add_argument("--reload", action="store_true", help="have the workers replaced before")
    execute = add("execute", command_execute, hidden=True)
    execute.add_argument("release")
    execute.add_argument("--again", action="store_true")
    execute.add_argument("--proved", action="store_true")
    execute.add_argument("--preflight-only", action="store_true")
    add("settle", command_settle, hidden=True)
    add("backoff", command_backoff, hidden=True)
    add("settled", command_settled, hidden=True)
    return top


def main() -> None:
    app = App(Path(sys.argv[0]).name.removesuffix("ctl"))
    arguments = parser(app).parse_args()
    try:
        if arguments.needs_root and os.geteuid() != 0:
            raise CtlError(f"{app.name}ctl {arguments.name} needs root. Try: sudo {app.name}ctl {arguments.name}")
        arguments.function(app, arguments)
    except CtlError as failure:
        sys.exit(f"{app.name}ctl: {failure}")


if __name__ == "__main__":
    main()
