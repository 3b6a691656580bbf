"""The playbook that deploys: every host proves the release, and then one host alone switches, before any other does."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PLAYBOOK = Path(__file__).parent.parent / "playbooks/site.yml"
HOSTS = [f"h{number}" for number in range(1, 9)]


def played(home: Path, fails: str) -> list[str]:
    """What was done, in order, with a role of which a phase fails on a host."""
    tasks = home / "roles/gunicorn_fastapi/tasks"
    tasks.mkdir(parents=True)
    for phase in ("prove", "serve"):
        task = {
            "ansible.builtin.debug": {"msg": f"did {phase} {{{{ inventory_hostname }}}}"},
            "failed_when": f"inventory_hostname ~ ' {phase}' == '{fails}'",
        }
        (tasks / f"{phase}.yml").write_text(json.dumps([task]))
    (home / "hosts").write_text("[fastapi_hosts]\n" + "\n".join(f"{host} ansible_connection=local" for host in HOSTS))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "--inventory", home / "hosts", PLAYBOOK],
        env={**kept, "ANSIBLE_HOME": str(home), "ANSIBLE_ROLES_PATH": str(home / "roles"), "ANSIBLE_BECOME_EXE": "env"},
        cwd=home, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode != 0, done.stdout + done.stderr
    return re.findall(r"did (\w+ \w+)", done.stdout)


@pytest.mark.parametrize(("fails", "switched"), [("h1 serve", 1), ("h3 serve", 3)])
def test_one_host_switches_first_and_what_it_fails_the_others_never_do(
    tmp_path: Path, fails: str, switched: int
) -> None:
    did = played(tmp_path, fails)
    proved, served = did[: len(HOSTS)], did[len(HOSTS) :]
    assert sorted(proved) == [f"prove {host}" for host in HOSTS]
    assert [line for line in served if line.startswith("prove")] == []
    # A quarter of them at a time after the first: those of a batch go on together.
    assert sorted(served) == [f"serve {host}" for host in HOSTS[:switched]]
    assert served[0] == "serve h1"
