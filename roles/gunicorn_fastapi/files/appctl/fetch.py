"""Fetch, install and compile packages in a unit of its own, by a user that exists for as long as it."""

import os
import re
import shlex
from pathlib import Path
from typing import NamedTuple

from appctl import disk, lock, sandbox, tree
from appctl.app import App
from appctl.interpreter import Interpreter
from appctl.process import CtlError, run

TOOLS = App("").tools
"""uv, for all applications of the host."""

VERSION = re.compile(r"[0-9][0-9A-Za-z.+-]{0,63}")
"""A version of uv: the name of a directory of root's."""

MOST = 3600.0
"""Seconds that a build may take."""

TEMPORARY = Path("/tmp")
"""On whose disk the private temporary directory of a build is."""

PASSED_ON = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables of the caller that say how to reach an index; the proxies in capitals too."""

QUIETLY = " >/dev/null 2>&1 || true"
"""How packages are compiled: a warning for each of their lines would fill root's memory, and decides nothing."""

COMPILED = ".compiled"
TOOL = ".uv"
"""Names in the cache: compiled files of the source, and a uv that is being fetched."""


class Uv(NamedTuple):
    """Which uv installs packages, and the list that pins it."""

    version: str
    list: str

    @classmethod
    def asked(cls, word: str, version: object, list_: object = "") -> "Uv":
        """That of a request to the command `word`. Raises CtlError for a version that is none."""
        if not VERSION.fullmatch(str(version)):
            raise CtlError(f"{word}: the request names no version of uv")
        return cls(str(version), str(list_))

    @property
    def directory(self) -> Path:
        return TOOLS / f"uv-{self.version}"


def clear(app: App) -> None:
    """End a build that was left behind, and remove what builds have written.

    Packages that were fetched in this boot stay, unless the disk is full.
    """
    sandbox.stop(unit(app))
    _forget_other_boots(app)
    full = app.cache.is_dir() and not disk.has_room(app.cache)
    # All applications had one, which every user could read, and lock.
    tree.remove(app.cache.parents[1] / "uv")
    for left in app.cache.iterdir() if app.cache.is_dir() else []:
        if full or not left.name.startswith(".cache-"):
            tree.remove(left)


def unit(app: App) -> str:
    """The unit that builds."""
    return f"{app.name}-build.service"


def fetch(
    app: App, uv: Uv, index: list[str], work: Path, python: Interpreter, virtualenv: str, release: str, install: bool
) -> None:
    """Compile the source of ``work/release``, and where `install` is set, make ``work/virtualenv``.

    In the unit they are where they will be, because compiled files and scripts contain their own path. Raises CtlError
    with uv's words when it cannot install.
    """
    bound = app.virtualenvs
    here = bound / virtualenv
    made = work / "release"
    # Paths in the list are meant from the release.
    script = ["set -eu", f"cd {shlex.quote(str(app.release(release)))}"]
    stdin = ""
    if install:
        if not (uv.directory / "bin/uv").exists():
            fetch_uv(app, uv, index, work)
        stdin = (made / "requirements.txt").read_text()
        tool = uv.directory / "bin/uv"
        script += [
            f"export UV_CACHE_DIR={shlex.quote(str(bound))}/.cache-$(id -u)",
            join(tool, "venv", "--quiet", "--no-project", "--clear", f"--python={python.executable}", here),
            # A package that would have to be built is refused: its tools are pinned by no hash.
            join(
                tool, "pip", "install", "--quiet", f"--python={here}", "--require-hashes", "--no-build",
                "--requirements=-", *index,
            ),
            # By the interpreter alone, isolated: the virtualenv's own would execute what packages have put into it.
            # A file that does not compile may be one that nothing imports: the preflight judges.
            join(python.executable, "-I", "-S", "-m", "compileall", "-qq", "-j0", here / "lib") + QUIETLY,
        ]  # fmt: skip
    script.append(
        join(
            python.executable, "-I", "-S", "-X", f"pycache_prefix={bound}/{COMPILED}", "-m", "compileall", "-qq",
            *(app.release(release) / part for part in ("app", "lib")),
        ) + QUIETLY
    )  # fmt: skip
    parts = [part for part in ("app", "lib", "wheels") if (made / part).is_dir()]
    binds = [f"BindReadOnlyPaths={made / part}:{app.release(release) / part}" for part in parts]
    offline = not install or "--no-index" in index
    code, out, err = sandbox.confined(
        unit(app), ["/bin/sh", "-c", "\n".join(script)], [*properties(app, work, python, offline), *binds], stdin, MOST,
        (app.cache, TEMPORARY),
    )  # fmt: skip
    if code:
        raise CtlError((err.strip() or out.strip() or f"uv exited with status {code}") + _advice(code))
    if install:
        own = frozenset({".lock", ".gitignore", "CACHEDIR.TAG", "pyvenv.cfg", *_links(python)})
        tree.copy(app.cache / virtualenv, work / "virtualenv", own)
    take_compiled(app.cache / COMPILED, app.release(release), work)
    _forget_caches(app, app.cache / (virtualenv if install else COMPILED))


def fetch_uv(app: App, uv: Uv, index: list[str], work: Path) -> None:
    """Install uv by the wheel of pip that Debian's ensurepip would unpack, for a clean host has no pip.

    The lock is the caller's.
    """
    # Copied, because who is nobody may read the pipe of root's that it has got, but not open it by its name.
    pip = "cat >/tmp/list && PYTHONPATH=$(echo /usr/share/python-wheels/pip-*.whl) exec /usr/bin/python3 -m pip "
    command = pip + join(
        "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir", "--no-compile", "--no-deps",
        "--only-binary=:all:", "--require-hashes", f"--target={app.virtualenvs / TOOL}",
        "--requirement=/tmp/list", *index,
    )  # fmt: skip
    confined_by = properties(app, work, None, "--no-index" in index)
    disks = app.cache, TEMPORARY
    code, _, err = sandbox.confined(unit(app), ["/bin/sh", "-c", command], confined_by, uv.list, MOST, disks)
    if code:
        raise CtlError(f"uv {uv.version} could not be installed: {err.strip() or f'pip exited with status {code}'}")
    tree.copy(app.cache / TOOL, work / "uv")
    # That it is there says that it is whole, also after a loss of power.
    run("sync", "--file-system", str(work), timeout=600)
    TOOLS.mkdir(parents=True, exist_ok=True)
    TOOLS.chmod(0o755)
    try:
        (work / "uv").rename(uv.directory)
    except OSError:
        if not uv.directory.is_dir():  # else another application's build has just brought it
            raise


def properties(app: App, work: Path, python: Interpreter | None, offline: bool) -> list[str]:
    """The sandbox of a build: its cache is where virtualenvs will be, and nothing else of the application is there."""
    app.cache.mkdir(parents=True, exist_ok=True)
    for closed in app.cache.parents[:2]:
        closed.chmod(0o700)
    app.cache.chmod(0o1777)  # behind a directory that only root can enter
    home = python is not None and any(Path(python.executable).is_relative_to(top) for top in ("/home", "/root"))
    wheelhouse = app.root / "wheelhouse/wheels"
    # Root's own configuration of indexes, which the build's user could not read.
    files = {"netrc": Path("/root/.netrc"), "uv.toml": Path("/etc/uv/uv.toml")}
    loaded = {name: path for name, path in files.items() if not offline and path.is_file()}
    names = [*PASSED_ON, *(name.upper() for name in PASSED_ON if name.endswith("proxy"))]
    variables = {name: os.environ[name] for name in names if name in os.environ}
    variables |= {"HOME": "/nonexistent", "UV_PYTHON_DOWNLOADS": "never", "UV_SYSTEM_CERTS": "1", "LC_ALL": "C.UTF-8"}
    at = f"/run/credentials/{unit(app)}"
    variables |= {
        variable: f"{at}/{name}"
        for name, variable in (("netrc", "NETRC"), ("uv.toml", "UV_CONFIG_FILE"))
        if name in loaded
    }
    # Not among the properties, which everybody on the host can read: a proxy's address may have a password.
    environment = work / "environment"
    disk.durable(environment, "".join(f"{name}={_quoted(value)}\n" for name, value in variables.items()), mode=0o600)
    return [
        *sandbox.CONFINED,
        f"ProtectHome={'read-only' if home else 'yes'}",
        f"PrivateNetwork={'yes' if offline else 'no'}",
        f"TemporaryFileSystem={app.root}:mode=0755",
        f"BindPaths={app.cache}:{app.virtualenvs}",
        *([f"BindReadOnlyPaths={wheelhouse}"] if wheelhouse.is_dir() else []),
        *(f"LoadCredential={name}:{path}" for name, path in loaded.items()),
        f"EnvironmentFile={environment}",
    ]


def _links(python: Interpreter) -> list[str]:
    """The links to the interpreter in a virtualenv, which root makes itself."""
    return [f"bin/{name}" for name in ("python", "python3", f"python{python.minor}")]


def take_compiled(compiled: Path, final: Path, work: Path) -> None:
    """Copy the compiled files of a release's source from where they were put into the release."""
    top = compiled.joinpath(*final.parts[1:])
    if not top.is_dir():
        return
    copied, made = work.resolve() / "compiled", work.resolve() / "release"
    tree.copy(top, copied)
    for path in sorted(copied.rglob("*.pyc")):
        source = made / path.relative_to(copied).parent
        beside = source / "__pycache__"
        # Beside its source, and not where a link of the source leads to.
        if path.is_file() and not path.is_symlink() and source.is_dir() and beside.resolve() == beside:
            beside.mkdir(exist_ok=True)
            beside.chmod(0o755)
            path.rename(beside / path.name)


def _forget_caches(app: App, made: Path) -> None:
    """Remove fetched packages that another user has than the one that has just built."""
    if made.exists():
        owner = made.lstat().st_uid
        for cache in app.cache.glob(".cache-*"):
            if cache.name != f".cache-{owner}":
                tree.remove(cache)


def _forget_other_boots(app: App) -> None:
    """Remove fetched packages that another boot has written.

    uv waits for no disk, and believes what it finds: after a loss of power a file may be empty, for ever.
    """
    lock.private(app)
    mark = app.private / "fetched"  # which no boot leaves to the next
    if not mark.exists():
        for cache in app.cache.glob(".cache-*"):
            tree.remove(cache)
        mark.touch(mode=0o600)


def _advice(code: int) -> str:
    """What the end of a build's unit means, where its own words do not tell."""
    return f" (it was killed after {MOST:g} s)" if code in (143, 137) else ""


def join(*words: object) -> str:
    """A command for a shell."""
    return " ".join(shlex.quote(str(word)) for word in words)


def _quoted(value: str) -> str:
    """A value as a file of variables has it."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
