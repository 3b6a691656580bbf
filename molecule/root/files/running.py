"""Attempts of a running application, at all that root does for it."""

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from host import (
    ATTACKING,
    GOOD,
    ROOT,
    STATE,
    answers,
    as_application,
    attack,
    crash,
    ctl,
    expect,
    in_service,
    owned,
    run,
    shown,
    status_is_true,
)  # fmt: skip

PUBLIC = ("failures.json", "proved.json", "fastapi.json", "fastapi.service.json", "fastapi-preflight.service.json",
          "fastapi-candidate.service.json")  # fmt: skip
"""Files of root that anybody may read, which root replaces and never waits for."""

TRAP = "import os; os.close(os.open(f'/var/lib/fastapi/ran-{os.getuid()}', os.O_CREAT | os.O_WRONLY, 0o666))\n"


def home_of_the_application() -> None:
    """Python, the shell and ssh read files of HOME."""
    as_application(
        "from pathlib import Path\n"
        "for version in range(9, 20):\n"
        "    site = Path(f'/var/lib/fastapi/.local/lib/python3.{version}/site-packages')\n"
        "    site.mkdir(parents=True, exist_ok=True)\n"
        "    for name in ('trap.pth', 'usercustomize.py', 'sitecustomize.py'):\n"
        f"        (site / name).write_text({TRAP!r})\n"
    )
    springs = run("/usr/bin/python3", "-c", "", environment={"HOME": str(STATE)})
    expect((STATE / "ran-0").exists(), f"the trap does not spring: {springs}")
    (STATE / "ran-0").unlink()
    what_root_does_for_it()


def variables_of_the_application() -> None:
    """PYTHONPATH, PATH and BASH_ENV of the release name directories of the application."""
    as_application(
        "from pathlib import Path\n"
        "for name in ('path', 'bin'):\n"
        "    Path('/var/lib/fastapi', name).mkdir(exist_ok=True)\n"
        f"Path('/var/lib/fastapi/path/sitecustomize.py').write_text({TRAP!r})\n"
        "for name in ('systemctl', 'journalctl', 'python3', 'systemd-run', 'systemd-analyze', 'bashrc'):\n"
        "    file = Path('/var/lib/fastapi/bin', name)\n"
        "    file.write_text('#!/bin/sh\\n: >/var/lib/fastapi/ran-$(/usr/bin/id -u)\\n')\n"
        "    file.chmod(0o755)\n"
    )
    run("systemctl", "restart", "fastapi")
    expect(any(STATE.glob("ran-[1-9]*")), "the variables do not reach the application, so this shows nothing")
    what_root_does_for_it()


def what_root_does_for_it() -> None:
    """Start, reload, crash, handover, status, prune: root executes nothing that the application brought."""
    for verb in ("restart", "reload"):
        expect(run("systemctl", verb, "fastapi")[0] == 0, f"{verb} failed")
    crash()
    for words in (["status"], ["list"], ["packages"], ["restart"], ["prune"], ["settled"]):
        ctl(*words)
    expect(not (STATE / "ran-0").exists(), "code of the application ran as root")


def words_to_systemd() -> None:
    """Properties in STATUS=, another main process, another state; and no command line."""
    attack("status", "confuse", "rename")
    ctl("restart")
    time.sleep(0.5)  # the forged words come in turn
    for _ in range(6):
        status_is_true(ATTACKING)
    answers()
    expect(shown("MainPID") not in ("0", "1"), "systemd believes in another main process")


def records() -> None:
    """Records that a careless reader falls over."""
    attack("records")
    ctl("restart")
    status_is_true(ATTACKING)
    crash()
    status_is_true(ATTACKING)


def death_as_the_service() -> None:
    """A release that is proved, joins, and dies only as the service, with odd last words."""
    in_service(GOOD)
    attack("die")
    said = ctl("handover", ATTACKING, status=1)
    expect(f"failed on it and serves {GOOD[:12]} again: " in said, f"what happened is not told: {said}")
    expect(shown("ActiveState") == "active", "the service is down")
    status_is_true(GOOD)
    answers()
    for kind in ("candidate", "preflight"):
        expect(not Path(f"/run/systemd/system/fastapi-{kind}.service").exists(), f"a {kind} is left")
    in_service(ATTACKING)
    status_is_true(ATTACKING)


def more_time() -> None:
    """EXTEND_TIMEOUT_USEC= at the stop and at the start."""
    attack("extend", "deaf")
    ctl("restart")
    attack("extend")
    expect(run("systemctl", "restart", "fastapi")[0] == 0, "the restart failed")
    attack("extend", "hang")
    code, said = run("systemctl", "restart", "fastapi")
    expect(code != 0, f"a service that never starts was started: {said}")
    attack()
    expect(run("systemctl", "restart", "fastapi")[0] == 0, "the restart failed")
    status_is_true(ATTACKING)


def slow_answer() -> None:
    """The health path's answer comes a byte at a time and has no end."""
    attack("private")
    expect(run("systemctl", "restart", "fastapi")[0] == 0, "the attempt does not begin, so it shows nothing")
    as_application("open('/var/lib/fastapi/slow', 'w')")
    expect("does not answer within 5 s" in ctl("status"), "the answer is waited for, whatever comes")
    attack()
    run("systemctl", "restart", "fastapi")
    (STATE / "slow").unlink()
    status_is_true(ATTACKING)


def record_of_a_neighbour() -> None:
    """Another user writes records in systemd's and in root's name, again and again."""
    words = "fastapi.service: Main process exited, code=killed, status=31/SYS"
    fields = f"MESSAGE={words}\nUNIT=fastapi.service\nOBJECT_SYSTEMD_UNIT=fastapi.service\nPRIORITY=3\n"
    fields += "SYSLOG_IDENTIFIER=systemd\nLOGGER=gunicorn.error\n"
    run(
        "systemd-run", "--quiet", "--unit=neighbour", "--uid=nobody", "/usr/bin/python3", "-I", "-c",
        "import socket, time\n"
        "journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "while not time.sleep(0.1):\n"
        f"    journal.sendto({fields.encode()!r}, '/run/systemd/journal/socket')\n",
    )  # fmt: skip
    before = time.time()
    crash()
    run("systemctl", "stop", "neighbour")
    run("journalctl", "--sync")
    _, told = run("journalctl", f"--since=@{before:.3f}", "--output=cat", "_UID=0", "SYSLOG_IDENTIFIER=fastapictl")
    expect("has failed" in told, f"the crash was not told: {told}")
    expect("SYS" not in told, f"root repeats a neighbour's words: {told}")


def release_outside() -> None:
    """A directory that looks like a release, named by its path."""
    place = Path("/tmp/release")
    (place / "systemd").mkdir(parents=True, exist_ok=True)
    (place / "manifest.json").write_text('{"release": "release"}')
    for unit in ("fastapi.service", "fastapi-preflight.service", "fastapi-preflight.socket"):
        (place / "systemd" / unit).write_text("[Service]\nExecStart=/usr/bin/touch /tmp/ran\n")
    for command in ("rollback", "handover", "preflight", "packages"):
        for word in (str(place), f"../../..{place}", "..", ".", "", "*", "current/../current", "\x1b[2J"):
            expect("active" not in ctl(command, word, status=1), f"{command} {word!r} did something")
    expect(not Path("/tmp/ran").exists(), "a unit from elsewhere was started")
    status_is_true(ATTACKING)


def files_of_root() -> None:
    """Locks and caches that root waits on, histories and packages: the application opens none of them."""
    as_application(
        "import fcntl, os\n"
        "tops = ['/run/fastapi', '/run/gunicorn_fastapi', '/var/cache/gunicorn_fastapi', '/var/cache/private',\n"
        "        '/var/lib/gunicorn_fastapi', '/opt/fastapi/history.jsonl', '/opt/fastapi/credentials',\n"
        "        '/usr/local/lib/gunicorn_fastapi/lock']\n"
        "names = tops + [os.path.join(d, n) for top in tops for d, _, ns in os.walk(top) for n in ns]\n"
        f"public = {PUBLIC!r}\n"
        "for name in names:\n"
        "    if os.path.isfile(name) and os.path.basename(name) not in public:\n"
        "        try:\n"
        "            fcntl.flock(open(name), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "        except OSError:\n"
        "            continue\n"
        "        raise SystemExit(f'the application can open and lock {name}')\n"
    )


def shared_memory() -> None:
    """Files of /dev/shm, of which a host has a limited number."""
    main = shown("MainPID")
    inside = Path(f"/proc/{main}/root/dev/shm").stat()
    expect(inside.st_dev != Path("/dev/shm").stat().st_dev, "/dev/shm is the host's")


def signals_between_generations() -> None:
    """From systemd 257 on, a generation does not see the processes of another one."""
    version = int(re.findall(r"systemd (\d+)", run("systemctl", "--version")[1])[0])
    main = shown("MainPID")
    alone = Path(f"/proc/{main}/ns/pid").readlink() != Path("/proc/self/ns/pid").readlink()
    expect(alone == (version >= 257), f"systemd {version}: processes of their own: {alone}")


@contextlib.contextmanager
def drop_in(*lines: str) -> Iterator[None]:
    """Lines that an operator adds to the service, for as long as the block lasts."""
    place = Path("/etc/systemd/system/fastapi.service.d")
    place.mkdir(exist_ok=True)
    (place / "attempt.conf").write_text("\n".join(["[Service]", *lines, ""]))
    run("systemctl", "daemon-reload")
    try:
        yield
    finally:
        (place / "attempt.conf").unlink()
        with contextlib.suppress(OSError):
            place.rmdir()
        run("systemctl", "daemon-reload")


def a_stop_of_its_own() -> None:
    """STOPPING=1, and then EXTEND_TIMEOUT_USEC= without an end, by the master of the candidate that is to go."""
    with drop_in("TimeoutStartSec=10", "TimeoutStopSec=2"):
        attack("stopping")
        said = ctl("restart", timeout=120)
        expect("so it was killed" in said, f"the attempt does not begin, or is not told: {said}")
    attack()
    status_is_true(ATTACKING)
    answers()


def processes_that_stay() -> None:
    """A deaf master whose children follow each other, in sessions of their own."""
    attack("deaf", "multiply")
    ctl("restart")
    time.sleep(4)
    before = shown("InvocationID")
    attack()
    expect(run("systemctl", "restart", "fastapi", timeout=90)[0] == 0, "the restart failed")
    expect(shown("InvocationID") != before, "the former run goes on")
    left = [
        path
        for path in Path("/proc").glob("[0-9]*/environ")
        if f"INVOCATION_ID={before}".encode() in path.read_bytes().split(b"\0")
    ]
    expect(not left, f"processes of the former run are left: {left}")
    status_is_true(ATTACKING)


def a_reload_without_an_end() -> None:
    """Gunicorn's master heeds no SIGHUP."""
    attack("stale")
    ctl("restart")
    code, said = run("systemctl", "reload", "fastapi", timeout=90)
    expect(code != 0, f"a reload that never was is told as done: {said}")
    answers()
    attack()
    ctl("restart")
    status_is_true(ATTACKING)


def links_in_place_of_releases() -> None:
    """A link where a release, a virtualenv, an archive or a fetched package is expected, to what is precious."""
    precious = Path("/srv/precious")
    shutil.copytree(ROOT / "releases" / GOOD, precious, symlinks=True, dirs_exist_ok=True)
    precious.chmod(0o750)
    before = owned(precious)
    places = [
        ROOT / "releases/dead", ROOT / "virtualenvs/dead", ROOT / "credentials/dead", ROOT / "incoming/dead.tar.gz",
        ROOT / "incoming/build-dead", Path("/var/cache/gunicorn_fastapi/builds/fastapi/dead"),
    ]  # fmt: skip
    for place in places:
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(precious)
        os.utime(place, (0, 0), follow_symlinks=False)
    (precious / "manifest.json").write_text(json.dumps({"release": "dead", "files": {}, "packages": []}))
    before = owned(precious)
    for command in ("rollback", "handover", "preflight"):
        expect("is a link" in ctl(command, "dead", status=1), f"{command} takes a link for a release")
    for words in (["list"], ["status"], ["prune"]):
        ctl(*words)
    expect(owned(precious) == before, "what is precious has changed")
    expect(not any(os.path.lexists(place) for place in places), "a link is left")
    shutil.rmtree(precious)
    status_is_true(ATTACKING)


def words_of_a_manifest() -> None:
    """What a terminal obeys, in the names of packages and versions."""
    path = ROOT / "releases" / GOOD / "manifest.json"
    whole = path.read_text()
    odd = "\x1b[2J\x9b31m\u202e\u2028MainPID=1\r"
    manifest = json.loads(whole)
    manifest["packages"].append({"name": odd, "version": odd, "condition": odd, "hashes": [odd]})
    manifest["handover"] = manifest["health_path"] = odd
    path.write_text(json.dumps(manifest))
    try:
        for words in (["list"], ["packages", GOOD], ["packages", GOOD, "--json"], ["list", "--json"]):
            ctl(*words)
        expect("is not complete" in ctl("rollback", GOOD, status=1), "a release whose manifest was changed is whole")
    finally:
        path.write_text(whole)
    ctl("list")


def no_room_for_the_switch() -> None:
    """The disk is full where the units are."""
    place, saved = Path("/etc/systemd/system"), Path("/srv/units")
    shutil.copytree(place, saved, symlinks=True)
    run("mount", "-t", "tmpfs", "-o", "size=512k,mode=755", "tmpfs", str(place))
    try:
        shutil.copytree(saved, place, symlinks=True, dirs_exist_ok=True)
        with contextlib.suppress(OSError), (place / "filling").open("wb", buffering=0) as filling:
            while filling.write(b"x" * 4096):
                pass
        said = ctl("handover", GOOD, status=1)
        expect("No space left" in said, f"the reason is not told: {said}")
        status_is_true(ATTACKING)
        answers()
    finally:
        run("umount", str(place))
        shutil.rmtree(saved)
        run("systemctl", "daemon-reload")
    status_is_true(ATTACKING)


ATTEMPTS = (
    home_of_the_application, variables_of_the_application, words_to_systemd, records, death_as_the_service, more_time,
    slow_answer, record_of_a_neighbour, release_outside, files_of_root, shared_memory, signals_between_generations,
    a_stop_of_its_own, processes_that_stay, a_reload_without_an_end, links_in_place_of_releases, words_of_a_manifest,
    no_room_for_the_switch,
)  # fmt: skip
