"""How the cost of a deploy grows: with the hosts, with the releases on a host, with the files of the source.

The raw figures are added to FILE; bench/deploy_report.py reads them.

    python3 bench/growth.py FILE [--rounds 2] [--quick] [--only hosts]
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deploy_hosts as hosts

HOSTS = (1, 2, 4, 8)
RELEASES = (1, 10, 50)
FILES = (10, 1_000, 10_000)
FIRST = "bench1"

Keep = Callable[[str, int, str, dict[str, float]], None]

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


def deploy(names: list[str], path: str, **more: object) -> dict[str, float]:
    """Deploy to hosts."""
    return hosts.playbook(hosts.SITE, names, {"gunicorn_fastapi_app_source": path, **more})


def with_files(directory: Path, version: str, sizes: tuple[int, ...], keep: Keep) -> None:
    """A deploy of changed code, and one that changes nothing, by the files of the source."""
    for size in sizes:
        path = source(directory, size, version)
        keep("files", size, "code", deploy([FIRST], path))
        keep("files", size, "nothing to do", deploy([FIRST], path))


def with_releases(directory: Path, version: str, sizes: tuple[int, ...], keep: Keep) -> None:
    """The same by the releases that are there, all of which are kept."""
    for size in sizes:
        path = source(directory, 10, f"{version}-{size}")
        hosts.on_host(FIRST, "bash", "-c", FILL, "fill", str(size))
        keep("releases", size, "code", deploy([FIRST], path, gunicorn_fastapi_keep_releases=size + 1))
        keep("releases", size, "nothing to do", deploy([FIRST], path, gunicorn_fastapi_keep_releases=size + 1))
    deploy([FIRST], source(directory, 10, f"{version}-last"), gunicorn_fastapi_keep_releases=2)


def with_hosts(directory: Path, version: str, sizes: tuple[int, ...], keep: Keep) -> None:
    """The same by the hosts, which all share the CPUs of one machine."""
    for size in sizes:
        path = source(directory, 10, f"{version}-on-{size}")
        names = [f"bench{number + 1}" for number in range(size)]
        keep("hosts", size, "code", deploy(names, path))
        keep("hosts", size, "nothing to do", deploy(names, path))


def main() -> None:
    """Measure, and keep the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="one round of the smallest sizes, to see that it works")
    parser.add_argument("--only", choices=["files", "releases", "hosts"], help="one of the three")
    options = parser.parse_args()

    known: dict[str, Any] = json.loads(options.file.read_text()) if options.file.exists() else {"figures": []}
    known["machine"] = hosts.machine()
    parts = {"files": (with_files, FILES), "releases": (with_releases, RELEASES), "hosts": (with_hosts, HOSTS)}
    parts = {name: part for name, part in parts.items() if options.only in (None, name)}
    names = [f"bench{number + 1}" for number in range(max(HOSTS) if "hosts" in parts and not options.quick else 1)]
    hosts.fresh(names)
    with tempfile.TemporaryDirectory() as directory:
        deploy(names, source(Path(directory), 10, "first"))
        done = max((figure["round"] for figure in known["figures"]), default=-1) + 1
        for number in range(done, done + (1 if options.quick else options.rounds)):

            def keep(what: str, size: int, kind: str, figure: dict[str, float], number: int = number) -> None:
                known["figures"].append({"round": number, "what": what, "size": size, "kind": kind, **figure})
                options.file.write_text(json.dumps(known, indent=1) + "\n")
                print(number, what, size, kind, figure, flush=True)

            for measure, sizes in parts.values():
                measure(Path(directory), f"v{number}", sizes[:1] if options.quick else sizes, keep)
    hosts.destroy(names)


if __name__ == "__main__":
    main()
