"""Paths that only some clients may ask for."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from conftest import StartServer
from gunicorn_fastapi import allowed, upstream
from gunicorn_fastapi.allowed import EXEMPT, Allowed
from gunicorn_fastapi.readiness import telling
from gunicorn_fastapi.shared import Shares
from test_protocol import Shop
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

OFFICE, HOME, OTHER = "192.0.2.7", "2001:db8::7", "198.51.100.1"
PATHS = {"/admin": ["192.0.2.0/24", "2001:db8::/32"], "/admin/open": ["0.0.0.0/0", "::/0"], "/one": [OFFICE]}


class Application:
    """What is asked, and what it says."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        self.asked.append(scope["type"])
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})


def body(*pieces: bytes) -> list[Any]:
    """What the server gives of a body, and then of a client that has left."""
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    return [*messages, {"type": "http.request", "body": b"", "more_body": False}]


def ask(path: str, client: Any, kind: str = "http", paths: Any = None, sends: Any = None, **more: Any) -> list[Any]:
    """What is sent to a client; the application is asked if and only if it is not refused."""
    inner, sent = Application(), []

    async def send(message: Any) -> None:
        sent.append(message)

    messages = body() if sends is None else sends

    async def receive() -> Any:
        return messages.pop(0)

    scope = {"type": kind, "path": path, "client": client, "headers": [], "scheme": "http", **more}
    asyncio.run(Allowed(inner, PATHS if paths is None else paths)(scope, receive, send))
    refused = bool(sent) and sent[0].get("status", 403) == 403
    assert inner.asked == ([] if refused else [kind])
    return sent


def status(path: str, host: str = OTHER, **more: Any) -> int:
    return int(ask(path, (host, 5), **more)[0]["status"])


@pytest.mark.parametrize(
    "path",
    ["/admin", "/admin/", "/admin/users", "//admin", "/./admin", "/x/../admin/users", "/admin//open/../x", "/one"],
)
def test_others_do_not_get_it(path: str) -> None:
    assert status(path) == 403


@pytest.mark.parametrize("path", ["/", "/admins", "/x/admin", "/admin/open", "/admin/open/x", "/Admin"])
def test_what_is_open_stays_so(path: str) -> None:
    assert status(path) == 200


@pytest.mark.parametrize("host", [OFFICE, HOME, "::ffff:192.0.2.9", f"{HOME}%eth0"])
def test_who_is_allowed(host: str) -> None:
    assert status("/admin/users", host) == 200


@pytest.mark.parametrize("client", [None, ("unix", 0), ("", 0), ("203.0.113.9", 1), ("2001:db9::1", 1)])
def test_who_has_no_address_is_nobody(client: Any) -> None:
    assert ask("/one", client)[0]["status"] == 403


def test_all_of_an_application() -> None:
    assert status("/anything", paths={"/": [OFFICE]}) == 403
    assert status("/anything", OFFICE, paths={"/": [OFFICE]}) == 200


def test_a_path_below_a_root_path() -> None:
    assert status("/api/admin", root_path="/api") == 403
    assert status("/api/open", root_path="/api") == 200


def test_a_websocket_is_refused_before_it_is_one() -> None:
    assert ask("/admin", (OTHER, 5), "websocket") == [{"type": "websocket.close", "code": 1008}]
    assert ask("/admin", (OFFICE, 5), "websocket") == []


def test_what_is_sent_is_read_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that is answered before has its client miss the answer; there is an end to it, and to who waits."""
    monkeypatch.setattr(allowed, "REST", 20)
    sends = body(b"x" * 10, b"x" * 9)
    assert status("/admin", sends=sends) == 403
    assert sends == []
    sends = body(b"x" * 10, b"x" * 10, b"x")
    assert status("/admin", sends=sends) == 403
    assert len(sends) == 2
    sends = body(b"x")
    assert status("/admin", sends=sends, headers=[(b"expect", b"100-continue")]) == 403
    assert len(sends) == 2


def test_nobody_is_answered_who_has_left() -> None:
    inner = Application()
    gone = [*body(b"x")[:1], {"type": "http.disconnect"}]

    async def receive() -> Any:
        return gone.pop(0)

    scope = {"type": "http", "path": "/admin", "client": (OTHER, 5), "headers": []}
    asyncio.run(Allowed(inner, PATHS)(scope, receive, None))
    assert (gone, inner.asked) == ([], [])


def test_the_lifespan_and_root_are_nobody_s_client() -> None:
    ask("", None, "lifespan")
    more: dict[str, Any] = {EXEMPT: True}
    assert status("/admin", **more) == 200


def test_root_asks_by_the_private_address() -> None:
    """So that a health path may be restricted, too."""

    class Context:
        app = Allowed(Application(), {"/": [OFFICE]})

    class Connection:
        app: Any

    connection = telling(Connection, Context(), Shares())()
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(connection.app.app({"type": "http", "path": "/", "client": ("unix", 0)}, None, send))
    assert sent[0]["status"] == 200


def test_it_sees_whom_a_trusted_proxy_names() -> None:
    proxied = upstream.behind_proxies(
        ProxyHeadersMiddleware(Application(), "10.0.0.1"), lambda app: Allowed(app, PATHS)
    )
    assert isinstance(proxied, ProxyHeadersMiddleware)
    assert isinstance(proxied.app, Allowed)
    assert isinstance(upstream.behind_proxies(Application(), lambda app: Allowed(app, PATHS)), Allowed)


def test_in_a_worker(start_server: StartServer, tmp_path: Path) -> None:
    """By the address of the connection, or of whom a trusted proxy names."""
    settings = f"DrainingUvicornWorker.allowed = {PATHS!r}\nforwarded_allow_ips = '127.0.0.1'\n"
    shop = Shop(start_server, tmp_path, settings)

    def get(path: str, forwarded: str = "") -> int:
        more = f"X-Forwarded-For: {forwarded}\r\n" if forwarded else ""
        return shop.statuses(f"GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n{more}\r\n".encode())[0]

    assert [get("/admin"), get("/admin", OFFICE), get("/%61dmin", OTHER), get("/", OTHER)] == [403, 200, 403, 200]
    assert shop.seen() == ["GET /admin 0", "GET / 0"]
