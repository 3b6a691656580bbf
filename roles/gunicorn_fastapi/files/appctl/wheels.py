"""Wheels of packages that exist as source only: built once, in the sandbox of a build, for all hosts of a kind."""

import base64
import hashlib
import os
import platform
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from appctl import disk, fetch, pythons, sandbox, tags, tree
from appctl.app import App
from appctl.interpreter import Interpreter
from appctl.packages import canonical, normalized
from appctl.process import CtlError

MOST = 1800.0
"""Seconds that the build of one may take."""

SIZE_MAX = 16 * 1024 * 1024
"""Bytes of one."""

PIECE = 12_000
"""Bytes of it in one text of an answer, which would be cut off if it were longer."""

COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")

LIMITS = ("TasksMax=512", "MemoryMax=80%")

LACKING = (
    (re.compile(r"Python\.h: No such file"), "python3-dev"),
    (
        re.compile(
            r"(gcc|cc|g\+\+|c\+\+)['\" ].{0,80}(No such file|not found)|command '.*(gcc|cc|g\+\+)' failed: No such"
        ),
        "build-essential",
    ),
    (re.compile(r"git is not on this host"), "git"),
    (re.compile(r"pg_config"), "libpq-dev"),
    (re.compile(r"mysql_config|mysqlclient"), "default-libmysqlclient-dev"),
    (re.compile(r"cargo|rustc"), "cargo"),
    (re.compile(r"ffi\.h: No such file"), "libffi-dev"),
    (re.compile(r"libxml/\S+: No such file|xslt-config|xml2-config"), "libxslt1-dev"),
    (re.compile(r"openssl/\S+: No such file"), "libssl-dev"),
    (re.compile(r"pkg-config"), "pkg-config"),
)
"""What a build says, and the Debian package whose absence it means."""


class Source(NamedTuple):
    """The source of a package, as a lock has it."""

    name: str
    version: str
    url: str
    digest: str
    """Of an archive its sha256, of a repository the commit."""
    directory: str = ""
    """Where in it the package is."""
    inside: str = ""
    """Of a package of the project's own its directory, as a list names it."""


def sources(pylock: str, base: Path, project: Path, python: str) -> list[Source]:
    """The packages of a lock that have no wheel for this version of Python. Raises CtlError for what cannot be fetched.

    `base` is where uv has made the lock, from which its paths are, in the one of the `project`.
    """
    found = []
    for package in tomllib.loads(pylock).get("packages", []):
        name, version = str(package.get("name", "")), str(package.get("version", ""))
        files = [tags.file_of(wheel) for wheel in package.get("wheels", [])]
        here = tags.holds(str(package.get("marker", "")), python)
        if any(tags.fits(file, python, platform.machine()) for file in files) or here is False or (files and not here):
            continue
        if beside := str(package.get("directory", {}).get("path", "")):
            inside = os.path.relpath(base / beside, project)
            found.append(Source(normalized(name), version, f"dir+{project / inside}", "", inside=f"./{inside}"))
            continue
        vcs = package.get("vcs", {})
        if re.match("https?://", str(vcs.get("url", ""))) and COMMIT.fullmatch(str(vcs.get("commit-id", ""))):
            directory = str(vcs.get("subdirectory", ""))
            found.append(Source(normalized(name), version, f"git+{vcs['url']}", vcs["commit-id"], directory))
            continue
        sdist = package.get("sdist", {})
        url, digest = str(sdist.get("url", "")), str(sdist.get("hashes", {}).get("sha256", ""))
        if not re.match("https?://", url) or not digest:
            raise CtlError(
                f"{name} has no wheel, and its source comes from neither an index nor a repository that this host can "
                "reach (git+https://). Build a wheel of it (uv build --wheel), and "
                "put it into gunicorn_fastapi_wheelhouse"
            )
        found.append(Source(normalized(name), version, url, digest))
    return found


def build(
    app: App,
    uv: fetch.Uv,
    index: list[str],
    work: Path,
    python: Interpreter,
    source: Source,
    bound: Sequence[str] = (),
) -> tuple[str, str, list[str]]:
    """Build a wheel: the name of its file, its digest, and its content in texts of base64. The lock is the caller's.

    Fetched with the network and built without it, by a user that exists for as long as the unit.
    """
    here, kept = app.virtualenvs / "building", app.cache / "building"
    tree.remove(kept)
    tool, tools = uv.directory / "bin/uv", here / "tools"
    script = Path(__file__).with_name("sdist.py")
    quiet = (tool, "--quiet")
    fetching = [
        "set -eu",
        f"export UV_CACHE_DIR={fetch.join(app.virtualenvs)}/.cache-$(id -u)",
        fetch.join("mkdir", here),
        fetch.join("/usr/bin/python3", "-IS", script, source.url, source.digest, here, source.directory),
        fetch.join(*quiet, "venv", "--no-project", f"--python={python.executable}", tools),
        fetch.join(
            *quiet, "pip", "install", f"--python={tools}", "--no-build", f"--requirements={here}/requires.txt", *index
        ),
    ]
    building = [
        "set -eu",
        f"export HOME=/tmp UV_CACHE_DIR=/tmp/cache PATH={fetch.join(tools)}/bin:$PATH",
        # A Python that was built elsewhere asks for the compiler that it was built with.
        *(["export CC=cc CXX=c++"] if pythons.of_executable(app, python.executable) else []),
        fetch.join(
            tool, "build", "--wheel", "--no-build-isolation", "--offline", "--no-create-gitignore", "--no-config",
            f"--python={tools}/bin/python", f"--out-dir={here}/out", here / "source",
        ),
    ]  # fmt: skip
    for words, offline in ((fetching, False), (building, True)):
        confined_by = [*fetch.properties(app, work, python, offline), *bound, *LIMITS]
        code, out, err = sandbox.confined(
            fetch.unit(app), ["/bin/sh", "-c", "\n".join(words)], confined_by, "", MOST, (app.cache, fetch.TEMPORARY)
        )
        if code:
            raise CtlError(_why(source, err.strip() or out.strip() or f"its build exited with status {code}"))
    tree.copy(kept / "out", work / f"wheel-{source.name}")
    return _taken(source, work / f"wheel-{source.name}")


def _taken(source: Source, directory: Path) -> tuple[str, str, list[str]]:
    """What a build has left. Raises CtlError when that is not the one wheel."""
    found = sorted(directory.glob("*.whl"))
    parts = found[0].name.split("-") if len(found) == 1 else []
    if len(parts) < 5 or normalized(parts[0]) != source.name or not _is_version(parts[1], source):
        names = ", ".join(path.name for path in found) or "no wheel"
        raise CtlError(f"the build of {source.name} {source.version} has left {names}, and not a wheel of it")
    content = disk.read_bounded(found[0], SIZE_MAX + 1)
    if len(content) > SIZE_MAX:
        raise CtlError(f"{found[0].name} has more than {SIZE_MAX // 2**20} MB. Put it into gunicorn_fastapi_wheelhouse")
    texts = [base64.b64encode(content[i : i + PIECE]).decode() for i in range(0, len(content), PIECE)]
    return found[0].name, hashlib.sha256(content).hexdigest(), texts


def _is_version(version: str, source: Source) -> bool:
    """Whether a version is the one of the lock, which knows none where the source itself has to say it."""
    return not source.version or canonical(version) == canonical(source.version)


def _why(source: Source, told: str) -> str:
    """Why a package was not built, and which Debian packages that probably lacks."""
    lacking = [package for pattern, package in LACKING if pattern.search(told)]
    if lacking:
        said = f"The build probably lacks {', '.join(lacking)}: name what it needs in gunicorn_fastapi_packages"
    else:
        said = (
            f"Take a version that has a wheel (gunicorn_fastapi_upgrade: [{source.name}]), or put a wheel of it into "
        )
        said += "gunicorn_fastapi_wheelhouse"
    return f"{source.name} {source.version} has no wheel for this host, and was not built: {told.rstrip('.')}. {said}"


def listed(lines: list[str], built: dict[str, tuple[str, str]]) -> list[str]:
    """A list with wheels of the release in place of the sources; `built` has file and digest of each by its name."""
    said: list[str] = []
    skipping = False
    for line in lines:
        match = re.match(r"([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?(?:==[^\s;\\]+| @ git\+\S+)([^\\]*)", line)
        match = match or re.match(r"(\./[^\s;\\]+)([^\\]*)", line)  # a package of the workspace
        if match:
            key = match[1] if match[1].startswith("./") else normalized(match[1])
            skipping = key in built
            if skipping:
                file, digest = built[key]
                marker = match[2].strip()
                said.append(f"./wheels/{file}{f' {marker}' if marker else ''} --hash=sha256:{digest}")
        if not (skipping and (match or line.startswith(" "))):
            said.append(line)
    return said
