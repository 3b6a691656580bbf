"""What a worker does is seen from outside, whatever it does, and whatever it says of itself."""

import contextlib
import marshal
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from appctl import systemd, tasks
from appctl.tasks import FormError, parsed

WORKER = """
import asyncio, functools, itertools, os
from gunicorn_fastapi.doing import Doing
from gunicorn_fastapi.last_words import LastWords
from gunicorn_fastapi.log.request import Request, current

older, words, doing = LastWords(30, number=9), LastWords(30, number=10), Doing()
older.begin({"method": "GET", "path": "/of-another-worker", "query_string": b"", "http_version": "1.1", "client": None},
            Request("0"))

async def answer(path, has_begun):
    request = Request("id-of-" + path.strip("/\\x1b"))
    current.set(request)
    client = ("192.0.2.7", 4)
    scope = {"method": "GET", "path": path, "query_string": b"a=secret", "http_version": "1.1", "client": client}
    slot = words.begin(scope, request)
    if has_begun:
        words.has_begun(slot)
    await wait()

async def wait():
    await asyncio.sleep(1000)

def block():
    ready = map(functools.partial(os.write, 1), [b"ready\\n"])
    sum(itertools.chain(ready, range(10**13)))  # all in C, which looks at no signal

async def main():
    doing.loop = asyncio.get_running_loop()
    doing.listen()
    running = [asyncio.create_task(answer(path, path == "/begun"), name=path) for path in ("/begun", "/\\x1b[2J")]
    await asyncio.sleep(0)
    %s

asyncio.run(main())
"""


@contextlib.contextmanager
def running(program: str) -> Iterator[systemd.Process]:
    """A process that has said that it is ready."""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env={"PYTHONPATH": ":".join(sys.path)}
    ) as started:
        try:
            assert started.stdout
            assert started.stdout.readline() == b"ready\n"
            with systemd.process(started.pid) as process:
                yield process
                assert not process.has_ended()
        finally:
            started.kill()


def test_requests_tasks_and_stacks() -> None:
    with running(WORKER % "print('ready', flush=True); await wait()") as worker:
        for _ in range(2):  # what was said before is not said again
            seen = tasks.doing(worker)
            assert [(r["method"], r["path"], r["response_begun"]) for r in seen["requests"]] == [
                ("GET", "/begun", True), ("GET", "/\\x1b[2J", False),
            ]  # fmt: skip
            assert {r["client"] for r in seen["requests"]} == {"192.0.2.7:4"}
            assert all(r["seconds"] >= 0 for r in seen["requests"])
            assert seen["answers"]
            by_name = {task["name"]: task for task in seen["tasks"]}
            assert set(by_name) >= {"/begun", "/\\x1b[2J"}
            functions = [where.rpartition(" ")[2] for where in by_name["/begun"]["waits"]]
            assert functions == ["sleep", "wait", "answer"]
            if sys.version_info >= (3, 12):
                assert by_name["/begun"]["request_id"] == "id-of-begun"
            assert seen["stacks"].count("most recent call first") == 1
            assert "secret" not in str(seen)
    lines = tasks.words({"unit": "shop.service", "pid": 5, **seen})
    assert lines[0] == f"worker 5 of shop.service: 2 open requests, {len(seen['tasks'])} tasks"
    assert not any("\x1b" in line for line in lines)


def test_one_that_keeps_the_interpreter_to_itself_shows_where() -> None:
    with running(WORKER % "block()") as worker:
        seen = tasks.doing(worker)
    assert not seen["answers"]
    assert [r["path"] for r in seen["requests"]] == ["/begun", "/\\x1b[2J"]
    assert "in block" in seen["stacks"]
    assert "2 open requests, its interpreter does not answer" in tasks.words({"unit": "u", "pid": 5, **seen})[0]


HOSTILE = {
    "nothing": "",
    "no_handler": "open_file(b'x', 'gunicorn_fastapi-tasks'); open_file(b'x', 'gunicorn_fastapi-stacks')",
    "no_end": """
open_file(b'', 'gunicorn_fastapi-tasks')
signal.signal(signal.SIGRTMIN + 6, lambda *_: os.write(3, b'\\x1b[2J' * 200000))
""",
    "pipe": "os.mkfifo('pipe')",
    "table": "open_table(10, bytes([1]) + b'(' + b'\\xff' * 1023 + bytes([2]) + b'(\\7\\0\\0\\0' * 128)",
    "size": "open_table(10, b'', 4096)",
    "number": "open_table(10 ** 17, b''); open_table(10 ** 16, b'', 4096)",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_whatever_a_worker_has_harms_nobody(what: str, tmp_path: Any) -> None:
    program = f"""
import mmap, os, signal, time
os.chdir({str(tmp_path)!r})

def open_file(content, name):
    os.write(os.memfd_create(name), content)

def open_table(number, content, size=1024 * 1024):
    global kept
    descriptor = os.memfd_create("gunicorn_fastapi-requests-%d" % number)
    os.ftruncate(descriptor, size)
    kept = mmap.mmap(descriptor, size)
    kept[: len(content)] = content
{HOSTILE[what]}
print("ready", flush=True)
while True:
    time.sleep(1000)
"""
    with running(program) as worker:  # it lives on: no signal is sent to one that would end by it
        seen = tasks.doing(worker)
    assert seen["requests"] == []
    assert not seen["answers"]
    assert "\x1b" not in str(tasks.words({"unit": "u", "pid": 5, **seen}))
    assert len(seen["stacks"]) <= tasks.TEXT_MAX


def test_what_is_read_is_what_marshal_has_written() -> None:
    for value in ((1.5, "é\udc80", None, ("::1", 80), b"\0\xff", -1), "", b"", (), (("a",),)):
        written = marshal.dumps(value, 2)
        read, end = parsed(written, 0)
        assert end == len(written)
        assert str(read).replace("\ufffd", "") == str(value).replace("\\udc80", "")
    for _ in range(2000):
        with contextlib.suppress(FormError):
            parsed(os.urandom(64), 0)
    for wrong in (b"", b"(", b"g1", b"c\0", b"u\xff\xff\xff\x7f", b"u\xff\xff\xff\xff", b"(\1\0\0\0" * 5):
        with pytest.raises(FormError):
            parsed(wrong, 0)


def test_a_request_of_another_form_is_none() -> None:
    now = time.perf_counter()
    good = (now - 2, "id", ("::1", 80), "GET", "/", b"", "1.1")
    assert tasks.request(marshal.dumps(good, 2), False, now)["seconds"] == 2.0
    for at, value in enumerate(("x", 1.5, "x", None, 5, "x", b"x")):
        with pytest.raises(FormError):
            tasks.request(marshal.dumps((*good[:at], value, *good[at + 1 :]), 2), False, now)
    for start in (float("nan"), float("inf"), float("-inf"), now + 5):
        with pytest.raises(FormError):
            tasks.request(marshal.dumps((start, *good[1:]), 2), False, now)


def test_a_signal_is_sent_to_who_heeds_it() -> None:
    with running("import time; print('ready', flush=True); time.sleep(1000)") as worker:
        assert not tasks.heeds(worker.pid, tasks.TASKS)
        assert tasks.heeds(worker.pid, signal.SIGINT)
