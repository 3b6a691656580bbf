"""Records are followed until an operator has seen enough, and nothing is left of it then."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import yaml
from servers import eventually

ROOT = Path(__file__).parent.parent
FOLLOWED = """
import json, os, sys, time
open(sys.argv[1], "w").write(str(os.getpid()))
record = {"time": "2026-11-30T14:00:01.000000+00:00", "unit": "shop.service", "message": "seen " + sys.argv[2]}
print(json.dumps(record), flush=True)
time.sleep(1000)
"""


def test_an_interrupt_ends_it_and_what_it_has_begun(tmp_path: Path) -> None:
    """As Ctrl-C on a terminal does: its processes get the signal, and no record or trace comes after it."""
    pids = {host: tmp_path / host for host in ("web1", "web2")}
    streams = {host: [sys.executable, "-c", FOLLOWED, str(path), host] for host, path in pids.items()}
    known = {"ansible.builtin.import_role": {"name": "gunicorn_fastapi", "tasks_from": "status"}, "when": False}
    task = {"gunicorn_fastapi_logs": {"follow": True, "hosts": streams}}
    play = {"hosts": "all", "connection": "local", "gather_facts": False, "tasks": [known, task]}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [Path(sys.executable).parent / "ansible-playbook", "--inventory=web1,", str(tmp_path / "play.yml")],
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
            "ANSIBLE_HOME": str(tmp_path / "home"),
        },
        cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    ) as run:  # fmt: skip
        os.close(theirs)
        said = read(ours, b"seen web2")
        assert b"seen web1" in said
        os.killpg(run.pid, signal.SIGINT)
        said += read(ours)
        assert run.wait(60) != 0
    os.close(ours)
    assert b"Traceback" not in said, said.decode()
    for path in pids.values():
        pid = int(path.read_text())
        eventually(lambda pid=pid: not Path(f"/proc/{pid}").exists(), "it has ended")  # type: ignore[misc]


def read(terminal: int, until: bytes = b"\0") -> bytes:
    """What comes on a terminal up to some words, or to its end."""
    found = b""
    while until not in found:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # nobody has it open any more
            break
        found += piece
    return found
