"""Git repositories of a test, as a colleague would make them."""

import os
import subprocess
from pathlib import Path


class Repository:
    """A repository on the disk, with a file that fits its commits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *words: str) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        environment = {**kept, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
        settings = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "protocol.file.allow=always"]
        done = subprocess.run(
            ["git", *settings, *words], cwd=self.path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def write(self, name: str, text: str) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def commit(self, name: str = "main.py", text: str = "app = None\n") -> str:
        """Commit a file, also one that .gitignore names; the commit."""
        self.write(name, text)
        self.git("add", "--force", name)
        self.git("commit", "--quiet", "--allow-empty", "--message", f"{name} is new")
        return self.git("rev-parse", "HEAD")
