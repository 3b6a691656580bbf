"""Attempts of packages and of whoever breaks a build off: releases of odd wheels, by the control command."""

import base64
import contextlib
import hashlib
import http.server
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import tarfile
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checks import expect, outcome, run
from host import GOOD, ROOT

WHEELS = Path("/srv/wheels")
SENT = Path(tempfile.mkdtemp(prefix="sent-"))
UIDS = Path("/tmp/uids")
PTH = f"import os; open({str(UIDS)!r}, 'a').write(str(os.getuid()) + '\\n')\n"
UV = next(Path("/usr/local/lib/gunicorn_fastapi").glob("uv-*")).name.removeprefix("uv-")


def wheel(name: str, files: dict[str, str], mode: int = 0o644) -> str:
    """Make a wheel of these files, and give the entry of a list for it."""
    info = f"{name}-1.0.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{info}/RECORD,,\n"
    for inside, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{inside},sha256={digest},{len(text.encode())}\n"
    WHEELS.mkdir(exist_ok=True)
    WHEELS.chmod(0o755)
    path = WHEELS / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in {**files, f"{info}/RECORD": record}.items():
            member = zipfile.ZipInfo(inside)
            member.external_attr = (stat.S_IFREG | mode) << 16
            archive.writestr(member, text)
    path.chmod(0o644)
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


class Release:
    """A release of a source of one file and these packages, as a controller would send it."""

    def __init__(self, text: str, requirements: str, packages: list[str], python: str = "/usr/bin/python3") -> None:
        unit = "[Service]\nProtectHome=yes\nProtectSystem=strict\nNoNewPrivileges=yes\n"
        files = {
            "app/main.py": text,
            "lib/gunicorn_fastapi/__init__.py": "",
            "etc/environment": "",
            "systemd/fastapi.service": unit,
            "requirements.txt": requirements,
        }
        self.python = python
        self.virtualenv = hashlib.sha1(f"{requirements}{python}".encode(), usedforsecurity=False).hexdigest()
        self.id = hashlib.sha1(json.dumps([files, python]).encode(), usedforsecurity=False).hexdigest()
        digests = {name: hashlib.sha256(content.encode()).hexdigest() for name, content in files.items()}
        listed = [{"name": name, "version": "1.0", "condition": "", "hashes": []} for name in packages]
        manifest = {"release": self.id, "files": digests, "packages": listed}
        self.files = {**files, "manifest.building": json.dumps(manifest)}
        self.directory = ROOT / "releases" / self.id
        self.archive = ""

    def send(self) -> None:
        """Put its archive where the controller puts it."""
        with tarfile.open(self.archive, "w:gz") as tar:
            for name, text in self.files.items():
                info = tarfile.TarInfo(f"{self.id}/{name}")
                info.size, info.mode = len(text.encode()), 0o640 if name == "etc/environment" else 0o644
                tar.addfile(info, io.BytesIO(text.encode()))

    def start(
        self, *index: str, umask: int = 0o022, credentials: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Send it and begin to build it."""
        self.archive = f"{SENT}/{time.monotonic_ns()}.tar.gz"
        self.send()
        request = {
            "release": self.id,
            "virtualenv": self.virtualenv,
            "archive": self.archive,
            "python": self.python,
            "index": list(index) or ["--no-index", "--find-links", str(WHEELS)],
            "uv": {"version": UV, "list": ""},
            "credentials": credentials or {},
        }
        process = subprocess.Popen(
            ["/usr/local/sbin/fastapictl", "build", "--json"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            umask=umask,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(request))
        process.stdin.close()
        return process

    def build(self, *index: str, **how: Any) -> dict[str, Any]:
        """Build it and give what ctl answers."""
        return answer(self.start(*index, **how))


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    text = process.stdout.read()
    process.wait()
    found: dict[str, Any] = json.loads(text)
    return found


def clean() -> None:
    """Nothing is left of a build but complete releases and their virtualenvs."""
    left = list((ROOT / "incoming").iterdir())
    expect(left == [], f"left: {left}")
    expect(outcome("systemctl", "is-active", "fastapi-build")[1].strip() == "inactive", "the unit of the build is left")
    cache = [path.name for path in Path("/var/cache/gunicorn_fastapi/builds/fastapi").iterdir()]
    expect(all(name.startswith(".cache-") for name in cache), cache)


class Index(http.server.ThreadingHTTPServer):
    """An index that answers when it is allowed to."""

    def __init__(self) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()
        index = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                index.asked.set()
                index.go_on.wait(120)
                if self.path.startswith("/simple/"):
                    links = "".join(f'<a href="/{path.name}">{path.name}</a>' for path in WHEELS.iterdir())
                    self.send_response(200)
                    self.send_header("Content-Type", "text/html")
                    self.end_headers()
                    with contextlib.suppress(OSError):
                        self.wfile.write(links.encode())
                else:
                    super().do_GET()

            def log_message(self, *_: object) -> None:
                pass

        os.chdir(WHEELS)
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.arguments = ["--index-url", f"http://127.0.0.1:{self.server_address[1]}/simple"]


@contextlib.contextmanager
def index() -> Iterator[Index]:
    server = Index()
    try:
        yield server
    finally:
        server.go_on.set()
        server.shutdown()


def packages_execute_nothing_as_root() -> None:
    """A wheel with code that each start of Python runs, an interpreter, a pyvenv.cfg and setuid modes of its own."""
    evil = wheel(
        "evil",
        {
            "evil.py": "x = 1\n",
            "x.pth": PTH,
            "sitecustomize.py": PTH,
            "evil-1.0.data/data/.seal": "{}\n",
            "evil-1.0.data/scripts/evil-tool": "#!python\nprint(1)\n",
            "evil-1.0.data/data/pyvenv.cfg": "home = /tmp\ninclude-system-site-packages = true\n",
        },
        mode=0o6777,
    )
    release = Release(f"{PTH}# {time.time()}", evil, ["evil"])
    built = release.build(umask=0o077, credentials={"password": "correct horse"})
    expect(built.get("changed") is True, built)
    expect(not UIDS.exists(), f"executed: {UIDS.read_text() if UIDS.exists() else ''}")
    virtualenv = release.directory / "venv"
    config = (virtualenv / "pyvenv.cfg").read_text()
    expect("include-system-site-packages = false" in config and "home = /usr/bin\n" in config, config)
    python = os.path.realpath("/usr/bin/python3")
    expect(str((virtualenv / "bin/python").readlink()) == python, (virtualenv / "bin/python").readlink())
    for path in [*release.directory.rglob("*"), *(ROOT / "virtualenvs" / release.virtualenv).rglob("*")]:
        status = path.lstat()
        wanted = {0o755} if path.is_dir() else {0o644, 0o755} if path.name != "environment" else {0o640}
        fine = path.is_symlink() or (stat.S_IMODE(status.st_mode) in wanted and status.st_uid == 0)
        expect(fine, f"{path} has mode {status.st_mode:o} and owner {status.st_uid}")
    expect((release.directory / "app/__pycache__").is_dir(), "the source was not compiled")
    expect(
        stat.S_IMODE((ROOT / "credentials" / release.id / "password").stat().st_mode) == 0o600, "the credential's mode"
    )
    expect(release.build() == {"said": [], "changed": False, "release": release.id}, "built twice")
    user = ["runuser", "-u", "fastapi", "--"]
    expect(outcome(*user, "ls", "/var/cache/gunicorn_fastapi")[0] != 0, "the application can open the cache")
    run(*user, f"{virtualenv}/bin/python", "-I", "-c", "import evil")
    UIDS.unlink()  # the application itself may
    clean()


def what_the_list_hides_is_not_installed() -> None:
    """A comment that ends with a backslash hides a package, and a package of the list is not among the wheels."""
    listed, hidden = wheel("listed", {"listed.py": ""}), wheel("hidden", {"hidden.py": ""})
    release = Release("", f"{listed}# a comment \\\n{hidden}", ["listed"])
    built = release.build()
    expect("hidden 1.0 is installed but not in the lock file" in built.get("reason", ""), built)
    expect(not release.directory.exists() and not (ROOT / "virtualenvs" / release.virtualenv).exists(), "it is there")
    clean()
    built = Release("", listed, ["listed", "lacking"]).build()
    expect("lacking is in the lock file but not installed" in built.get("reason", ""), built)
    clean()


def a_killed_build_leaves_nothing() -> None:
    """The control command is killed while its index does not answer."""
    release = Release("killed", wheel("killed", {"killed.py": ""}), ["killed"])
    with index() as server:
        process = release.start(*server.arguments)
        expect(server.asked.wait(60), "the index was not asked")
        process.send_signal(signal.SIGKILL)
        process.wait()
        expect(not release.directory.exists(), "half a release is there")
        built = release.build()
        expect(built.get("changed") is True, built)
    clean()


def a_failed_build_takes_nothing_of_another() -> None:
    """Two builds at once that share a virtualenv, and one of them cannot reach its index."""
    shared = wheel("shared", {"shared.py": ""})
    first, second = Release("first", shared, ["shared"]), Release("second", shared, ["shared"])
    with index() as server:
        one = first.start(*server.arguments)
        expect(server.asked.wait(60), "the index was not asked")
        two, same = second.start("--index-url", "http://127.0.0.1:9/simple"), first.start(*server.arguments)
        time.sleep(1)  # both have had time to wait for the lock
        server.go_on.set()
        expect(answer(one).get("changed") is True, "the first one failed")
        found = answer(two), answer(same)
        # The virtualenv is there by now, so that the index is not needed.
        expect(found[0].get("changed") is True and found[1].get("changed") is False, found)
        waited = "waits for the build of " + first.id[:12] + " by "
        expect(all(len(told["said"]) == 1 and waited in told["said"][0] for told in found), found)
        other = wheel("other", {"other.py": ""})
        (WHEELS / "other-1.0-py3-none-any.whl").unlink()
        built = Release("third", other, ["other"]).build(*server.arguments)
    expect(built.get("failed") is True and first.directory.exists(), built)
    expect((first.directory / "venv/bin/python").exists(), "the virtualenv has gone")
    clean()


def short_ids() -> None:
    """A release whose id is short enough that somebody can make two of it."""
    for name in (GOOD[:12], GOOD[:39], f"{GOOD[:39]}g", f"../{GOOD}", "current"):
        release = Release("short", wheel("listed", {"listed.py": ""}), ["listed"])
        release.id = name
        if "/" not in name:
            release.directory = ROOT / "releases" / name
        built = release.build()
        expect(built.get("failed") is True and not (ROOT / "releases" / name / "app/main.py").exists(), built)
    clean()


def what_is_damaged_is_built_again() -> None:
    """Another interpreter, a package and a source without content."""
    release = Release("damaged", wheel("damaged", {"damaged.py": "x = 1\n"}), ["damaged"])
    virtualenv = ROOT / "virtualenvs" / release.virtualenv
    expect(release.build().get("changed") is True, "it was not built")
    for what in (
        release.directory / "app/main.py",
        next(virtualenv.glob("lib/*/site-packages/damaged.py")),
        virtualenv / "bin/python",
    ):
        if what.is_symlink():
            what.unlink()
            what.symlink_to("/tmp/python3")
        else:
            os.truncate(what, 0)
        built = release.build()
        expect(
            built.get("changed") is True and "is incomplete, so it is rebuilt" in built["said"][0], f"{what}: {built}"
        )
    clean()


def interpreters_are_refused_by_name() -> None:
    """Interpreters that root could execute, and the application could not."""
    listed = wheel("listed", {"listed.py": ""})
    real = os.path.realpath("/usr/bin/python3")

    def refused(python: Path, reason: str) -> None:
        built = Release("", listed, ["listed"], str(python)).build()
        said = built.get("reason", "")
        expect(f"the interpreter {python} " in said and reason in said and "gunicorn_fastapi_python" in said, built)

    for directory, mode, reason in (
        (Path("/root/python"), 0o755, "below /root"),
        (Path("/home/python"), 0o755, "below /home"),
        (Path("/srv/closed"), 0o700, "the directory /srv/closed is closed to others"),
        (Path("/srv/broken"), 0o755, "ELF"),
    ):
        directory.mkdir(exist_ok=True)
        directory.chmod(mode)
        python = directory / "python3"
        if directory.name == "broken":
            python.write_text("#!/bin/sh\necho invalid ELF header >&2\nexit 127\n")
        else:
            shutil.copy(real, python)
        python.chmod(0o755)
        refused(python, reason)
    link = Path("/usr/local/bin/python-of-root")
    link.unlink(missing_ok=True)
    link.symlink_to("/root/python/python3")
    refused(link, "which is /root/python/python3, lies below /root")
    noexec = Path("/srv/noexec")
    noexec.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "noexec,mode=755", "tmpfs", str(noexec))
    shutil.copy(real, noexec / "python3")
    refused(noexec / "python3", "mounted noexec")
    run("umount", str(noexec))
    clean()


ATTEMPTS = (
    packages_execute_nothing_as_root, what_the_list_hides_is_not_installed, a_killed_build_leaves_nothing,
    a_failed_build_takes_nothing_of_another, short_ids, what_is_damaged_is_built_again,
    interpreters_are_refused_by_name,
)  # fmt: skip
