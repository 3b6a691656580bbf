#!/usr/bin/env python3
"""What root does for an application, attempted to be turned against the host. Runs as root on the host.

check.py GOOD ATTACKING: the ids of two releases; the second one does what the file `attacks` in its state says.
Prints a line for each attempt, and ends with status 1 and the reason at the first that succeeds.
"""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

GOOD, ATTACKING = sys.argv[1:3]
STATE = Path("/var/lib/fastapi")
RUN = Path("/run/fastapi")
ASKED_FOR = 600
"""Seconds that the application asks systemd for."""

PUBLIC = ("failures.json", "proved.json", "fastapi.json", "fastapi.service.json", "fastapi-preflight.service.json",
          "fastapi-candidate.service.json")  # fmt: skip
"""Files of root that anybody may read, which root replaces and never waits for."""

TRAP = "import os; os.close(os.open(f'/var/lib/fastapi/ran-{os.getuid()}', os.O_CREAT | os.O_WRONLY, 0o666))\n"
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")


class Succeeded(Exception):  # noqa: N818 (it is the attempt that did)
    """An attempt that should have failed."""


def run(*command: str, timeout: float = ASKED_FOR / 2, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit status and output of a command. To be held up for longer than `timeout` seconds is the attempt's success."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=timeout,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Succeeded(f"{' '.join(command)} was held up for more than {timeout:g} s") from None
    return done.returncode, done.stdout.decode(errors="surrogateescape")


def ctl(*words: str, status: int = 0) -> str:
    """What the control command says: in words that are safe to show, and never a traceback."""
    code, said = run("/usr/local/sbin/fastapictl", *words)
    expect("Traceback" not in said, f"fastapictl {' '.join(words)} crashed: {said}")
    expect(not UNSAFE.search(said), f"fastapictl {' '.join(words)} printed what a terminal obeys: {said!r}")
    expect(code == status, f"fastapictl {' '.join(words)} ended with {code}: {said}")
    return said


def expect(holds: bool, otherwise: str) -> None:
    """Raise Succeeded unless something holds."""
    if not holds:
        raise Succeeded(otherwise)


def as_application(code: str, user: str = "fastapi") -> None:
    """Execute Python as a user."""
    subprocess.run(
        ["/usr/sbin/runuser", "-u", user, "--", "/usr/bin/python3", "-I", "-c", code], check=True, cwd="/", timeout=60
    )


def attack(*words: str) -> None:
    """Have the attacking release do this from its next start on."""
    as_application(f"open('/var/lib/fastapi/attacks', 'w').write({' '.join(words)!r})")


def shown(name: str, unit: str = "fastapi.service") -> str:
    """A property of a unit, asked for alone."""
    return run("systemctl", "show", f"--property={name}", "--value", unit)[1].strip()


def answers() -> None:
    """The application serves."""
    with urllib.request.urlopen("http://127.0.0.1:80/", timeout=60) as answer:
        expect(answer.status == 200, f"GET / answered {answer.status}")


def status_is_true(release: str) -> None:
    """What `status` says of the service is what systemd knows."""
    state = json.loads(ctl("status", "--json"))
    main = int(shown("MainPID"))
    workers = len(Path(f"/proc/{main}/task/{main}/children").read_text().split())
    truth = {"release": release, "workers": workers, "state": f"{shown('ActiveState')} ({shown('SubState')})"}
    seen = {name: state[name] for name in truth}
    expect(seen == truth, f"status says {seen}, true is {truth}")
    expect(ctl("settled").strip() == release, "a settled release is not seen as such")


def in_service(release: str) -> None:
    """Hand over to a release that does nothing yet."""
    attack()
    ctl("handover", release)


# --- The attempts -----------------------------------------------------------------------------------


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


def crash() -> None:
    """Kill gunicorn, and wait until the next one serves."""
    before = shown("InvocationID")
    run("kill", "-9", shown("MainPID"))
    for _ in range(600):
        if shown("InvocationID") != before and shown("ActiveState") == "active":
            return
        time.sleep(0.1)
    raise Succeeded("the service did not come back")


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
    run("systemctl", "restart", "fastapi")
    ctl("status")
    attack()
    run("systemctl", "restart", "fastapi")
    status_is_true(ATTACKING)


def record_of_a_neighbour() -> None:
    """Another user writes a record in systemd's and in root's name."""
    words = "fastapi.service: Main process exited, code=killed, status=31/SYS"
    as_application(
        "import socket\n"
        f"fields = 'MESSAGE={words}\\nUNIT=fastapi.service\\nOBJECT_SYSTEMD_UNIT=fastapi.service\\nPRIORITY=3\\n'\n"
        "fields += 'SYSLOG_IDENTIFIER=systemd\\nLOGGER=gunicorn.error\\n'\n"
        "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(fields.encode(), '/run/systemd/journal/socket')\n",
        user="nobody",
    )
    before = time.time()
    crash()
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


ATTEMPTS = (
    home_of_the_application, variables_of_the_application, words_to_systemd, records, death_as_the_service, more_time,
    slow_answer, record_of_a_neighbour, release_outside, files_of_root, shared_memory, signals_between_generations,
)  # fmt: skip


def main() -> None:
    in_service(ATTACKING)
    wanted = sys.argv[3:]
    for attempt in ATTEMPTS:
        if wanted and attempt.__name__ not in wanted:
            continue
        begin = time.monotonic()
        try:
            attempt()
        except Succeeded as error:
            sys.exit(f"{attempt.__name__}: {error}")
        print(f"{attempt.__name__} ({time.monotonic() - begin:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
