#!/usr/bin/env python3
"""Applications whose names begin alike, side by side on one host: whether a change of one leaves the others alone.

alike.py ask                 each answers as the JSON on standard input says, and logs that
alike.py watch               asks each of them without end
alike.py know NAME=URL...    they are as they are now
alike.py unchanged           they are as they were known, and have answered every request
alike.py change NAME...      upgrades each, rolls it back and deploys what is broken; the others are unchanged each time
alike.py uninstall NAME...   uninstalls each, and the others are unchanged

Runs as root on the host.
"""

import base64
import json
import os
import pwd
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

KNOWN = Path("/run/alike")
"""A directory for each application: its `url`, what it `is`, and in `answered` a byte for each answer."""
FAILURES = KNOWN / "failures"
UPGRADE, BROKEN = "ace0", "bad0"
PROPERTIES = (
    "ActiveState", "SubState", "MainPID", "InvocationID", "NRestarts", "Result", "UnitFileState", "FragmentPath",
    "DropInPaths", "Listen", "ActiveEnterTimestampMonotonic",
)  # fmt: skip


def run(*command: str, status: int = 0, text: str = "", **environment: str) -> str:
    """What a command prints. Another status is the end, with all that it printed."""
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, check=False, timeout=300, env={**os.environ, **environment}
    )
    if done.returncode != status:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def files(name: str) -> dict[str, object]:
    """All files that are the application's, as they lie there."""
    units = (Path("/etc/systemd/system"), Path("/run/systemd/system"), Path("/run/systemd/transient"))
    tops = [
        *(Path(place) / name for place in ("/opt", "/var/lib", "/run", "/var/cache/gunicorn_fastapi/builds")),
        Path(f"/usr/local/sbin/{name}ctl"),
        Path(f"/var/lib/gunicorn_fastapi/applications/{name}.json"),
        *(path for top in units for path in top.rglob("*") if re.match(rf"{name}[-.]", path.name)),
    ]
    found: dict[str, object] = {}
    for path in (inner for top in tops for inner in (top, *top.rglob("*"))):
        if os.path.lexists(path):
            status = path.lstat()
            found[str(path)] = [status.st_ino, status.st_mode, status.st_uid, status.st_size, status.st_mtime_ns]
    return found


def processes(name: str) -> dict[str, object]:
    """Those in its slice or with its user, each with the time of its start."""
    user = pwd.getpwnam(name).pw_uid
    found: dict[str, object] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"/{name}.slice/" in (process / "cgroup").read_text() or process.stat().st_uid == user:
                found[process.name] = (process / "stat").read_text().rpartition(")")[2].split()[19]
        except OSError:  # it has just ended
            continue
    return found


def fingerprint(name: str) -> dict[str, dict[str, object]]:
    """What the change of another application could change of this one."""
    units = run("systemctl", "list-units", "--all", "--plain", "--no-legend", f"{name}.*", f"{name}-*")
    named = [line.split()[0] for line in units.splitlines()]
    return {
        "files": files(name),
        "units": {unit: run("systemctl", "show", f"--property={','.join(PROPERTIES)}", unit) for unit in named},
        "processes": processes(name),
        "accounts": {database: run("getent", database, name) for database in ("passwd", "group")},
    }


def names() -> list[str]:
    """The applications that are known."""
    return sorted(path.parent.name for path in KNOWN.glob("*/url"))


def know(name: str, url: str) -> None:
    """Remember what an application is, and have it asked."""
    (KNOWN / name).mkdir(parents=True, exist_ok=True)
    (KNOWN / name / "is").write_text(json.dumps(fingerprint(name)))
    (KNOWN / name / "url.new").write_text(url)
    (KNOWN / name / "url.new").replace(KNOWN / name / "url")


def ask(name: str, port: int, path: str, content: str = "", image: str = "") -> None:
    """Expect an answer, and its line.

    The answer has the content, a regular expression, or the beginning of the image, in base64.
    """
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        body = base64.b64encode(answer.read()).decode()
    if not (body.startswith(image) if image else re.search(content, base64.b64decode(body).decode())):
        sys.exit(f"{name} {path}: expected {image or content}, seen (in base64): {body[:4000]}\n{journal(name)}")
    line = re.compile(r"uvicorn\.access - 127\.0\.0\.1:\d+ - " + re.escape(f'"GET {path} HTTP/1.1" 200'))
    deadline = time.monotonic() + 60
    while not line.search(journal(name)):  # access lines may wait a moment for others
        if time.monotonic() > deadline:
            sys.exit(f"{name} {path}: its line is not in the journal\n{journal(name)}")
        time.sleep(0.1)
    print(f"{name} {path}", flush=True)


def journal(name: str) -> str:
    """The last that an application has said."""
    return run("journalctl", "--quiet", "--output=cat", "--lines=1000", f"--unit={name}.service")


def watch() -> None:
    """Ask every application that is known, each time by a connection of its own."""
    while True:
        for name in names():
            try:
                with urllib.request.urlopen((KNOWN / name / "url").read_text(), timeout=60) as answer:
                    answer.read()
                with (KNOWN / name / "answered").open("a") as file:
                    file.write(".")
            except (OSError, ValueError) as error:
                if name in names():
                    with FAILURES.open("a") as file:
                        file.write(f"{name}: {error!r}\n")
        time.sleep(0.05)


def answered(name: str) -> int:
    """How many requests an application has answered."""
    path = KNOWN / name / "answered"
    return path.stat().st_size if path.exists() else 0


def unchanged(but: str = "") -> None:
    """End with what is different, or was not answered."""
    before = {name: answered(name) for name in names()}
    deadline = time.monotonic() + 120
    while not FAILURES.exists() and any(answered(name) == before[name] for name in before):
        if time.monotonic() > deadline:
            sys.exit(f"nobody asks, or is answered: {before}")
        time.sleep(0.02)
    if FAILURES.exists():
        sys.exit(f"not answered: {FAILURES.read_text()}")
    for name in names():
        was = json.loads((KNOWN / name / "is").read_text())
        for part, now in fingerprint(name).items() if name != but else ():
            differ = {k: (was[part].get(k), now.get(k)) for k in {*was[part], *now} if was[part].get(k) != now.get(k)}
            if differ:
                sys.exit(f"{name} is not as it was: {differ}")


def change(name: str) -> None:
    """Take an application through what its releases can meet."""
    derive = "/opt/test/derive.sh"
    run(derive, UPGRADE, "etc/environment", text="RELEASE_NAME=upgrade\n", APPLICATION=name)
    run(derive, BROKEN, "etc/gunicorn.conf.py", text="raise SystemExit('broken')\n", APPLICATION=name)
    for words, status in ((["handover", UPGRADE], 0), (["rollback"], 0), (["handover", BROKEN], 1)):
        begin = time.monotonic()
        run(f"/usr/local/sbin/{name}ctl", *words, status=status)
        between = time.monotonic()
        unchanged(but=name)
        print(f"{name}: {words[0]} {between - begin:.1f} s, the look {time.monotonic() - between:.1f} s", flush=True)
    know(name, (KNOWN / name / "url").read_text())


def uninstall(name: str) -> None:
    """Remove an application."""
    (KNOWN / name / "url").unlink()
    run(f"/usr/local/sbin/{name}ctl", "uninstall", "--remove-state")
    if left := files(name):
        sys.exit(f"{name} has left {left}")
    unchanged()


def main() -> None:
    action, *words = sys.argv[1:]
    if action == "ask":
        for asked in json.load(sys.stdin):
            ask(**asked)
    elif action == "watch":
        watch()
    elif action == "unchanged":
        unchanged()
    for word in words:
        if action == "know":
            know(*word.split("=", 1))
        else:
            {"change": change, "uninstall": uninstall}[action](word)


if __name__ == "__main__":
    main()
