"""Attempts at what root keeps on the disk: links and words in it, and disks that are full."""

import contextlib
import gzip
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from building import Release, clean, wheel
from checks import expect, run
from host import ATTACKING, GOOD, ROOT, STATE, answers, as_application, ctl, in_service, owned, status_is_true


def links_in_place_of_releases() -> None:
    """A link where a release, a virtualenv, an archive or a fetched package is expected, to what is precious."""
    precious = Path("/srv/precious")
    shutil.copytree(ROOT / "releases" / GOOD, precious, symlinks=True, dirs_exist_ok=True)
    precious.chmod(0o750)
    before = owned(precious)
    places = [
        ROOT / "releases/dead", ROOT / "virtualenvs/dead", ROOT / "credentials/dead", ROOT / "incoming/build-dead",
        Path("/var/cache/gunicorn_fastapi/builds/fastapi/dead"),
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
        expect("is incomplete" in ctl("rollback", GOOD, status=1), "a release whose manifest was changed is whole")
    finally:
        path.write_text(whole)
    ctl("list")


@contextlib.contextmanager
def full(place: Path, left: int = 0) -> Iterator[None]:
    """A directory with what is in it on a disk with `left` free pages of 4 KiB, for as long as the block lasts."""
    saved = Path("/srv/saved")
    run("cp", "--archive", str(place), str(saved))
    used = int(run("du", "--summarize", "--block-size=1K", str(saved)).split()[0])
    run("mount", "-t", "tmpfs", "-o", f"size={used + 512}k,mode=755", "tmpfs", str(place))
    try:
        run("cp", "--archive", f"{saved}/.", str(place))
        with contextlib.suppress(OSError), (place / "filling").open("wb", buffering=0) as filling:
            while filling.write(b"x" * 4096):
                pass
        os.truncate(place / "filling", (place / "filling").stat().st_size - left * 4096)
        yield
    finally:
        run("umount", "--lazy", str(place))
        shutil.rmtree(saved)
        run("systemctl", "daemon-reload")


def no_room_for_the_switch() -> None:
    """The disk is full where the units are, or those of the instances beside the service."""
    for place in (Path("/etc/systemd/system"), Path("/run/systemd/system")):
        place.mkdir(exist_ok=True)
        with full(place):
            said = ctl("handover", GOOD, status=1)
            expect("No space left" in said, f"the reason is not told: {said}")
            status_is_true(ATTACKING)
            answers()
        status_is_true(ATTACKING)


def no_room_for_a_release() -> None:
    """The disk is full where releases are, or where packages are built: at a build, and at what changes a release."""
    in_service(ATTACKING)
    small = Release("full", wheel("small", {"small.py": f"x = {time.time()}\n"}), ["small"])
    there = sorted(path.name for path in (ROOT / "releases").iterdir())
    cache = Path("/var/cache/gunicorn_fastapi")
    for fetched in cache.glob("builds/fastapi/.cache-*"):
        shutil.rmtree(fetched)  # else it would go, and make room
    for place, left in ((cache, 0), (ROOT, 4), (ROOT, 12)):
        with full(place, left):
            built = small.build()
            told = re.search(rf"{place}\S*: No space left|free on the disk of {place}", built.get("reason", ""))
            expect(bool(built.get("failed") and told), f"the reason is not told: {built}")
            expect(sorted(path.name for path in (ROOT / "releases").iterdir()) == there, "half a release is there")
            clean()
            if left == 12:
                said = ctl("handover", GOOD, status=1)
                expect(bool(re.search(rf"{ROOT}\S*: No space left on device\. Free disk space there", said)), said)
                ctl("prune")
                status_is_true(ATTACKING)
    expect(small.build().get("changed") is True, "what was full once is not repaired")
    shutil.rmtree(small.directory)
    clean()


def no_room_for_notes() -> None:
    """The disk is full where it is noted what was started. The handover goes on, and what runs is not invented."""
    in_service(GOOD)
    with full(Path("/run/fastapi/started")):
        in_service(ATTACKING)
        answers()
    state = json.loads(ctl("status", "--json"))
    expect(state["release"] == ATTACKING, f"another release is shown than the one that runs: {state}")
    ctl("restart")
    status_is_true(ATTACKING)


DANGEROUS = """
import os, sqlite3
os.makedirs("/var/lib/fastapi/odd/deep")
os.chdir("/var/lib/fastapi/odd")
os.symlink("/etc/shadow", "shadow")
os.symlink("/root", "deep/root")
os.symlink("..", "deep/circle")
os.mkfifo("pipe")
open("\\x1b[2J\\n\\u202e", "w").close()
open("notes-wal", "w").write("no database is beside it")
os.truncate(os.open("holes", os.O_CREAT | os.O_RDWR), 2**24)
database = sqlite3.connect("shop.db")
database.executescript("PRAGMA journal_mode=wal; CREATE TABLE t (x); INSERT INTO t VALUES (7);")
os._exit(0)
"""


def a_backup_of_what_is_dangerous() -> None:
    """Links, pipes, holes and odd names where the application writes: a backup has no file of root's, nor waits."""
    in_service(ATTACKING)
    shadow = Path("/etc/shadow")
    before = owned(shadow, Path("/root"))
    as_application(DANGEROUS)
    target = Path("/srv/odd.tar")
    said = ctl("backup", str(target))
    expect("left out, because they are neither files nor directories nor links: odd/pipe" in said, said)
    content = subprocess.run(["tar", "xOf", target, "state.tar.gz"], capture_output=True, check=True).stdout
    names = subprocess.run(["tar", "tzv"], input=content, capture_output=True, check=True).stdout.decode()
    expect(" -> /etc/shadow" in names and " -> /root" in names, f"links are no links: {names}")
    expect(shadow.read_bytes()[:40] not in gzip.decompress(content), "the backup has root's file")
    expect(STATE.name in ctl("restore", str(target), status=1), "what runs is restored under")
    ctl("restore", str(target), "--stop")
    expect((STATE / "odd/shadow").is_symlink() and (STATE / "odd/holes").stat().st_size == 2**24, "it is not restored")
    read = "sqlite3.connect('/var/lib/fastapi/odd/shop.db').execute('SELECT x FROM t')"
    as_application(f"import sqlite3; assert list({read}) == [(7,)]")
    expect({path.lstat().st_uid for path in STATE.rglob("*")} == {STATE.stat().st_uid}, "somebody else owns it")
    expect(owned(shadow, Path("/root")) == before, "files of root's have changed")
    target.unlink()
    shutil.rmtree(STATE / "odd")
    for aside in STATE.parent.glob("fastapi.before-*"):
        shutil.rmtree(aside)
    status_is_true(ATTACKING)


ATTEMPTS = (
    a_backup_of_what_is_dangerous,
    no_room_for_a_release, no_room_for_notes, no_room_for_the_switch, links_in_place_of_releases, words_of_a_manifest,
)  # fmt: skip
