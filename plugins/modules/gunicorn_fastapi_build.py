#!/usr/bin/python
"""Build a release on the host from what was unpacked there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gunicorn_fastapi_build
short_description: Build a release on the host
description:
  - Makes the virtualenv of an unpacked release, unless another release has it already, compiles the
    source, waits until all of it is on the disk, and declares the release complete.
  - When it fails, the release stays incomplete, and whoever called removes it.
options:
  release: {type: path, required: true, description: Directory of the release.}
  group: {type: str, required: true, description: Who may read it beside root.}
  virtualenv: {type: path, required: true, description: Directory of its virtualenv.}
  reuse: {type: bool, required: true, description: Whether a complete release has this virtualenv.}
  uv: {type: path, required: true, description: The uv that makes virtualenvs.}
  python: {type: path, required: true, description: The interpreter.}
  index: {type: list, elements: str, default: [], description: Arguments that tell uv where packages are.}
author: the gunicorn_fastapi maintainers (@gunicorn-fastapi)
"""

EXAMPLES = r"""
- name: Build the release
  gunicorn_fastapi_build:
    release: /opt/fastapi/releases/3f9a1c
    group: fastapi
    virtualenv: /opt/fastapi/virtualenvs/71be02
    reuse: false
    uv: /usr/local/bin/uv
    python: /usr/bin/python3
"""

RETURN = r""" # """

import os
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule


class Build:
    """One release on one host, built through an AnsibleModule."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.release = Path(module.params["release"])
        self.virtualenv = Path(module.params["virtualenv"])

    def run(self, *command: str) -> None:
        """Run a command in the release. Ends the module with its words when it fails."""
        code, out, err = self.module.run_command(list(command), cwd=str(self.release))
        if code:
            self.module.fail_json(msg=err.strip() or out.strip() or f"{command[0]} ended with {code}")

    def close(self, directory: Path) -> None:
        """Let nobody in but root and the application."""
        directory.chmod(0o750)
        shutil.chown(directory, "root", self.module.params["group"])

    def make_virtualenv(self) -> None:
        """Make the virtualenv anew: what is there may be half of one.

        A package that would have to be built is refused: building runs its code as root, with tools that
        no hash pins.
        """
        uv = self.module.params["uv"]
        self.run(
            uv, "venv", "--no-project", "--clear", f"--python={self.module.params['python']}", str(self.virtualenv)
        )
        self.run(
            uv, "pip", "install", f"--python={self.virtualenv}", "--require-hashes", "--no-build",
            "--compile-bytecode", "--requirements=requirements.txt", *self.module.params["index"],
        )  # fmt: skip
        # uv leaves it there writable for everybody.
        (self.virtualenv / ".lock").unlink(missing_ok=True)
        self.close(self.virtualenv)

    def compile_source(self) -> None:
        """Compile the source. A file that does not compile may be one that nothing imports: the preflight judges."""
        python = str(self.virtualenv / "bin/python")
        self.module.run_command([python, "-m", "compileall", "-qq", "app", "lib"], cwd=str(self.release))

    def declare_complete(self) -> None:
        """Rename the manifest: from then on the release counts, so all of it has to be on the disk before.

        It is not built elsewhere and then renamed, because compiled files contain their own path.
        """
        self.run("sync", "--file-system", ".")
        (self.release / "manifest.building").rename(self.release / "manifest.json")
        self.run("sync", ".")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "path", "required": True},
            "group": {"type": "str", "required": True},
            "virtualenv": {"type": "path", "required": True},
            "reuse": {"type": "bool", "required": True},
            "uv": {"type": "path", "required": True},
            "python": {"type": "path", "required": True},
            "index": {"type": "list", "elements": "str", "default": []},
        },
    )
    # A stricter one of root's would keep the application out.
    os.umask(0o022)
    build = Build(module)
    build.close(build.release)
    # For the application alone, which reads it when it starts.
    shutil.chown(build.release / "etc/environment", "root", module.params["group"])
    if not module.params["reuse"]:
        build.make_virtualenv()
    build.compile_source()
    build.declare_complete()
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
