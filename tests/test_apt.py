"""What apt says of a busy or unreachable moment is tried again, and nothing else."""

import re
from pathlib import Path

import pytest
import yaml

TASK = yaml.safe_load((Path(__file__).parent.parent / "roles/gunicorn_fastapi/tasks/uv.yml").read_text())[0]
PATTERN = re.search(r"search\('(.*)'\)", TASK["until"])


@pytest.mark.parametrize(
    ("message", "again"),
    [
        ("'/usr/bin/apt-get -y install x' failed: E: Could not get lock /var/lib/dpkg/lock-frontend.", True),
        ("Failed to lock apt for exclusive operation: Failed to lock directory /var/lib/apt/lists/", True),
        ("Failed to update apt cache after 5 retries: W:Temporary failure resolving 'deb.example.com'", True),
        ("E: Failed to fetch http://deb.example.com/x.deb  Unable to connect to deb.example.com:http:", True),
        ("No package matching 'python3-pip-whl' is available", False),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", False),
    ],
)
def test_a_moment_is_waited_for(message: str, again: bool) -> None:
    assert PATTERN
    assert bool(re.search(PATTERN[1], message)) is again
    assert 0 < TASK["retries"] * (TASK["delay"] + TASK["ansible.builtin.apt"]["lock_timeout"]) <= 900
