"""What clients see of a deploy, by how long the application takes to boot.

The handover of this role against a plain unit that is restarted, told to reload (HUP), or stopped and
started, all with the same application, two workers and 100 requests a second, each on a connection of its
own. What nothing does takes as long as the handover did, so that both have as many requests.

    python3 bench/pauses.py [--rounds 1] [--quick]
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hosts

HOST = "bench1"
BOOTS = (0.3, 3, 10)
"""Seconds that the application takes to start, beside its imports."""

PLAIN = """[Service]
Type=notify
User=fastapi
Environment=HOME=/var/lib/fastapi BOOT_SECONDS={boot}
WorkingDirectory=/opt/fastapi/current/app
ExecStart=/opt/fastapi/current/venv/bin/gunicorn main:app --workers=2 \\
  --worker-class=uvicorn_worker.UvicornWorker --bind=127.0.0.1:8000 --access-logfile=- --no-control-socket
ExecReload=/bin/kill -HUP $MAINPID
"""

WAYS = {
    "handover": (80, "fastapictl restart"),
    "nothing": (80, "sleep {seconds:.2f}"),
    "systemctl restart": (8000, "systemctl restart bench"),
    "HUP": (8000, "systemctl reload bench"),
    "stop, then start": (8000, "systemctl stop bench; sleep 0.5; systemctl start bench"),
}
"""The port, and what happens there. The half second is what a deploy does in between."""


def write(path: str, text: str) -> None:
    """Put a file on the host."""
    command = [str(hosts.ROOT / "tools/podman"), "exec", "-i", hosts.container(HOST), "sh", "-c", f"cat >{path}"]
    subprocess.run(command, input=text, text=True, check=True)


def prepare(*, quick: bool) -> None:
    """A host with the application of the scenarios, whose start takes as long as it is told."""
    hosts.fresh([HOST], quick=quick)
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "app"
        shutil.copytree(hosts.ROOT / "molecule/shared/app", source, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(hosts.ROOT / "app/requirements.txt", source)
        variables = {"gunicorn_fastapi_app_source": str(source), "gunicorn_fastapi_workers": 2}
        hosts.playbook(hosts.SITE, [HOST], variables)
    hosts.on_host(HOST, "mkdir", "-p", "/opt/bench", "/etc/systemd/system/fastapi.service.d")
    write("/opt/bench/pause_load.py", (hosts.ROOT / "bench/pause_load.py").read_text())


def boots_in(boot: float) -> None:
    """Have both services run with an application that takes so long to start."""
    write("/etc/systemd/system/fastapi.service.d/bench.conf", f"[Service]\nEnvironment=BOOT_SECONDS={boot}\n")
    write("/etc/systemd/system/bench.service", PLAIN.format(boot=boot))
    hosts.on_host(HOST, "systemctl", "daemon-reload")
    hosts.on_host(HOST, "systemctl", "restart", "fastapi", "bench")


def measure(number: int, quick: bool) -> Iterator[dict[str, Any]]:
    """One round."""
    if number == 1:
        prepare(quick=quick)
    seconds = 0.0
    for boot in BOOTS[: 1 if quick else None]:
        boots_in(boot)
        for way, (port, command) in WAYS.items():
            # What a reload begins goes on after its command is over.
            after = boot + 4 if way == "HUP" else 1
            about = [str(port), str(after), command.format(seconds=seconds)]
            figure = json.loads(hosts.on_host(HOST, "python3", "/opt/bench/pause_load.py", *about))
            seconds = figure["command_seconds"] if way == "handover" else seconds
            yield {"boot": boot, "way": way, **figure}


if __name__ == "__main__":
    hosts.measured(measure, rounds=1)
