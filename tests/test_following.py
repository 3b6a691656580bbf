"""Records are followed until an operator has seen enough, and nothing is left of it then."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
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


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_its_end_is_that_of_what_it_has_begun(ending: signal.Signals, tmp_path: Path) -> None:
    """As by Ctrl-C on a terminal: its processes get the signal, and no record or trace comes after it.

    Ansible's workers are in sessions of their own, and not all of its ends end them.
    """
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
        said = read(ours, b"seen web1", b"seen web2")
        os.killpg(run.pid, ending)
        said += read(ours)
        assert run.wait(60) != 0
    os.close(ours)
    assert b"Traceback" not in said, said.decode()
    for path in pids.values():
        pid = int(path.read_text())
        eventually(lambda pid=pid: has_ended(pid), "it has ended")  # type: ignore[misc]


def has_ended(pid: int) -> bool:
    """Whether a process runs no more, even where nobody takes its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def read(terminal: int, *until: bytes) -> bytes:
    """What comes on a terminal up to all of some words, in any order, or to its end."""
    found = b""
    while not until or not all(words in found for words in until):
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # nobody has it open any more
            break
        found += piece
    return found
