"""What gunicorn does at the turning points of its life and its workers', for ``gunicorn.conf.py``::

    hooks = Hooks("shop", release="0d6a72e61398")
    workers = hooks.workers("auto", worker_memory=128)
    hooks.uvicorn({"root_path": "/shop"})
    globals().update(hooks.settings({"max_requests": 10000, "post_fork": "shop.tracing.post_fork"}))

An operator's hooks are called after the role's own. What they raise is logged and harms nothing, and what they do to
logging does not silence the server.
"""

import contextlib
import functools
import inspect
import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from gunicorn_fastapi import closed, counts, endings, metrics, peers, sizing, steering, upstream
from gunicorn_fastapi.crashes import Crashes
from gunicorn_fastapi.departures import Departures
from gunicorn_fastapi.last_words import LOST
from gunicorn_fastapi.log import Kept, MasterLog
from gunicorn_fastapi.worker import DrainingUvicornWorker

VARIABLE = "gunicorn_fastapi_gunicorn_settings"
OPTIONS = "gunicorn_fastapi_uvicorn_settings"

logger = logging.getLogger("gunicorn.error")

PROVING = 2
"""Workers of a preflight: what two of them can share, more can."""

OWN = ("on_starting", "when_ready", "pre_fork", "post_fork", "worker_exit", "child_exit", "nworkers_changed")
"""The hooks that the role has a use for."""


def instance() -> str:
    """Which of the service's units this is: main, candidate or preflight."""
    return os.environ.get("GUNICORN_FASTAPI_INSTANCE", "main")


def raise_file_limit() -> None:
    """systemd's soft limit of 1024 is for programs that use select(); each connection takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))


def take_sockets() -> None:
    """systemd 257 passes the sockets to the process by the number that the host has for it, where it has its own."""
    if os.getpid() == 1 and "LISTEN_FDS" in os.environ:
        os.environ["LISTEN_PID"] = "1"


class Hooks:
    """The hooks of one gunicorn. ``credentials``: names of those that systemd has to deliver."""

    def __init__(self, name: str, release: str, credentials: Collection[str] = ()) -> None:
        self.name = name
        self.release = release
        self.credentials = credentials
        self.crashes = Crashes()
        self.shares = DrainingUvicornWorker.shares
        DrainingUvicornWorker.notice = closed.path_of(name)
        self.replaced = 0
        self.sizing = sizing.Sizing(1, "gunicorn's default")
        self.options: Mapping[str, Any] = {}
        metrics.begin(instance())
        if table := counts.path_of(name):
            with contextlib.suppress(OSError):  # root has told in the journal why there is none
                self.shares.counts.keep_in(table)
            with contextlib.suppress(OSError):
                self.shares.steering.keep_in(steering.path_of(name), instance())

    def workers(self, wanted: int | str, worker_memory: int) -> int:
        """How many there shall be. ``wanted`` is a number or "auto", ``worker_memory`` in MiB."""
        if wanted == "auto":
            self.sizing = sizing.workers(worker_memory)
        else:
            self.sizing = sizing.Sizing(int(wanted), "set by gunicorn_fastapi_workers")
        if instance() == "preflight" and self.sizing.workers > PROVING:
            self.sizing = sizing.Sizing(PROVING, f"enough to verify what {self.sizing.workers} have to share")
        return self.sizing.workers

    def settings(self, users: Mapping[str, Any]) -> dict[str, Any]:
        """All hooks and the operator's settings, by their names in gunicorn. Exits when it has no such setting."""
        if unknown := sorted(users.keys() - upstream.settings().keys()):
            # gunicorn itself would ignore it.
            sys.exit(f"{VARIABLE}: gunicorn has no setting named {', '.join(unknown)}")
        settings: dict[str, Any] = {hook: getattr(self, hook) for hook in OWN}
        if users.get("preload_app") and not users.get("statsd_host"):  # which has a log of its own
            settings["logger_class"] = MasterLog
        users = self._believing(users)
        for key, value in users.items():
            settings[key] = _chained(key, settings.get(key), value) if upstream.is_hook(key) else value
        return settings

    def _believing(self, users: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings without the word for peers on unix sockets, which gunicorn would refuse; uvicorn gets it."""
        trusted = users.get("forwarded_allow_ips", "")
        names = [name.strip() for name in trusted.split(",")] if isinstance(trusted, str) else trusted
        if not isinstance(names, list):
            return users  # gunicorn says what it wants instead
        # As peers are called, whatever socket they came by.
        names = [peers.unmapped(name) for name in names]
        if peers.UNIX[0] not in names:
            return {**users, "forwarded_allow_ips": ",".join(names)} if "forwarded_allow_ips" in users else users
        DrainingUvicornWorker.CONFIG_KWARGS = {**DrainingUvicornWorker.CONFIG_KWARGS, "forwarded_allow_ips": names}
        return {**users, "forwarded_allow_ips": ",".join(name for name in names if name != peers.UNIX[0])}

    def uvicorn(self, users: Mapping[str, Any]) -> None:
        """Give the workers the operator's options of uvicorn. Exits when this release's uvicorn has no such option."""
        if unknown := sorted(users.keys() - upstream.options()):
            sys.exit(f"{OPTIONS}: uvicorn {upstream.UVICORN} has no option named {', '.join(unknown)}")
        self.options = users
        DrainingUvicornWorker.CONFIG_KWARGS = {**upstream.WORKER_OPTIONS, **users}

    # --- What gunicorn calls ------------------------------------------------------------------------

    def on_starting(self, server: Any) -> None:
        """Refuse to go on without what systemd has to pass in; have workers leave in order."""
        # gunicorn would silently listen on an address of its own.
        if "LISTEN_FDS" not in os.environ:
            sys.exit(f"gunicorn has no socket from systemd. Start it with: systemctl start {self.name}")
        # systemd goes on without a word where it cannot mount them, as in a container whose / is private.
        delivered = Path(os.environ.get("CREDENTIALS_DIRECTORY", ""))
        for credential in self.credentials:
            if not os.access(delivered / credential, os.R_OK):
                sys.exit(
                    f"systemd has not delivered the credential {credential}. "
                    "Is / a shared mount? findmnt -o PROPAGATION /"
                )
        own = getattr(server.worker_class, "CONFIG_KWARGS", {})
        if unused := sorted(name for name, value in self.options.items() if own.get(name, ...) != value):
            sys.exit(
                f"{OPTIONS}: the worker class {server.worker_class.__qualname__} takes none of them: "
                f"{', '.join(unused)}. Put them into its CONFIG_KWARGS"
            )
        if isinstance(server.log, MasterLog):
            server.log.kept.put_back()
        upstream.replace(server, reexec=functools.partial(self._refuse_reexec, server))
        # Other classes do not tell when they serve, and let everybody in.
        if issubclass(server.worker_class, DrainingUvicornWorker):
            Departures(server, self.shares)
        elif closed.is_on(closed.path_of(self.name)):
            sys.exit(
                f"maintenance is on for all but some, and the worker class {server.worker_class.__qualname__} would "
                f"let everybody in. Turn it off first, or on for all: {self.name}ctl maintenance on"
            )

    def when_ready(self, server: Any) -> None:
        """Give the queues their length; show in the journal and in "systemctl status" how many workers there are."""
        # systemd gives it when it opens an address, and gunicorn never to one that is open already.
        for listener in server.LISTENERS:
            listener.sock.listen(server.cfg.backlog)
        server.log.info(self._workers(server))
        self._show_status(server)

    def nworkers_changed(self, _server: Any, new: int, _old: int | None) -> None:
        """Tell the workers how many there should be."""
        self.shares.want(new)

    def pre_fork(self, server: Any, worker: Any) -> None:
        """Prepare what gunicorn and the worker share."""
        self.shares.forget(worker.age)
        self.crashes.pre_fork(server, worker)

    def post_fork(self, server: Any, worker: Any) -> None:
        """Wait in the worker when others have crashed before it, which tells gunicorn that it is alive."""
        for other in upstream.workers(server):
            if isinstance(other, DrainingUvicornWorker):
                other.last_words.close()
        self.crashes.post_fork(server, worker)
        if isinstance(worker, DrainingUvicornWorker):
            worker.last_words.renew()

    def worker_exit(self, server: Any, worker: Any) -> None:
        """Note in the worker how it ends; have one end that did not start."""
        self.crashes.worker_exit(server, worker)
        error = sys.exc_info()[1]
        if isinstance(error, SystemExit) and error.code == upstream.BOOT_ERROR:
            endings.end_process_within(endings.FAILED, upstream.BOOT_ERROR)

    def child_exit(self, server: Any, worker: Any) -> None:
        """Say what the worker has left behind. Count those that were replaced; the journal has the reason."""
        self.shares.forget(worker.age)
        metrics.forget(worker.pid, server.log)
        if isinstance(worker, DrainingUvicornWorker):
            lost = worker.last_words.tell(worker.pid, upstream.was_given_up(worker), server.log)
            self.shares.counts.join(worker.age)
            for method in lost:
                self.shares.counts.count(method, LOST)
            worker.last_words.close()
        if upstream.is_stopping(server):
            return
        self.replaced += 1
        self.shares.counts.replaced()
        if self.crashes.child_exit(server, worker):
            self.shares.counts.crashed()
        events = f"; {self.replaced} replaced, the last at {time.strftime('%F %T')}{self.crashes.row()}"
        self._show_status(server, events)

    def _refuse_reexec(self, server: Any) -> None:
        """A second gunicorn would have no sockets, and would empty what the first one's workers write to."""
        server.log.warning("SIGUSR2 starts no second gunicorn here. For new processes: %sctl restart", self.name)

    def _workers(self, server: Any) -> str:
        """How many there are, and why, unless a signal or gunicorn's command line has changed it."""
        workers = server.num_workers
        reason = self.sizing.reason if workers == self.sizing.workers else "set by gunicorn's command line or a signal"
        return f"{workers} workers: {reason}"

    def _show_status(self, server: Any, events: str = "") -> None:
        upstream.notify(f"STATUS=release {self.release[:12]}, {self._workers(server)}{events}", server.log)


def _chained(name: str, own: Callable[..., None] | None, users: Any) -> Callable[..., None]:
    """The role's hook and then the operator's, which is a function or the name of one, MODULE.FUNCTION."""
    try:
        with Kept():
            function = upstream.settings()[name].validator(users)
    except BaseException as error:  # noqa: BLE001 (to import it runs code of the operator's)
        sys.exit(f"{VARIABLE}: {name}: {users} is no hook: {type(error).__name__}: {error}")

    if _runs_later(function):
        sys.exit(
            f"{VARIABLE}: {name}: {users} is async or a generator, and gunicorn would neither await nor iterate over "
            "it. Name a plain function"
        )

    @functools.wraps(function)
    def hook(*arguments: Any) -> None:
        if own is not None:
            own(*arguments)
        try:
            with Kept():
                function(*arguments)
        except upstream.HALT:
            raise
        except BaseException:
            logger.exception("%s: %s: %s has failed. gunicorn goes on without it", VARIABLE, name, users)

    return hook


def _runs_later(function: Any) -> bool:
    """Whether a call only makes something that others have to run."""
    while isinstance(function, functools.partial):
        function = function.func
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return any(kind(called) for kind in kinds for called in (function, type(function).__call__))
