"""Attempts at names that belong to others, and at the uninstallation. The last of them leaves no application."""

import contextlib
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from checks import expect, outcome, run
from host import STATE, as_application, attack, ctl, owned, shown

PROGRAM = next(Path("/usr/local/lib/gunicorn_fastapi").glob("ctl-*"))
RECORDS = Path("/var/lib/gunicorn_fastapi/applications")
NEIGHBOUR = Path("/var/lib/neighbour")
HOME = Path("/home/somebody")
ACCOMPLICE = (
    "import os, socket, time\n"
    "door = socket.socket(socket.AF_UNIX)\n"
    "door.bind('\\0accomplice')\n"
    "door.listen()\n"
    "got = socket.recv_fds(door.accept()[0], 1, 1)[1]\n"
    "time.sleep(600)\n"
)


def claim(name: str) -> tuple[int, str]:
    """Have the role note that a name is an application's."""
    return outcome("/usr/bin/python3", "-I", "-S", str(PROGRAM / "appctl/ours.py"), "claim", name)


def names_of_others() -> None:
    """Names of the system, and of what is there already."""
    before = owned(Path("/var/lib/dpkg/info").parent, Path("/run/systemd"))[str(Path("/var/lib/dpkg"))]
    for name in (
        "dpkg",
        "apt",
        "systemd",
        "root",
        "daemon",
        "private",
        "gunicorn_fastapi",
        "a/../dpkg",
        "",
        "-n",
        "x\n",
    ):
        expect(claim(name)[0] != 0, f"the name {name!r} is an application's")
    expect(owned(Path("/var/lib/dpkg"))["/var/lib/dpkg"] == before, "/var/lib/dpkg has changed")
    for path in (
        "/usr/lib/systemd/system/shop.service", "/etc/systemd/system/shop.service.d/",
        "/run/systemd/system/shop.socket", "/etc/systemd/system.control/shop.service.d/",
        "/etc/systemd/system/shop-.service.d/", "/usr/local/bin/shopctl",
        "/etc/systemd/system/shop-address-0123456789ab.socket", "/etc/init.d/shop", "/run/shop/", "/var/cache/shop/",
        "/var/lib/shop/", "/opt/shop/",
    ):  # fmt: skip
        with made(Path(path), path.endswith("/")):
            code, said = claim("shop")
            expect(code != 0 and path.rstrip("/") in said, f"{path} is another's, and the name is taken: {said}")
    with made(RECORDS / "shop.json", False), made(Path("/var/lib/shop"), True):
        (RECORDS / "shop.json").write_text(json.dumps({"made": ["/var/lib/shop"]}))
        (RECORDS / "shop.json").chmod(0o666)
        expect(claim("shop")[0] != 0, "a record that anybody can write is believed")
    expect(claim("shop") == (0, '{"changed": true}\n'), "a name that is free is refused")
    (RECORDS / "shop.json").unlink()


@contextlib.contextmanager
def made(path: Path, directory: bool) -> Iterator[None]:
    """A file or a directory, for as long as the block lasts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if directory:
        path.mkdir()
    else:
        path.touch()
    try:
        yield
    finally:
        if directory:
            path.rmdir()
        else:
            path.unlink()


def processes_elsewhere() -> None:
    """A process of the application's user that no unit of the application has, at the uninstallation."""
    disguised = "import ctypes, time; ctypes.CDLL(None).prctl(15, b'\\nUid:\\t0\\t0', 0, 0, 0); time.sleep(600)"
    run(
        "systemd-run", "--quiet", "--unit=stranger", "--uid=fastapi", "--property=KillSignal=KILL",
        "/usr/bin/python3", "-I", "-c", disguised,
    )  # fmt: skip
    time.sleep(0.5)
    said = ctl("uninstall", status=1)
    expect("nothing was removed" in said and "stranger.service" in said, f"it is not told: {said}")
    expect(shown("ActiveState") == "active", "the service was stopped all the same")
    run("systemctl", "stop", "stranger")


def uninstallation() -> None:
    """Links, a FIFO, a socket and a deep tree in the state; children that never end; an accomplice with the socket."""
    for place, owner in ((HOME, 1234), (NEIGHBOUR, 1235)):
        place.mkdir(exist_ok=True)
        (place / "precious").write_text("precious")
        for path in (place / "precious", place):
            os.chown(path, owner, owner)
    # The accomplice first, so that what the application hands on finds it.
    run("systemd-run", "--quiet", "--unit=accomplice", "--uid=nobody", "/usr/bin/python3", "-I", "-c", ACCOMPLICE)
    attack("hand_on", "multiply")
    run("systemctl", "restart", "fastapi")
    time.sleep(4)
    as_application(
        "import os, socket\n"
        "os.chdir('/var/lib/fastapi')\n"
        f"os.symlink('/home', 'h'); os.symlink('{NEIGHBOUR}', 'o'); os.symlink('/etc/shadow', 's')\n"
        "os.mkfifo('fifo')\n"
        "os.truncate(os.open('sparse', os.O_CREAT | os.O_WRONLY), 1 << 40)\n"
        "os.link('sparse', 'hard')\n"
        "os.symlink('loop', 'loop'); os.symlink('/proc/self/fd/0', 'p'); open(b'odd\\xff\\n\\x1b[2J', 'w')\n"
        "socket.socket(socket.AF_UNIX).bind('socket')\n"
        "for _ in range(300):\n"
        "    os.mkdir('d'); os.chdir('d'); os.symlink('/home', 'h')\n"
    )
    before = owned(Path("/home"), NEIGHBOUR), Path("/etc/shadow").stat().st_uid
    inside = {path.name: path.lstat().st_uid for path in STATE.iterdir()}
    said = ctl("uninstall", timeout=90)
    expect((owned(Path("/home"), NEIGHBOUR), Path("/etc/shadow").stat().st_uid) == before, "a link was followed")
    expect({path.name: path.lstat().st_uid for path in STATE.iterdir()} == inside, "root went into the state")
    status = STATE.stat()
    expect((status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o700), "the state is open to the next user")
    expect("is still answered by" in said and "accomplice.service" in said, f"the accomplice is not told: {said}")
    run("systemctl", "stop", "accomplice")
    for gone in ("/opt/fastapi", "/run/fastapi", "/usr/local/sbin/fastapictl", "/etc/systemd/system/fastapi.service"):
        expect(not os.path.lexists(gone), f"{gone} is left")
    with_its_state(before[0])
    shutil.rmtree(HOME)
    shutil.rmtree(NEIGHBOUR)


def with_its_state(before: dict[str, tuple[int, ...]]) -> None:
    """The same links when the state goes, too; as the playbook does it, which brings the control command again."""
    expect(claim("fastapi")[0] == 0, "what was kept is not known any more")
    code, said = outcome(
        "/usr/bin/python3", "-I", "-S", "-c",
        f"import sys; sys.path.insert(0, '{PROGRAM}'); from appctl.cli import main; "
        "main('fastapi', ['uninstall', '--remove-state'])",
    )  # fmt: skip
    expect(code == 0 and not os.path.lexists(STATE), f"the state is left: {said}")
    expect(owned(Path("/home"), NEIGHBOUR) == before, "a link was followed when the state was removed")


ATTEMPTS = (names_of_others, processes_elsewhere, uninstallation)
