"""Attempts of a running application, at all that root does for it."""

import os
import re
import time
from pathlib import Path

from checks import expect, outcome, run, wait_for
from host import (
    ATTACKING,
    GOOD,
    STATE,
    answers,
    as_application,
    attack,
    crash,
    ctl,
    in_service,
    processes_of,
    shown,
    status_is_true,
)  # fmt: skip

PUBLIC = (
    "failures.json", "proved.json", "traffic.json", "fastapi.json", "fastapi.service.json",
    "fastapi-preflight.service.json", "fastapi-candidate.service.json",
)  # fmt: skip
"""Files of root that anybody may read, which root replaces and never waits for."""

TRAP = "import os; os.close(os.open(f'/var/lib/fastapi/ran-{os.getuid()}', os.O_CREAT | os.O_WRONLY, 0o666))\n"


def code_of_the_application() -> None:
    """Files of HOME that Python, the shell and ssh read, and variables of the release that name others."""
    as_application(
        "from pathlib import Path\n"
        "for version in range(9, 20):\n"
        "    site = Path(f'/var/lib/fastapi/.local/lib/python3.{version}/site-packages')\n"
        "    site.mkdir(parents=True, exist_ok=True)\n"
        "    for name in ('trap.pth', 'usercustomize.py', 'sitecustomize.py'):\n"
        f"        (site / name).write_text({TRAP!r})\n"
        "for name in ('path', 'bin'):\n"
        "    Path('/var/lib/fastapi', name).mkdir(exist_ok=True)\n"
        f"Path('/var/lib/fastapi/path/sitecustomize.py').write_text({TRAP!r})\n"
        "for name in ('systemctl', 'journalctl', 'python3', 'systemd-run', 'systemd-analyze', 'bashrc', 'sync'):\n"
        "    file = Path('/var/lib/fastapi/bin', name)\n"
        "    file.write_text('#!/bin/sh\\n: >/var/lib/fastapi/ran-$(/usr/bin/id -u)\\n')\n"
        "    file.chmod(0o755)\n"
    )
    springs = outcome("/usr/bin/python3", "-c", "", environment={"HOME": str(STATE)})
    expect((STATE / "ran-0").exists(), f"the trap does not spring: {springs}")
    (STATE / "ran-0").unlink()
    run("systemctl", "restart", "fastapi")
    expect(any(STATE.glob("ran-[1-9]*")), "the variables do not reach the application, so this shows nothing")
    expect(any(STATE.glob("loaded.*")), "the loader's variables do not reach the application, so this shows nothing")
    run("systemctl", "reload", "fastapi")
    crash()
    for words in (["status"], ["list"], ["packages"], ["restart"], ["prune"], ["settled"]):
        ctl(*words)
    expect(not (STATE / "ran-0").exists(), "code of the application ran as root")
    of_root = [path for path in STATE.glob("loaded.*") if path.lstat().st_uid == 0]
    expect(not of_root, f"a program of root's got variables of the application: {of_root}")


def words_to_systemd() -> None:
    """Properties in STATUS=, another main process, a FIFO as a command line, another state; and no command line."""
    as_application("import os; os.makedirs('/var/lib/fastapi/pid'); os.mkfifo('/var/lib/fastapi/pid/cmdline')")
    as_application(f"open('/var/lib/fastapi/another', 'w').write({GOOD!r})")
    for odd in ("rename", "pose"):
        attack("status", "confuse", odd)
        run("systemctl", "restart", "fastapi")
        time.sleep(0.4)  # the forged words come in turn
        for _ in range(3):
            status_is_true(ATTACKING)
    answers()
    expect(shown("MainPID") not in ("0", "1"), "systemd believes in another main process")
    expect(shown("NFileDescriptorStore") in ("", "0"), "systemd keeps descriptors of the application")


def records() -> None:
    """Records that a careless reader falls over."""
    attack("records")
    ctl("restart")
    status_is_true(ATTACKING)
    crash()
    status_is_true(ATTACKING)


def large_records() -> None:
    """Records of 30 MB, in a process that may have 250 MB."""
    attack("large")
    run("systemctl", "restart", "fastapi")
    for words in (["status"], ["settled"]):
        code, said = outcome("prlimit", "--as=250000000", "/usr/local/sbin/fastapictl", *words)
        expect(code == 0, f"fastapictl {words[0]} has no room: {said}")
    attack()
    run("journalctl", "--rotate", "--vacuum-size=1M")


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
    """EXTEND_TIMEOUT_USEC= at the stop and at the start; a deaf master, and children that follow each other."""
    attack("extend", "deaf", "multiply")
    run("systemctl", "restart", "fastapi")
    time.sleep(4)
    before = shown("InvocationID")
    attack("extend", "hang")
    code, said = outcome("systemctl", "restart", "fastapi", timeout=90)
    expect(code != 0, f"a service that never starts was started: {said}")
    expect(shown("InvocationID") != before, "the former run goes on")
    expect(not (left := processes_of(before)), f"processes of the former run are left: {left}")
    attack()
    run("systemctl", "restart", "fastapi", timeout=90)
    status_is_true(ATTACKING)


def slow_answer() -> None:
    """The health path's answer comes a byte at a time and has no end."""
    attack("private")
    run("systemctl", "restart", "fastapi")
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
    told = run("journalctl", f"--since=@{before:.3f}", "--output=cat", "_UID=0", "SYSLOG_IDENTIFIER=fastapictl")
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
        "    if name.startswith('/run/fastapi/traffic/'):\n"
        "        continue\n"  # it writes there
        "    if os.path.isfile(name) and os.path.basename(name) not in public:\n"
        "        try:\n"
        "            fcntl.flock(open(name), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "        except OSError:\n"
        "            continue\n"
        "        raise SystemExit(f'the application can open and lock {name}')\n"
    )


def counts_of_requests() -> None:
    """The application forges its counts, and then takes all the room that there is for them. It harms itself alone."""
    tables = (
        "import os, pathlib\n"
        "for path in pathlib.Path('/run/fastapi/traffic').iterdir():\n"
        "    table = os.open(path, os.O_RDWR)\n"
    )
    as_application(f"{tables}    os.pwrite(table, os.urandom(500_000), 8192)\n")
    for command in ("traffic", "metrics", "status"):
        expect(not re.search(r"\b(nan|inf)\b", ctl(command)), f"{command} shows what cannot be counted")
    as_application(
        f"{tables}    os.lseek(table, 0, os.SEEK_END)\n"
        "    try:\n"
        "        while os.write(table, bytes(65536)):\n"
        "            pass\n"
        "    except OSError as error:\n"
        "        assert error.errno == 28\n"
    )
    room = os.statvfs("/run/fastapi/traffic")
    expect(room.f_blocks * room.f_frsize == 4 * 2**20, f"there is room for more: {room}")
    for command in ("traffic", "metrics", "status"):
        ctl(command)
    ctl("restart")
    expect('"generation": "main"' in ctl("traffic", "--json"), "the next start counts nothing")


def shared_memory() -> None:
    """Files of /dev/shm, of which a host has a limited number."""
    main = shown("MainPID")
    inside = Path(f"/proc/{main}/root/dev/shm").stat()
    expect(inside.st_dev != Path("/dev/shm").stat().st_dev, "/dev/shm is the host's")


def signals_between_generations() -> None:
    """From systemd 257 on, a generation does not see the processes of another one."""
    version = int(re.findall(r"systemd (\d+)", run("systemctl", "--version"))[0])
    main = shown("MainPID")
    alone = Path(f"/proc/{main}/ns/pid").readlink() != Path("/proc/self/ns/pid").readlink()
    expect(alone == (version >= 257), f"systemd {version}: processes of their own: {alone}")


def a_reload_without_an_end() -> None:
    """Gunicorn's master heeds no SIGHUP."""
    attack("stale")
    run("systemctl", "restart", "fastapi")
    code, said = outcome("systemctl", "reload", "fastapi", timeout=90)
    expect(code != 0, f"a reload that never was is told as done: {said}")
    answers()
    attack()
    run("systemctl", "restart", "fastapi")
    status_is_true(ATTACKING)


def sockets_that_are_shut() -> None:
    """The application shuts down the sockets that the next release inherits."""
    for left in ("spoil", "spoiled"):
        (STATE / left).unlink(missing_ok=True)
    attack("spoil")
    run("systemctl", "restart", "fastapi")
    as_application("open('/var/lib/fastapi/spoil', 'w')")
    wait_for((STATE / "spoiled").exists, "sockets that are shut")
    expect("health check failed to connect" in ctl("status"), "the attempt does not begin, so it shows nothing")
    ctl("handover", GOOD)
    status_is_true(GOOD)
    answers()


ATTEMPTS = (
    code_of_the_application, words_to_systemd, records, large_records, death_as_the_service, more_time, slow_answer,
    record_of_a_neighbour, release_outside, files_of_root, counts_of_requests, shared_memory,
    signals_between_generations, a_reload_without_an_end, sockets_that_are_shut,
)  # fmt: skip
