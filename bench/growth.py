"""How the cost of a deploy grows: with the hosts, with the releases on a host, with the files of the source.

python3 bench/growth.py [--rounds 1] [--quick]
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hosts

HOSTS = (1, 2, 4, 8)
RELEASES = (1, 10, 50)
FILES = (10, 1_000, 10_000)
FIRST = "bench1"

FILL = """
set -e
cd /opt/fastapi/releases
good=$(basename "$(readlink ../current)")
for number in $(seq $(ls | wc -l) $(($1 - 1))); do
  cp --archive --link "$good" "$(printf %012x "$number")"
done
"""
"""Makes copies of the current release until there are so many."""


def source(directory: Path, files: int, version: str) -> str:
    """A source of so many files: the example application, and modules of 1 KiB that nothing imports."""
    path = directory / f"{files}-{version}"
    shutil.copytree(hosts.ROOT / "app", path, ignore=shutil.ignore_patterns("__pycache__"))
    with (path / "main.py").open("a") as file:
        file.write(f'\nVERSION = "{version}"\n')
    for number in range(files - len(list(path.iterdir()))):
        module = path / f"package{number // 100}/module{number}.py"
        module.parent.mkdir(exist_ok=True)
        module.write_text(f"VALUE = {number}\n" + "# " + "x" * 1000 + "\n")
    return str(path)


def deploys(what: str, size: int, names: list[str], path: str, **more: object) -> Iterator[dict[str, Any]]:
    """A deploy of changed code, and one that changes nothing."""
    for kind in ("code", "nothing to do"):
        cost = hosts.playbook(hosts.SITE, names, {"gunicorn_fastapi_app_source": path, **more})
        yield {"what": what, "size": size, "kind": kind, **cost}


def measure(number: int, quick: bool) -> Iterator[dict[str, Any]]:
    """One round: by the files of the source, by the releases, all of which are kept, and by the hosts."""
    names = [f"bench{position + 1}" for position in range(1 if quick else max(HOSTS))]
    if number == 1:
        hosts.fresh(names, quick=quick)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        # Also those releases away that the last round has made.
        first = {"gunicorn_fastapi_app_source": source(directory, 10, f"{number}-first")}
        hosts.playbook(hosts.SITE, names, {**first, "gunicorn_fastapi_keep_releases": 2})
        for size in FILES[: 1 if quick else None]:
            yield from deploys("files", size, [FIRST], source(directory, size, f"{number}-files"))
        if quick:
            return
        for size in RELEASES:
            path = source(directory, 10, f"{number}-releases-{size}")
            hosts.on_host(FIRST, "bash", "-c", FILL, "fill", str(size))
            yield from deploys("releases", size, [FIRST], path, gunicorn_fastapi_keep_releases=size + 1)
        for size in HOSTS:
            path = source(directory, 10, f"{number}-hosts-{size}")
            yield from deploys("hosts", size, names[:size], path, gunicorn_fastapi_keep_releases=2)


if __name__ == "__main__":
    hosts.measured(measure, rounds=1)
