#!/usr/bin/python
"""The documentation of an action: it runs on the controller, so nothing of it is sent to a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gunicorn_fastapi_bundle
short_description: Pack a release on the controller
description:
  - Collects an application's source, its lock file and the rendered configuration into
    one archive, and names it after a digest of exactly that. Equal content has an equal name on
    every controller. Runs on the controller and writes to O(directory) only. Reports a change,
    with the differences, when it is not the active release.
  - In the units among O(files) the words C(@RELEASE@) become the name, which is made before they are
    replaced, and C(@RELEASE_SHORT@) what people are shown of it.
options:
  source: {type: path, required: true, description: Directory with the application's source.}
  app_path: {type: str, default: "", description: The application's directory in the source.}
  built: {type: bool, default: false, description: "Whether all of it counts, because a build has left it so."}
  origin: {type: dict, default: {}, description: "What the manifest says of the source, which decides no release."}
  exclude: {type: list, elements: str, default: [], description: Shell patterns of names to leave out.}
  include: {type: list, elements: str, default: [], description: Patterns as in .gitignore of what it left out.}
  requirements: {type: str, default: "", description: "The list of packages inside the source, empty to find it."}
  extras: {type: list, elements: str, default: [], description: Extras of the list that are installed too.}
  groups: {type: list, elements: str, default: [], description: Groups of the list that are installed too.}
  upgrade: {type: list, elements: str, default: [], description: Packages that are taken newer than the list pins them.}
  locked: {type: str, default: "", description: What uv has made of a list without hashes.}
  wheels: {type: dict, default: {}, description: "Wheels that belong to that list, each as texts of base64."}
  state:
    type: dict
    default: {directory: "", paths: [], scratch: [], working_directory: ""}
    description:
      - C(directory) that the application may write, C(paths) of the source that lead there, C(scratch) ones that each
        release has for itself, and its C(working_directory) in the source.
  supply:
    type: list
    elements: path
    required: true
    description: A list from which what the other lacks is added, and one of what a uvicorn before 0.36 needs instead.
  library: {type: path, required: true, description: Directory that becomes C(lib/) of the release.}
  files:
    type: str
    required: true
    description: Content of further files by their path, as JSON, in one piece that is not for the system's log.
  identity: {type: dict, required: true, description: What else makes this another release.}
  machine: {type: str, default: "", description: "The host's architecture, for the conditions of a list."}
  credentials:
    type: str
    default: ""
    description:
      - Secrets that make this another release too, all in one string. They become no part of it, and
        its name and manifest do not tell them.
  env_file: {type: str, default: "", description: "A file whose variables are among them, and that is not missed."}
  prepare_command:
    type: str
    default: ""
    description: What is run on a host with the packages of the release, and leaves more files of it.
  prepared:
    type: str
    default: ""
    description: An archive of what it has left, or C(none). Empty is a release that waits for it, and no change yet.
  directory: {type: path, required: true, description: Where the archive is written and found by the next host.}
  before:
    type: dict
    required: true
    description:
      - C(manifest) and rendered files of the active release, to show what would change.
author: the gunicorn_fastapi maintainers (@gunicorn-fastapi)
"""

EXAMPLES = r"""
- name: Pack the release
  gunicorn_fastapi_bundle:
    source: app
    requirements: requirements.txt
    state: {directory: /var/lib/fastapi, paths: [], scratch: [], working_directory: ""}
    supply:
      - "{{ role_path }}/files/server-requirements.txt"
      - "{{ role_path }}/files/server-requirements-older.txt"
    library: "{{ role_path }}/files/gunicorn_fastapi"
    files: "{{ {'etc/environment': {}} | to_json }}"
    identity: {python: "3.11", python_path: /usr/bin/python3}
    directory: /tmp
    before: {release: "", files: {}, configuration: {}}
"""

RETURN = r"""
release: {type: str, returned: always, description: "Name of the release, 40 hexadecimal digits."}
release_command:
  type: str
  returned: always
  description: "Name of what its release command works with, equal on all hosts; empty without one."
prepare:
  type: str
  returned: always
  description: "What decides what the command of O(prepare_command) leaves, by its digest; empty without one."
archive: {type: str, returned: always, description: Path of the archive on the controller.}
virtualenv: {type: str, returned: always, description: Name of the virtualenv; equal requirements have an equal one.}
size: {type: int, returned: always, description: Bytes of the release before its requirements.}
list: {type: str, returned: always, description: The lock file that the release has.}
supplied: {type: list, elements: str, returned: always, description: What the role adds to the list.}
manifest: {type: dict, returned: always, description: What the release was made from.}
"""
