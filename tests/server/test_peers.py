"""Who a client is, whatever socket it came by and whatever a proxy has forwarded."""

import asyncio
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn_fastapi import peers, upstream
from gunicorn_fastapi.hooks import Hooks
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware


def client(forwarded: str, trusted: list[str]) -> Any:
    """Who the application sees behind 127.0.0.1."""
    seen = []

    async def application(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope["client"])

    middleware = ProxyHeadersMiddleware(application, trusted)
    upstream.translate_forwarded(middleware, peers.unmapped)
    headers = [(b"x-forwarded-for", forwarded.encode())]
    scope: Any = {"type": "http", "headers": headers, "client": ("127.0.0.1", 7), "scheme": "http"}
    call: Any = middleware(scope, None, None)  # type: ignore[arg-type]
    asyncio.run(call)
    return seen[0][0]


@pytest.mark.parametrize(
    ("forwarded", "is_"),
    [
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("::FFFF:203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, ::ffff:127.0.0.1", "203.0.113.9"),
        ("203.0.113.9, ::ffff:10.0.0.7, 127.0.0.1", "203.0.113.9"),
        ("198.51.100.1, ::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8::ffff:192.0.2.1", "2001:db8::ffff:192.0.2.1"),
        ("::ffff:x", "::ffff:x"),
        ("2001:db8::5", "2001:db8::5"),
    ],
)
def test_what_a_proxy_forwards_is_an_address_of_ipv4_where_it_is_one(forwarded: str, is_: str) -> None:
    assert client(forwarded, ["127.0.0.1", "10.0.0.7"]) == is_


@pytest.mark.parametrize(
    "text", ["::ffff:1.2.3.4", "::ffff:1.2.3.4.5", "::ffff:1234.2.3.4", "1::ffff:1.2.3.4", "::ffff:1:2"]
)
def test_only_an_address_is_one(text: str) -> None:
    assert peers.unmapped(text) == ("1.2.3.4" if text == "::ffff:1.2.3.4" else text)


def test_an_application_without_the_middleware_is_left_alone() -> None:
    upstream.translate_forwarded(object(), peers.unmapped)


@pytest.mark.parametrize(
    ("peer", "is_"),
    [
        (("::ffff:10.0.0.5", 7), ("10.0.0.5", 7)),
        (("::ffff:a00:5", 7), ("::ffff:a00:5", 7)),
        (("::1", 7), ("::1", 7)),
        (("10.0.0.5", 7), ("10.0.0.5", 7)),
    ],
)
def test_a_peer_of_a_socket_for_both_families(peer: Any, is_: Any) -> None:
    assert peers.named(peer, None) == is_


def test_a_peer_without_a_name() -> None:
    with socket.socket(socket.AF_UNIX) as unix, socket.socket() as tcp:
        for endpoint, is_ in ((unix, peers.UNIX), (tcp, None), (None, None)):
            transport = SimpleNamespace(get_extra_info=lambda _, endpoint=endpoint: endpoint)
            assert peers.named(None, transport) == is_


@pytest.mark.parametrize("given", ["::ffff:10.0.0.5, ::1", ["::ffff:10.0.0.5", "::1"]])
def test_a_proxy_is_trusted_however_its_address_is_written(given: Any) -> None:
    assert Hooks("shop", "r").settings({"forwarded_allow_ips": given})["forwarded_allow_ips"] == "10.0.0.5,::1"
    assert "forwarded_allow_ips" not in Hooks("shop", "r").settings({})
