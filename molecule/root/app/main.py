"""An application whose intruder has gunicorn's master, too, and turns on whoever asks about it or acts for it.

What it tries is listed in its state directory and read at each start, by the release that has ATTACK=yes.
"""

import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path

from fastapi import FastAPI

STATE = Path("/var/lib/fastapi")
INSTANCE = os.environ.get("GUNICORN_FASTAPI_INSTANCE", "")
listed = STATE / "attacks"
attacks = set(listed.read_text().split()) if os.environ.get("ATTACK") == "yes" and listed.exists() else set()


def notify(text: str) -> None:
    """Tell systemd, as the main process."""
    address = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(text.encode(), address.replace("@", "\0", 1))


def forge_status() -> None:
    """Properties in the status text, and what a terminal obeys."""
    while True:
        for end in ("\u2028", "\u2029", "\x85", "\x1c", "\x0b", "\x0c"):
            forged = ("MainPID=1", "MainPID=../var/lib/fastapi/pid", "ActiveState=failed", "InvocationID=0")
            notify(f"STATUS=fine{end}{end.join(forged)}{end}\x1b[2J\x9b31m\u202e")
            time.sleep(0.05)


def prolong() -> None:
    """Ask for ever more time, for the start, the stop and whatever else."""
    while True:
        notify("EXTEND_TIMEOUT_USEC=600000000")
        time.sleep(0.5)


def confuse() -> None:
    """Wrong words about what happens to the service."""
    for words in (
        "MAINPID=1",
        f"MAINPID={os.getppid()}",
        "NOTIFYACCESS=all",
        "ERRNO=5",
        "FDSTORE=1\nFDNAME=../../etc/passwd",
        "FDPOLL=0",
        "EXIT_STATUS=0",
        "BUSERROR=\x1b[2J",
        "READY=1",
        "BARRIER=1",
        "RELOADING=1\nMONOTONIC_USEC=1",
    ):
        notify(words)


def take_private() -> None:
    """Have gunicorn listen elsewhere than on the private address, where a thread of the master answers."""
    from gunicorn import sock  # type: ignore[import-untyped]

    made = sock.create_sockets

    def create(*arguments: object) -> object:
        listeners = made(*arguments)
        for listener in listeners:
            if listener.family == socket.AF_UNIX:
                taken = socket.socket(fileno=os.dup(listener.fileno()))
                with socket.socket(socket.AF_UNIX) as other:
                    other.bind("")
                    other.listen()
                    os.dup2(other.fileno(), listener.fileno())
                threading.Thread(target=answer, args=[taken], daemon=True).start()
        return listeners

    sock.create_sockets = create


def answer(listener: socket.socket) -> None:
    """Answer the health path: at once, and from a time on with an answer that never ends, a byte at a time."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            time.sleep(0.01)
            continue
        if (STATE / "slow").exists():
            threading.Thread(target=trickle, args=[connection], daemon=True).start()
        else:
            with connection:
                connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


def trickle(connection: socket.socket) -> None:
    """Headers without an end."""
    with connection:
        try:
            for byte in b"HTTP/1.1 200 OK\r\n" + b"x-wait: a\r\n" * 100_000:
                connection.send(bytes([byte]))
                time.sleep(0.2)
        except OSError:
            return


def never_stop() -> None:
    """The master heeds no request to stop."""
    from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]

    Arbiter.stop = lambda *_, **__: time.sleep(3600)


def never_reload() -> None:
    """The master heeds no SIGHUP."""
    from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]

    Arbiter.reload = lambda *_: None


def multiply() -> None:
    """A child in a session of its own, which another one follows every 20 ms."""
    if INSTANCE != "main" or os.fork():
        return
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(3)  # what follows would be taken for workers that die
    while True:
        time.sleep(0.02)
        if os.fork():
            os._exit(0)


def hand_on() -> None:
    """Give the public socket to another unit's process."""
    while True:
        for descriptor in range(3, 3 + int(os.environ["LISTEN_FDS"])):
            with socket.socket(fileno=os.dup(descriptor)) as listener, socket.socket(socket.AF_UNIX) as accomplice:
                if listener.family == socket.AF_INET:
                    try:
                        accomplice.connect("\0accomplice")
                        socket.send_fds(accomplice, [b"x"], [descriptor])
                    except OSError:
                        pass
        time.sleep(0.2)


def rename(word: bytes = b"\xff") -> None:
    """Other bytes in place of the command line: what is no text."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = int(fields[45]), int(fields[46])
    ctypes.memmove(begin, (word * (end - begin))[: end - begin], end - begin)


def pose() -> None:
    """The command line of another release, and a name with lines of /proc/PID/status."""
    rename(f"/opt/fastapi/releases/{(STATE / 'another').read_text()}/venv/bin/gunicorn ".encode())
    ctypes.CDLL(None).prctl(15, b"\nUid:\t0\t0\t0", 0, 0, 0)


def spoil() -> None:
    """Shut down the sockets that the next release inherits, from a time on."""
    listeners = [socket.socket(fileno=os.dup(3 + number)) for number in range(int(os.environ["LISTEN_FDS"]))]
    while not (STATE / "spoil").exists():
        time.sleep(0.1)
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
    (STATE / "spoiled").touch()


def write_large_records() -> None:
    """Records of 30 MB."""
    for _ in range(10):
        record(("MESSAGE", b"E" * 30_000_000), ("PRIORITY", b"3"))


def record(*fields: tuple[str, bytes]) -> None:
    """A record of the journal with any fields, one of them more than once."""
    data = b"".join(name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n" for name, value in fields)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        try:
            journal.sendto(data, "/run/systemd/journal/socket")
        except OSError:
            descriptor = os.memfd_create("journal", os.MFD_ALLOW_SEALING)
            os.write(descriptor, data)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, 15)
            journal.connect("/run/systemd/journal/socket")
            socket.send_fds(journal, [b""], [descriptor])


def write_odd_records() -> None:
    """Records that a careless reader falls over."""
    record(
        ("MESSAGE", b"one"),
        ("MESSAGE", b"two"),
        ("PRIORITY", b"3"),
        ("PRIORITY", b"4"),
        ("LOGGER", b"a"),
        ("LOGGER", b"b"),
    )
    record(("MESSAGE", b"no priority"), ("LOGGER", b"shop"))
    record(("MESSAGE", b"\xff\xfe\x00\x1b]0;owned\x07"), ("PRIORITY", b"no number"))
    record(("MESSAGE", json.dumps({"level": 1, "logger": [], "message": {}}).encode()), ("PRIORITY", b"3"))
    record(("MESSAGE", b"[" * 200_000), ("PRIORITY", b"3"))
    record(("MESSAGE", b"{" + b'"a":{' * 50_000), ("PRIORITY", b"3"))
    record(("MESSAGE", "one\u2028two\u0085three".encode()), ("PRIORITY", b"3"))
    record(("MESSAGE", b" - uvicorn.access - " * 3000 + b" 200"), ("PRIORITY", b"6"), ("LOGGER", b"uvicorn.access"))
    record(("PRIORITY", b"3"))
    record(("MESSAGE", b"E" * 5_000_000 + b"Error: x"), ("PRIORITY", b"3"))
    print("[" * 200_000, "one\u2028two", "\x1b[2J", flush=True)


THREADS = {
    "status": forge_status, "extend": prolong, "hand_on": hand_on, "spoil": spoil,
}  # fmt: skip
ONCE = {
    "records": write_odd_records, "confuse": confuse, "deaf": never_stop, "rename": rename, "stale": never_reload,
    "multiply": multiply, "private": take_private, "pose": pose, "large": write_large_records,
}  # fmt: skip

for attack in ONCE.keys() & attacks:
    ONCE[attack]()
for attack in THREADS.keys() & attacks:
    threading.Thread(target=THREADS[attack], daemon=True).start()
if "die" in attacks and INSTANCE == "main":
    write_odd_records()
    sys.exit("\u2028the service alone dies\x1b[31m")
if "hang" in attacks and INSTANCE == "main":
    time.sleep(3600)

app = FastAPI()


@app.get("/")
async def version() -> str:
    """Which instance answers."""
    return INSTANCE


@app.get("/healthz")
async def healthz() -> None:
    """Answer 2xx."""
