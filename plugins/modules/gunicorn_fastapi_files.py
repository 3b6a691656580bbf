#!/usr/bin/python
"""Put small files in place, all in one round trip."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gunicorn_fastapi_files
short_description: Put small files in place
description:
  - Writes files that belong to root, each by a rename, so that nobody ever reads a part of one, and waits until
    all of them are on the disk, so that a loss of power later leaves none of them empty.
  - For files that are known to differ; it compares nothing.
options:
  files:
    type: str
    required: true
    description:
      - Files as they have to be, each with C(path), C(mode) and C(content), as a list in JSON. In one piece that
        is not for the system's log.
author: the gunicorn_fastapi maintainers (@gunicorn-fastapi)
"""

EXAMPLES = r"""
- name: Install the limits
  gunicorn_fastapi_files:
    files: "{{ [{'path': '/etc/systemd/system/fastapi.slice', 'mode': '0644', 'content': '[Slice]\n'}] | to_json }}"
"""

RETURN = r""" # """

import json
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule


def difference(wanted: dict[str, str]) -> dict[str, str]:
    """What --diff shows of one file."""
    path = Path(wanted["path"])
    before = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return {"before_header": str(path), "after_header": str(path), "before": before, "after": wanted["content"]}


def make_directories(directory: Path) -> None:
    """Make what lacks of a path, open to all, whatever root's umask is."""
    if not directory.is_dir():
        make_directories(directory.parent)
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)


def write(module: AnsibleModule, wanted: dict[str, str]) -> None:
    """Put one file in place."""
    with tempfile.NamedTemporaryFile("w", dir=module.tmpdir, encoding="utf-8", delete=False) as temporary:
        temporary.write(wanted["content"])
    path = wanted["path"]
    make_directories(Path(path).parent)
    module.atomic_move(temporary.name, path)
    module.set_mode_if_different(path, wanted["mode"], False)
    module.set_owner_if_different(path, "root", False)
    module.set_group_if_different(path, "root", False)


def main() -> None:
    module = AnsibleModule(
        argument_spec={"files": {"type": "str", "required": True, "no_log": True}},
        supports_check_mode=True,
    )
    files = json.loads(module.params["files"])
    shown = [difference(wanted) for wanted in files]
    if not module.check_mode:
        for wanted in files:
            write(module, wanted)
        for directory in sorted({str(Path(wanted["path"]).parent) for wanted in files}):
            module.run_command(["sync", "--file-system", directory], check_rc=True)
    module.exit_json(changed=bool(files), diff=shown)


if __name__ == "__main__":
    main()
