#!/usr/bin/python
"""What the role has to know of a host before it changes anything there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gunicorn_fastapi_host
short_description: Look at a host that is to run an application
description:
  - Gathers in one round trip what the role checks before it changes a host, and what of it is there
    already, so that the steps behind it need not ask again. Changes nothing.
options:
  name: {type: str, required: true, description: Name of the application.}
  directory: {type: path, required: true, description: Directory of its releases.}
  python: {type: str, required: true, description: "The interpreter to use, a name, a path or a version."}
  builds:
    type: dict
    default: {}
    description: The build of Python that stands alone and has that version, by the machine that it is for.
  bind: {type: list, elements: str, required: true, description: The addresses it is to have.}
  addresses:
    type: str
    default: ""
    description: The same with their properties, in JSON, as the control command takes them.
  edge:
    type: bool
    default: false
    description: Whether the application is to have domains, and the ports 80 and 443 are the edge's.
  filter:
    type: bool
    default: false
    description: Whether the application is to be kept from addresses, which is tried then.
  uv: {type: path, required: true, description: Directory of the uv that installs requirements.}
  timers:
    type: dict
    description: The timers that it is to have, by their names, each with C(on_calendar), a list of times.
  ours:
    type: str
    required: true
    description: The program that tells on the host whose a name is, the control command's C(ours.py).
  installed:
    type: str
    description:
      - Files as they have to be, each with C(path), C(mode) (C(absent) for none) and C(content), as a list in JSON.
        All of them belong to root. In one piece that is not for the system's log.
author: the gunicorn_fastapi maintainers (@gunicorn-fastapi)
"""

EXAMPLES = r"""
- name: Look at the host
  gunicorn_fastapi_host:
    name: fastapi
    directory: /opt/fastapi
    python: python3
    bind: ["0.0.0.0:80"]
    uv: /usr/local/lib/gunicorn_fastapi/uv
    ours: "{{ lookup('ansible.builtin.file', role_path ~ '/files/appctl/ours.py') }}"
"""

RETURN = r"""
init: {type: str, returned: always, description: Name of the program that runs as process 1.}
systemd: {type: int, returned: always, description: "Version of systemd, 0 without it."}
system: {type: str, returned: always, description: Name of the distribution and its version.}
python: {type: str, returned: always, description: "Version of the interpreter, empty without it."}
python_why: {type: str, returned: always, description: "Why it tells no version, empty when it does."}
python_path: {type: str, returned: always, description: Absolute path of the interpreter.}
python_package: {type: str, returned: always, description: "The Debian package that has to bring it, or empty."}
python_build: {type: dict, returned: always, description: "The build that has to be installed for it, or empty."}
holders: {type: list, elements: dict, returned: always, description: Who else has the addresses.}
edge: {type: dict, returned: always, description: "The host's edge, its domains, what is the application's."}
refusal: {type: str, returned: always, description: "Why the name cannot be had, empty when it can."}
marked: {type: bool, returned: always, description: Whether root's record says that the name is the application's.}
there: {type: list, elements: str, returned: always, description: What has the name.}
taken: {type: list, elements: str, returned: always, description: Units of others that have the names of O(timers).}
timers: {type: dict, returned: always, description: "Times of O(timers) that are none, by timer, and why."}
user: {type: bool, returned: always, description: Whether the application's user is there.}
outdated: {type: list, elements: str, returned: always, description: Paths of O(installed) that differ or lack.}
read_only: {type: list, elements: str, returned: always, description: Read-only mount points that a deploy writes to.}
noexec:
  type: str
  returned: always
  description: "The mount point of the releases where nothing is executed from it, empty else."
filters: {type: bool, returned: always, description: "Whether systemd can filter addresses, as far as it was tried."}
enabled: {type: bool, returned: always, description: Whether the service and its address start at boot.}
uv: {type: bool, returned: always, description: Whether uv is there.}
free: {type: int, returned: always, description: Bytes that a release may take.}
current: {type: str, returned: always, description: "The release that the unit names, empty without one."}
settled: {type: str, returned: always, description: "The release to which a handover would do nothing, empty without."}
releases: {type: list, elements: str, returned: always, description: Names of the complete releases.}
released:
  type: list
  elements: str
  returned: always
  description: What release commands that ran have worked with, by the names that the bundles give it.
busy: {type: str, returned: always, description: "Who is changing the application, what and since when; or empty."}
handed_back: {type: str, returned: always, description: "Which release was handed back last, when and why; or empty."}
configuration: {type: dict, returned: always, description: Content of the current release's rendered files.}
files: {type: dict, returned: always, description: Digests of the current release's files.}
"""

import json
import os
import platform
import re
import shutil
import stat
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule


def read(path: Path) -> str:
    """The text of a file, empty when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def is_as_wanted(wanted: dict[str, str]) -> bool:
    """Whether a file is there with this mode and content, and belongs to root; or is not there, as it should be."""
    path = Path(wanted["path"])
    if wanted["mode"] == "absent":
        return not os.path.lexists(path)
    try:
        status = path.lstat()
    except OSError:
        return False
    owned = status.st_uid == status.st_gid == 0 and status.st_mode == stat.S_IFREG | int(wanted["mode"], 8)
    return owned and read(path) == wanted["content"]


class Host:
    """One host, asked through an AnsibleModule."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.name: str = module.params["name"]
        self.directory = Path(module.params["directory"])

    def run(self, *command: str) -> str:
        """What a command prints, empty when it fails or does not exist."""
        code, out, _ = self.module.run_command(list(command), handle_exceptions=False, expand_user_and_vars=False)
        return str(out).strip() if code == 0 else ""

    def show(self, name: str, unit: str) -> str:
        """A property of a unit, empty without systemd."""
        return self.run("systemctl", "show", f"--property={name}", "--value", unit) if shutil.which("systemctl") else ""

    def systemd(self) -> int:
        """Version of systemd."""
        if not shutil.which("systemctl"):
            return 0
        match = re.match(r"systemd (\d+)", self.run("systemctl", "--version"))
        return int(match.group(1)) if match else 0

    def name_on_host(self) -> dict[str, object]:
        """What the control command's own program says of the name."""
        command = ["/usr/bin/python3", "-I", "-S", "-", "check", self.name, *(self.module.params["timers"] or {})]
        _, out, _ = self.module.run_command(command, data=self.module.params["ours"], check_rc=True)
        told: dict[str, object] = json.loads(out)
        return told

    def enabled(self) -> bool:
        """Whether the service and its address start at boot."""
        units = [f"{self.name}.socket", f"{self.name}.service"]
        states = self.run("systemctl", "is-enabled", *units) if shutil.which("systemctl") else ""
        return states.split() == ["enabled", "enabled"]

    def settled(self, is_ours: bool) -> dict[str, Any]:
        """What the control command says is active, with nothing left to do or to report, and what is complete.

        Nothing without one, or with one of another version: then the run goes the long way, and changes nothing.
        One that is not ours is not executed.
        """
        command = f"/usr/local/sbin/{self.name}ctl"
        asked = [command, "settled", "--json", f"--addresses={self.module.params['addresses']}"]
        try:
            answer = json.loads(self.run(*asked)) if is_ours and os.access(command, os.X_OK) else {}
        except ValueError:
            answer = {}
        return {
            "release": str(answer.get("release", "")),
            "current": str(answer.get("current", "")),
            "complete": list(answer.get("complete", [])),
            "released": list(answer.get("released", [])),
            "busy": str(answer.get("busy", "")),
            "handed_back": str(answer.get("handed_back", "")),
        }

    def free(self) -> int:
        """Bytes that are free where releases go."""
        path = self.directory
        while not path.exists():
            path = path.parent
        return shutil.disk_usage(path).free

    def look(self) -> dict[str, object]:
        """All of it."""
        # Not above, for the reason that gunicorn_fastapi_bundle gives.
        from ..module_utils import gunicorn_fastapi_edge as edges  # type: ignore[import-not-found,misc]
        from ..module_utils import gunicorn_fastapi_facts as facts  # type: ignore[misc]
        from ..module_utils import gunicorn_fastapi_interpreters as interpreters  # type: ignore[misc]
        from ..module_utils import gunicorn_fastapi_mounts as mounts  # type: ignore[misc]
        from ..module_utils.gunicorn_fastapi_addresses import holders  # type: ignore[import-not-found,misc]
        from ..module_utils.gunicorn_fastapi_times import untimely  # type: ignore[import-not-found,misc]

        wants_edge = self.module.params["edge"]
        edge = edges.look(self.name, self.run)
        # Caddy leaves the ports to the application when that leaves it as the last one.
        also = edges.CADDY if edge["ours"] and (wants_edge or edge["last"]) else ""
        bind = [*self.module.params["bind"], *(edges.PORTS if wants_edge else [])]
        wanted = json.loads(self.module.params["installed"] or "[]")
        told = self.name_on_host()
        settled = self.settled(is_ours=not told["refusal"])
        release = self.directory / "releases" / settled["current"]
        manifest = read(release / "manifest.json") if settled["current"] else ""
        files = json.loads(manifest)["files"] if manifest else {}
        private = ("app/", "lib/", "etc/environment", "etc/checks.json")
        os_release = dict(re.findall(r'^(\w+)="?(.*?)"?$', read(Path("/etc/os-release")), re.MULTILINE))
        return {
            "init": read(Path("/proc/1/comm")).strip(),
            "systemd": self.systemd(),
            "system": os_release.get("PRETTY_NAME", platform.system()),
            **interpreters.look(self.module.params["python"], self.module.params["builds"], self.run),
            "machine": platform.machine(),
            "holders": holders(bind, self.name, self.run, also),
            "edge": edge,
            **told,
            "uv": os.access(Path(self.module.params["uv"]) / "bin/uv", os.X_OK),
            "free": self.free(),
            "read_only": mounts.read_only(str(self.directory), *mounts.WRITTEN),
            "noexec": mounts.noexec(str(self.directory)),
            "filters": not self.module.params["filter"] or facts.filters(self.module.run_command),
            "outdated": [w["path"] for w in wanted if not is_as_wanted(w)],
            "timers": untimely(self.module.params["timers"] or {}, self.module.run_command),
            "enabled": self.enabled(),
            "current": settled["current"],
            "settled": settled["release"],
            "releases": settled["complete"],
            "released": settled["released"],
            "busy": settled["busy"],
            "handed_back": settled["handed_back"],
            "configuration": {n: read(release / n) for n in files if not n.startswith(private)},
            "files": files,
        }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "python": {"type": "str", "required": True},
            "builds": {"type": "dict", "default": {}},
            "bind": {"type": "list", "elements": "str", "required": True},
            "addresses": {"type": "str", "default": ""},
            "edge": {"type": "bool", "default": False},
            "filter": {"type": "bool", "default": False},
            "uv": {"type": "path", "required": True},
            "timers": {"type": "dict"},
            "ours": {"type": "str", "required": True},
            "installed": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, **Host(module).look())


if __name__ == "__main__":
    main()
