"""What the lists of releases and packages say."""

import argparse
import json

import pytest
from appctl import listing
from ctl_host import Host


def test_the_packages_of_a_release_are_printed(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    packages = [
        {"name": "fastapi", "version": "1.0", "condition": "", "hashes": ["sha256:aa", "sha256:bb"]},
        {"name": "colorama", "version": "2.0", "condition": "os_name == 'nt'", "hashes": ["sha256:cc"]},
    ]
    manifest = host.release("bbb3") / "manifest.json"
    manifest.write_text(json.dumps({"release": "bbb3", "packages": packages}))
    listing.command_packages(host, argparse.Namespace(release="bbb3", json=False))
    assert capsys.readouterr().out.splitlines() == [
        "fastapi==1.0",
        "    sha256:aa",
        "    sha256:bb",
        "colorama==2.0 ; os_name == 'nt'",
        "    sha256:cc",
    ]
