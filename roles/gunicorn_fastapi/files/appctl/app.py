"""What one application is called on this host, and where what belongs to it lies."""

import re
from pathlib import Path

INSTANCES = MAIN, CANDIDATE, PREFLIGHT = "main", "candidate", "preflight"
"""The service itself, and the instances beside it: one serves while it is restarted, one proves a release."""

IMPORT, RELEASE, RUN = "import", "release", "run"
"""Those that do not serve: one loads the application, the release command, and what an operator runs in a release."""

PASSING = PREFLIGHT, CANDIDATE, IMPORT, RELEASE
"""Those that a handover makes for a while."""


class App:
    """Names and paths of one application. Knows nothing of what is there."""

    def __init__(self, name: str, base: Path = Path("/")) -> None:
        self.name = name
        self.base = base
        self.command = base / "usr/local/sbin" / f"{name}ctl"
        self.state = base / "var/lib" / name
        """What the application writes."""
        self.tools = base / "usr/local/lib/gunicorn_fastapi"
        self.caches = base / "var/cache/gunicorn_fastapi"
        """For all applications of the host: versions of the control command and of uv, and what builds keep."""
        self.pythons = base / "opt/gunicorn_fastapi/pythons"
        """Builds of Python that stand alone, for all of them too."""

        self.root = base / "opt" / name
        self.releases = self.root / "releases"
        self.virtualenvs = self.root / "virtualenvs"
        self.credentials = self.root / "credentials"
        self.locks = self.root / "locks"
        """What uv has made of lists without hashes, for all later runs."""
        self.prepared = self.root / "prepared"
        """What prepare commands have left, for all later runs."""
        self.history = self.root / "history.jsonl"
        self.released = self.root / "released.jsonl"
        """Which release commands were run, and what came of them."""
        self.came = self.root / "released.json"
        """What came of the last one, for all to read."""
        self.runs = self.root / "runs.jsonl"
        """What operators have run in releases."""
        self.scale = self.root / "scale.json"
        """How many instances of processes an operator has asked for, until the next deploy."""
        self.timers = self.root / "timers"
        """What came of the last job of each timer."""
        self.suspended = self.root / "suspended.json"
        """The timers that an operator has suspended."""
        self.link = self.root / "current"
        self.maintenance = self.root / "maintenance"
        """What the responder answers, and whether it does."""
        self.incoming = self.root / "incoming"
        """Root's own: archives that were sent, and what is half built."""
        self.cache = self.caches / "builds" / name
        """What builds keep of packages, below a directory that only root can enter."""

        self.system = base / "etc/systemd/system"
        self.service = f"{name}.service"
        self.unit = self.system / self.service
        """The file that says which release is active. Replacing it is the switch."""
        self.extensions = self.system / f"{self.service}.d"
        self.socket = f"{name}.socket"
        self.metrics = f"{name}-metrics.socket"
        self.slice = f"{name}.slice"
        self.handover = f"{name}-handover.service"
        self.watch = f"{name}-watch.service"
        """Judges the active release for a while after a deploy."""
        self.responder = f"{name}-maintenance.service"
        self.holder = f"{name}-pause.service"
        self.processes = f"{name}-processes.target"
        """What boot starts beside the service."""

        self.transient = base / "run/systemd/system"
        """Units that a reboot forgets: a handover that lost its power leaves none of them behind."""
        self.runtime = base / "run" / name
        """Root's own; the application can read names in it and nothing else."""
        self.private = self.runtime / "private"
        """Nobody but root can enter it."""
        self.lock = self.private / "lock"
        self.tables = self.runtime / "traffic"
        """What its instances count, each in a file in which the application writes."""
        self.shares = self.tables / "shares"
        """Which share of the connections the candidate takes, and how many each worker has taken."""
        self.totals = self.runtime / "traffic.json"
        """What those have counted that have ended."""
        self.failures = self.runtime / "failures.json"
        self.watched = self.private / "watch.json"
        """What the watch compares the active release with."""
        self.proof = self.runtime / "proved.json"
        """The release that has passed its preflight, and when."""

    @classmethod
    def of_unit(cls, unit: str) -> "App":
        """The one that a unit of ours belongs to: its name has neither a hyphen nor a dot."""
        return cls(re.split("[-.]", unit)[0])

    def instance_service(self, kind: str) -> str:
        """The service of an instance."""
        return self.service if kind == MAIN else f"{self.name}-{kind}.service"

    def instance_socket(self, kind: str) -> str:
        """Its private socket."""
        return f"{self.name}-{'probe' if kind == MAIN else kind}.socket"

    def private_sockets(self, service: str) -> list[str]:
        """The private socket of a service of ours, none of one that does not serve."""
        return [self.instance_socket(kind) for kind in INSTANCES if self.instance_service(kind) == service]

    def address(self, instance: str) -> Path:
        """Where exactly this instance (main, candidate, preflight) answers, and no other."""
        return self.runtime / f"{instance}.sock"

    def release(self, release: str) -> Path:
        """The directory of a release."""
        return self.releases / release

    def started(self, unit: str) -> Path:
        """What root noted when a unit was started: its invocation and release."""
        return self.runtime / "started" / f"{unit}.json"
