"""An application's source and the role's share of a release, on a made-up controller."""

import tarfile
from pathlib import Path
from typing import Any

from gunicorn_fastapi_controller.release import bundle
from gunicorn_fastapi_controller.requirements import Requirements, read

HASH = "--hash=sha256:" + "0" * 64
OLD = {"python": "3.11", "python_path": "/usr/bin/python3"}
NEW = {**OLD, "python": "3.13"}


def below(name: str) -> str:
    """A member's path in the release's directory."""
    return name.partition("/")[2]


class Project:
    """An application's source and the role's share of a release, on a made-up controller."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.source = root / "source"
        self.source.mkdir()
        self.write("main.py", "app = None\n")
        self.write("requirements.txt", f"fastapi==1.0 {HASH}\n")
        (root / "supply.txt").write_text(f"gunicorn==2.0 {HASH}\nuvicorn-worker==3.0 {HASH}\n")
        (root / "older.txt").write_text(f"uvicorn-worker==2.0 {HASH}\n")
        (root / "lib/log").mkdir(parents=True)
        (root / "lib/worker.py").write_text("# worker\n")
        (root / "lib/log/journal.py").write_text("# journal\n")
        self.arguments: dict[str, Any] = {
            "source": str(self.source),
            "app_path": "",
            "built": False,
            "origin": {},
            "exclude": [".git", "*.pyc"],
            "requirements": "",
            "extras": [],
            "groups": [],
            "upgrade": [],
            "locked": "",
            "wheels": {},
            "state": {"directory": "/var/lib/shop", "paths": [], "scratch": [], "working_directory": ""},
            "include": [],
            "supply": [str(root / "supply.txt"), str(root / "older.txt")],
            "machine": "x86_64",
            "library": str(root / "lib"),
            "files": {"etc/environment": 'A="1"\n', "systemd/x.service": "ExecStart=/opt/x/releases/@RELEASE@/venv\n"},
            "identity": OLD,
            "credentials": "",
            "env_file": "",
            "prepare_command": "",
            "prepared": "",
            "directory": str(root / "cache"),
            "before": {"release": "", "files": {}, "configuration": {}},
        }

    def write(self, name: str, text: str) -> None:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def bundle(self, **changes: Any) -> dict[str, Any]:
        return bundle(**{**self.arguments, **changes})

    def read(self, name: str = "requirements.txt") -> Requirements:
        return read(self.source / name, self.source)

    def contents(self, **changes: Any) -> dict[str, str]:
        with tarfile.open(str(self.bundle(**changes)["archive"])) as archive:
            files = {below(member.name): archive.extractfile(member) for member in archive if member.isfile()}
            return {name: file.read().decode() for name, file in files.items() if file}
