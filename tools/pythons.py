#!/usr/bin/env python3
"""Write files/pythons.sha256, the builds of Python that stand alone, from the list that uv has of them.

``tools/pythons.py FILE``, where FILE is crates/uv-python/download-metadata.json in uv's source at the version that
files/uv-requirements.txt pins.
"""

import json
import sys
import urllib.parse
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "roles/gunicorn_fastapi/files/pythons.sha256"
MACHINES = ("x86_64", "aarch64")
OLDEST = 11
"""The minor version of the oldest Python that is supported."""


def main() -> None:
    builds = []
    for build in json.loads(Path(sys.argv[1]).read_text()).values():
        machine, variant = build["arch"]["family"], build["arch"]["variant"]
        fits = build["name"] == "cpython" and (build["os"], build["libc"]) == ("linux", "gnu") and machine in MACHINES
        usual = not (variant or build["variant"] or build["prerelease"])
        file = urllib.parse.unquote(build["url"].rpartition("/")[2])
        if fits and usual and build["minor"] >= OLDEST and file.endswith("-install_only_stripped.tar.gz"):
            key = (build["minor"], build["patch"], machine)
            builds.append((key, f"{build['sha256']}  {build['build']}/{file}\n"))
    TARGET.write_text("".join(line for _, line in sorted(builds)))


if __name__ == "__main__":
    main()
