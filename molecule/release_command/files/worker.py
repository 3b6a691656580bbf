"""What runs beside the server in this scenario: a worker on a queue of files, and one that must never run twice."""

import fcntl
import os
import signal
import sys
import time
from pathlib import Path

STATE = Path(os.environ["STATE_DIRECTORY"])
QUEUE, DONE, BOT = STATE / "queue", STATE / "done", STATE / "bot"
CASE = os.environ["GUNICORN_FASTAPI_RELEASE"]
stop = []


def note(path: Path, line: str) -> None:
    """Add a line, whole."""
    with path.open("a") as file:
        file.write(f"{line}\n")


def work() -> None:
    """Do the jobs one after the other. Each is acknowledged when it is done: who dies before leaves it to others."""
    QUEUE.mkdir(exist_ok=True)
    while not stop:
        for job in sorted(QUEUE.iterdir()):
            try:
                with job.open() as claimed:
                    fcntl.flock(claimed, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if not job.exists():
                        continue
                    if job.name == "long":
                        note(DONE, f"begun {CASE}")
                        while not (STATE / "go").exists():
                            time.sleep(0.05)
                    note(DONE, f"{job.name} {CASE}")
                    job.unlink()
            except (BlockingIOError, FileNotFoundError):
                continue
            if stop:
                return
        time.sleep(0.02)


def be_alone() -> None:
    """Note whether another one runs, and how long this one has."""
    lock = (STATE / "bot.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note(BOT, f"twice {CASE}")
        sys.exit(1)
    note(BOT, f"alone {CASE}")
    while not stop:
        time.sleep(0.02)


def run_once(timer: str) -> None:
    """Note that a job begins and ends, and whether another one of the same timer runs."""
    lock = (STATE / f"{timer}.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note(STATE / "jobs", f"{timer} twice {CASE}")
    note(STATE / "jobs", f"{timer} begun {CASE}")
    if (STATE / "fail").exists():
        print("it cannot")
        sys.exit(3)
    while (STATE / "hold").exists():
        time.sleep(0.05)
    note(STATE / "jobs", f"{timer} ended {CASE}")


signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
{"worker": work, "bot": be_alone}.get(sys.argv[1], lambda: run_once(sys.argv[1]))()
