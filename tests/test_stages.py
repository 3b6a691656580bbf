"""The stages of `make test`: what passed, what failed, and what this machine cannot run, which is none of both."""

import shutil
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parent.parent / "tools"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with two scenarios, and with a molecule that fails in one of them."""
    for scenario in ("metal", "default"):
        (tmp_path / "molecule" / scenario).mkdir(parents=True)
        (tmp_path / "molecule" / scenario / "molecule.yml").touch()
    (tmp_path / "tools").mkdir()
    shutil.copy(TOOLS / "stages", tmp_path / "tools")
    program(tmp_path / "bin/molecule", '[ "$3" != default ] || { echo "fatal: no"; exit 1; }')
    return tmp_path


def program(path: Path, text: str) -> None:
    """A program of a shell's lines."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def stages(checkout: Path, *names: str) -> tuple[int, list[str]]:
    """Exit status and output."""
    environment = {"PATH": f"{checkout}/bin:/usr/bin:/bin"}
    done = subprocess.run(
        [checkout / "tools/stages", *names], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stdout.splitlines()


def test_what_this_machine_cannot_run_is_skipped_with_the_reason(checkout: Path) -> None:
    program(checkout / "tools/metal", "echo 'no kernel boots here: ptrace: Operation not permitted' >&2; exit 1")
    status, lines = stages(checkout, "metal")
    assert status == 0
    assert lines.count("skipped metal: no kernel boots here: ptrace: Operation not permitted") == 2
    assert lines[-1] == "0 passed, 0 failed, 1 skipped"


def test_what_this_machine_can_run_is_run(checkout: Path) -> None:
    program(checkout / "tools/metal", "exit 0")
    status, lines = stages(checkout, "metal")
    assert (status, lines[-1]) == (0, "1 passed, 0 failed")


def test_a_failure_beside_what_is_skipped_fails_the_run(checkout: Path) -> None:
    program(checkout / "tools/metal", "echo 'no kernel boots here' >&2; exit 1")
    status, lines = stages(checkout, "molecule:default", "metal")
    assert (status, lines[-1]) == (1, "0 passed, 1 failed, 1 skipped")
    assert "fatal: no" in lines
