"""Send a release to a host, and have it built there."""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible is not typed
    # It goes into Ansible's temporary directory of this task, so each run sends an archive of its own.
    TRANSFERS_FILES = True

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        asked = self._task.args
        shell = self._connection._shell  # noqa: SLF001 (as the actions of Ansible itself)
        try:
            sent = shell.join_path(shell.tmpdir, "release.tar.gz")
            self._transfer_file(asked["archive"], sent)
            self._fixup_perms2((shell.tmpdir, sent))
            request = json.loads(asked["request"]) | {"archive": sent}
            # The credentials go by standard input, in one piece that occurs nowhere else.
            arguments = {"name": asked["name"], "command": asked["command"], "stdin": json.dumps(request)}
            built: dict[str, Any] = self._execute_module("gunicorn_fastapi_ctl", arguments, task_vars=task_vars)
            return result | built
        finally:
            self._remove_tmp_path(shell.tmpdir)
