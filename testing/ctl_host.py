"""An application in a temporary directory."""

import json
import os
from pathlib import Path

import pytest
from appctl import complete, fetch, handover
from appctl.app import App


class Host(App):
    """An application below a temporary directory instead of /."""

    def __init__(self, name: str, base: Path) -> None:
        super().__init__(name, base)
        self.damaged: dict[str, str] = {}
        """Why a release is not complete."""

    def build(self, name: str, built: int) -> None:
        directory = self.release(name)
        directory.mkdir(parents=True)
        (directory / "manifest.json").write_text(json.dumps({"release": name}))
        os.utime(directory / "manifest.json", (built, built))

    def serves(self, release: str) -> None:
        self.unit.write_text(f"WorkingDirectory={self.releases}/{release}/app\n")

    def was(self, before: str, after: str, outcome: str = "done") -> None:
        handover.record(self, before, after, outcome, "", 1.0)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """An application with four releases, which are complete as far as they are asked."""
    host = Host("fastapi", tmp_path)
    monkeypatch.setattr(complete, "why_not", lambda _, release, **__: host.damaged.get(release, ""))
    monkeypatch.setattr(fetch, "clear", lambda _: None)
    for directory in (host.system, host.transient, host.runtime):
        directory.mkdir(parents=True)
    for built, name in enumerate(["aaa1", "aab2", "bbb3", "ccc4"]):
        host.build(name, built)
    return host
