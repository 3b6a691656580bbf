"""Who is at the other end: in the access lines, in ``request.client`` and for ``forwarded_allow_ips``."""

import socket
import struct
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection

import pytest
from servers import PATIENCE
from services import Service, UnixConnection
from wires import Witness, Worker, run, until

WHO = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = f"{scope['client']} {scope['scheme']}".encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""

FORWARDED = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}


def asked(connection: HTTPConnection, headers: Mapping[str, str] = FORWARDED) -> str:
    """What the application saw of a request."""
    with closing(connection):
        connection.request("GET", "/who", headers=dict(headers))
        return connection.getresponse().read().decode()


@pytest.fixture
def by_ipv4(service: Service) -> HTTPConnection:
    """A client of IPv4 that comes by a socket for both families."""
    service.public.close()
    service.public = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return HTTPConnection("127.0.0.1", service.public.getsockname()[1], timeout=PATIENCE)


@pytest.fixture
def by_path(service: Service) -> HTTPConnection:
    """A client of a public unix socket."""
    service.public.close()
    service.public = socket.socket(socket.AF_UNIX)
    path = str(service.directory / "shop.sock")
    service.public.bind(path)
    service.public.listen()
    return UnixConnection(path)


@pytest.mark.parametrize("trusted", ["127.0.0.1", "10.0.0.1,127.0.0.0/8"])
def test_a_proxy_of_ipv4_is_believed_on_a_socket_of_both_families(
    service: Service, by_ipv4: HTTPConnection, trusted: str
) -> None:
    server = service.start(WHO, workers=1, settings={"forwarded_allow_ips": trusted})
    server.wait_for("Started server")
    assert asked(by_ipv4) == "('203.0.113.9', 0) https"
    server.wait_for('203.0.113.9:0 - "GET /who')
    server.stop()


def test_an_address_of_ipv4_is_written_as_one(service: Service, by_ipv4: HTTPConnection) -> None:
    server = service.start(WHO, workers=1, settings={"forwarded_allow_ips": "10.0.0.1"})
    server.wait_for("Started server")
    assert asked(by_ipv4).startswith("('127.0.0.1', ")
    server.wait_for('"GET /who')
    assert "ffff" not in server.output
    server.stop()


@pytest.mark.parametrize("trusted", ["unix", "*", "10.0.0.1, unix"])
def test_a_proxy_on_a_unix_socket_is_believed_where_it_is_named(
    service: Service, by_path: HTTPConnection, trusted: str
) -> None:
    server = service.start(WHO, workers=1, settings={"forwarded_allow_ips": trusted})
    server.wait_for("Started server")
    assert asked(by_path) == "('203.0.113.9', 0) https"
    server.wait_for('203.0.113.9:0 - "GET /who')
    server.stop()


def test_a_peer_on_a_unix_socket_has_a_name(service: Service, by_path: HTTPConnection) -> None:
    server = service.start(WHO, workers=1, settings={"forwarded_allow_ips": "10.0.0.1"})
    server.wait_for("Started server")
    assert asked(by_path) == "('unix', 0) http"
    server.wait_for('unix:0 - "GET /who')
    server.stop()


def test_nobody_is_believed_on_another_socket_for_that(service: Service) -> None:
    server = service.start(WHO, workers=1, settings={"forwarded_allow_ips": "unix"})
    server.wait_for("Started server")
    assert asked(service.connection()).startswith("('127.0.0.1', ")
    server.stop()


def test_who_has_left_before_it_is_looked_at_has_its_name() -> None:
    """Whoever is reset at once: an application that asks for its address would fail with a traceback."""

    async def test() -> None:
        worker = Worker(witness := Witness())
        with socket.create_connection(worker.address()) as client:
            name = client.getsockname()
            client.sendall(b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 9\r\n\r\nabc")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        async with worker:
            await until(lambda: witness.left, "it was asked, and told that nobody is there")
            assert [scope["client"] for scope in witness.scopes] == [name]

    run(test())
