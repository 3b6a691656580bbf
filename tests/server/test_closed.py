"""Maintenance for all but some: who is let in, what the others get, and that nothing is left of it afterwards."""

import ipaddress
import json
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn_fastapi import allowed, closed
from gunicorn_fastapi.closed import Closed, Door
from gunicorn_fastapi.hooks import Hooks
from gunicorn_fastapi.shared import Shares
from servers import eventually
from services import Service, UnixConnection
from wires import Client, Witness, Worker, frame, handshake, run

GET = b"GET /a HTTP/1.1\r\nHost: a\r\n%b\r\n"
LOCAL = ["127.0.0.0/8"]
OTHERS = ["198.51.100.0/24", "2001:db8::/32"]


def say(directory: Path, allow: list[str] | None, turn: int, **more: Any) -> Path:
    """Root's word, as it is written: in place of another one."""
    (directory / "page").write_text("<h1>closed</h1>")
    fresh, path = directory / "fresh", directory / "state.json"
    fresh.write_text(json.dumps({"on": True, "turn": turn, "retry_after": 7, "allow": allow, **more}))
    return fresh.replace(path)


async def turned(worker: Worker, turn: int) -> None:
    """Wait until a worker has looked, as it does ten times a second."""
    worker.server.door.look(worker.connections)
    assert worker.shares.turn() == turn


async def status(client: Client, more: bytes = b"") -> int:
    """Of the answer to one more request."""
    client.send(GET % more)
    return (await client.answer())[0]


def test_a_kept_connection_is_refused_and_answered_again(tmp_path: Path) -> None:
    application = Witness()

    async def test() -> None:
        async with Worker(application, tmp_path, notice=tmp_path / "state.json") as worker:
            client, private = await worker.connect(), await worker.connect(private=True)
            own = worker.config.loaded_app
            assert await status(client) == 200
            say(tmp_path, OTHERS, 1)
            await turned(worker, 1)
            client.send(GET % b"")
            found, head, body = await client.answer()
            assert (found, body) == (503, b"<h1>closed</h1>")
            for line in (b"retry-after: 7", b"content-type: text/html; charset=utf-8", b"cache-control: no-store"):
                assert line in head.split(b"\r\n")
            assert await status(private) == 200  # root's questions
            say(tmp_path, LOCAL, 2)
            await turned(worker, 2)
            assert await status(client) == 200
            say(tmp_path, OTHERS, 3)
            await turned(worker, 3)
            assert await status(await worker.connect()) == 503
            say(tmp_path, OTHERS, 4, on=False)
            await turned(worker, 4)
            assert await status(client) == 200
            assert await status(await worker.connect()) == 200
            # Nothing is in the way any more.
            assert worker.config.loaded_app is own
            there: set[Any] = worker.connections
            assert all(each.app is own for each in there if not each.is_private)

    run(test())
    assert len(application.seen) == 5


def test_the_peer_is_whom_trusted_proxies_name(tmp_path: Path) -> None:
    asked = {
        b"": 503,
        b"X-Forwarded-For: 198.51.100.7\r\n": 200,
        b"X-Forwarded-For: ::ffff:198.51.100.7\r\n": 200,
        b"X-Forwarded-For: 2001:db8::7\r\n": 200,
        b"X-Forwarded-For: 203.0.113.7\r\n": 503,
        # What a client says of itself stands before what the proxy says.
        b"X-Forwarded-For: 198.51.100.7, 203.0.113.7\r\n": 503,
        b"X-Forwarded-For: nobody\r\n": 503,
    }

    async def test(trusted: str) -> dict[bytes, int]:
        path = say(tmp_path, OTHERS, 1)
        async with Worker(Witness(), notice=path, trusted=trusted) as worker:
            client = await worker.connect()
            return {more: await status(client, more) for more in asked}

    async def both() -> None:
        assert await test("127.0.0.1") == asked
        assert set((await test("192.0.2.1")).values()) == {503}

    run(both())


def test_websockets_too(tmp_path: Path) -> None:
    """A handshake gets the page, and who is open leaves; what is let in stays."""

    async def test() -> None:
        async with Worker(Witness(), notice=tmp_path / "state.json") as worker:
            stays = b"X-Forwarded-For: 198.51.100.7\r\n"
            inside, outside = await worker.websocket(b"/", stays), await worker.websocket()
            say(tmp_path, OTHERS, 1)
            await turned(worker, 1)
            assert await outside.close_code() == 1012
            inside.send(frame(1, b"four"))
            assert await inside.frame() == (1, b"4")
            late = await worker.connect(handshake())
            assert (await late.answer())[::2] == (503, b"<h1>closed</h1>")
            await worker.websocket(b"/", stays)

    run(test())


def test_a_body_that_nobody_wants_takes_no_answer_away(tmp_path: Path) -> None:
    async def test() -> None:
        path = say(tmp_path, OTHERS, 1)
        application = Witness()
        async with Worker(application, notice=path) as worker:
            size = 4 * 1024 * 1024
            client = await worker.connect(
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
            )
            assert (await client.answer())[0] == 503
            assert await status(client) == 503
            assert application.scopes == []

    run(test())


@pytest.mark.parametrize(
    ("client", "inside"),
    [
        (("10.1.2.3", 0), True), (("10.2.0.1", 1), False), (("192.0.2.9", 1), True), (("2001:db8::9", 1), True),
        (("fe80::1%eth0", 1), True), (("::1", 1), False), (("unix", 0), False), (None, False), (("", 0), False),
        ((b"10.1.2.3", 0), False),
    ],
)  # fmt: skip
def test_who_is_let_in(client: Any, inside: bool) -> None:
    networks = ("10.1.0.0/16", "192.0.2.9", "2001:db8::/32", "fe80::/10")
    assert allowed.lets_in(list(map(ipaddress.ip_network, networks)), client) is inside


@pytest.mark.parametrize("text", ["", "{", "[]", '{"on": true, "allow": ["x"]}', '{"on": true, "allow": ["::1"]}'])
def test_what_cannot_be_read_changes_nothing(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    path = say(tmp_path, OTHERS, 5)
    shares = Shares()
    shares.join(1)
    shares.is_now(1)
    config = SimpleNamespace(loaded_app=SimpleNamespace(app=None))
    door = Door(config, path, shares)
    door.look(())
    assert shares.turn() == 5
    broken = tmp_path / "broken"
    broken.write_text(text)
    broken.replace(path)
    door.look(())
    assert "cannot be read, so nothing changes" in caplog.text
    assert shares.turn() == 5
    assert isinstance(config.loaded_app, Closed)
    assert closed.is_on(path)  # a worker class that lets all in does not start then
    path.unlink()
    door.look(())
    assert config.loaded_app is door.app
    assert shares.turn() == 0


def test_all_workers_have_to_heed_it() -> None:
    table = Shares()
    for worker in (1, 2):
        table.join(worker)
        table.is_now(1)
        table.heed(7)
    table.join(3)  # which boots
    assert table.turn() == 7
    table.join(2)
    table.heed(8)
    assert table.turn() == 0
    table.join(1)
    table.heed(8)
    assert table.turn() == 8


def test_a_worker_class_that_lets_all_in_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    say(tmp_path, OTHERS, 1)
    monkeypatch.setattr(closed, "path_of", lambda _: tmp_path / "state.json")
    monkeypatch.setenv("LISTEN_FDS", "1")
    server = SimpleNamespace(worker_class=object, log=None)
    hooks = Hooks("shop", "0d6a72e61398")
    with pytest.raises(SystemExit, match=r"the worker class object would let everybody in. .*shopctl maintenance on"):
        hooks.on_starting(server)
    say(tmp_path, OTHERS, 2, on=False)
    hooks.on_starting(server)


APPLICATION = """
from pathlib import Path
from gunicorn_fastapi.worker import DrainingUvicornWorker

DrainingUvicornWorker.notice = Path("state.json").absolute()

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})
"""


def test_all_workers_of_a_service_turn_at_once(service: Service) -> None:
    """What is refused is neither logged nor counted, and the answer at the private address says who heeds what."""

    def told() -> str | None:
        with closing(UnixConnection(str(service.directory / "main.sock"))) as private:
            private.request("GET", "/healthz")
            response = private.getresponse()
            assert response.status == 200
            return response.getheader("x-maintenance")

    server = service.start(APPLICATION)
    eventually(lambda: service.workers() == "2/2", "both serve")
    assert told() == "0"
    with closing(service.connection()) as kept:
        for allow, turn, expected in ((OTHERS, 1, 503), (LOCAL, 2, 200), (OTHERS, 3, 503), ([], 4, 200)):
            say(service.directory, allow, turn)
            eventually(lambda turn=turn: told() == str(turn), "both heed it")  # type: ignore[misc]
            for number in range(6):
                assert service.get(f"/{turn}-{number}")[0] == expected
            kept.request("GET", f"/{turn}-kept")
            response = kept.getresponse()
            response.read()
            assert response.status == expected
    server.stop()
    lines = [line for line in server.output.splitlines() if '"GET /' in line and "/healthz" not in line]
    assert [line for line in lines if "503" in line] == []
    assert len(lines) == 14
