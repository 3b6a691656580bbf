"""The module finds its library as part of the role, and as part of the collection that is published."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
SUPPLY = ROOT / "roles/gunicorn_fastapi/files"


def ansible(*command: str, home: Path, **environment: str) -> str:
    """The output of one of Ansible's programs, without the project's own configuration."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    variables = {**kept, "HOME": str(home), "ANSIBLE_HOME": str(home), **environment}
    done = subprocess.run(
        [BIN / command[0], *command[1:]], cwd=home, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the collection, installed from the archive that is published."""
    home = tmp_path_factory.mktemp("home")
    ansible("ansible-galaxy", "collection", "build", str(ROOT), "--output-path", str(home), home=home)
    (archive,) = home.glob("*.tar.gz")
    ansible("ansible-galaxy", "collection", "install", str(archive), "--collections-path", str(home), home=home)
    return home


@pytest.mark.parametrize("role", ["gunicorn_fastapi", "gunicorn_fastapi.systemd.gunicorn_fastapi"])
def test_the_module_packs_a_release(collections: Path, tmp_path: Path, role: str) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/requirements.txt").write_text(f"fastapi==1.0 --hash=sha256:{'0' * 64}\n")
    task = {
        "gunicorn_fastapi_bundle": {
            "source": str(tmp_path / "app"),
            "requirements": "requirements.txt",
            "supply": [str(SUPPLY / name) for name in ("server-requirements.txt", "server-requirements-older.txt")],
            "library": str(ROOT / "roles/gunicorn_fastapi/files/gunicorn_fastapi"),
            "files": json.dumps({"etc/environment": {}}),
            "identity": {"python": "3.11", "python_path": "/usr/bin/python3"},
            "directory": str(tmp_path / "cache"),
            "before": {"release": "", "files": {}, "configuration": {}},
        }
    }
    # Naming the role makes its modules known.
    known = {"ansible.builtin.import_role": {"name": role, "tasks_from": "status"}, "when": False}
    play: dict[str, object] = {"hosts": "localhost", "connection": "local", "gather_facts": False}
    play |= {"collections": [role.rpartition(".")[0]] if "." in role else [], "tasks": [known, task]}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    ansible(
        "ansible-playbook", str(tmp_path / "play.yml"), home=tmp_path,
        ANSIBLE_ROLES_PATH=str(ROOT / "roles"), ANSIBLE_COLLECTIONS_PATH=str(collections),
    )  # fmt: skip
    assert list((tmp_path / "cache").glob("release-*.tar.gz"))


@pytest.mark.parametrize("role", ["gunicorn_fastapi", "gunicorn_fastapi.systemd.gunicorn_fastapi"])
def test_the_check_finds_its_library(collections: Path, tmp_path: Path, role: str) -> None:
    wrong = {"gunicorn_fastapi_bind": ["999.1.1.1:99999"]}
    check = {"ansible.builtin.include_role": {"name": role, "tasks_from": "input"}, "vars": wrong}
    said = {
        "ansible.builtin.assert": {"that": "ansible_failed_result.msg is search('999.1.1.1:99999.* is not ADDRESS')"}
    }
    tasks = [{"block": [check, {"ansible.builtin.fail": {"msg": "not refused"}}], "rescue": [said]}]
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    ansible(
        "ansible-playbook", str(tmp_path / "play.yml"), home=tmp_path,
        ANSIBLE_ROLES_PATH=str(ROOT / "roles"), ANSIBLE_COLLECTIONS_PATH=str(collections),
    )  # fmt: skip
