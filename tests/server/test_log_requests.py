"""The id of each request, and what sees it."""

import asyncio
import re
from collections.abc import MutableMapping
from typing import Any

import pytest
from gunicorn_fastapi.log import RequestContext, current


def respond(app: Any, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of the response to a request with these headers."""
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(RequestContext(app)({"type": "http", "headers": headers}, None, send))
    return list(sent[0]["headers"])


async def seen_by_threads(_scope: Any, _receive: Any, send: Any) -> None:
    """Answer with the request id that a thread started by the application sees."""
    request = await asyncio.to_thread(current.get)
    assert request is not None
    await send({"type": "http.response.start", "status": 200, "headers": [(b"seen", request.id.encode())]})


@pytest.mark.parametrize("given", [b"abc-1", b"Root=1-67891233-abcdef012345678912345678", b"a" * 128])
def test_a_request_keeps_its_id(given: bytes) -> None:
    assert respond(seen_by_threads, [(b"host", b"x"), (b"x-request-id", given)]) == [
        (b"seen", given),
        (b"x-request-id", given),
    ]


@pytest.mark.parametrize("given", [b"", b"a b", b"a\nb", b"\xff", b'"', b"a" * 129])
def test_an_id_that_could_do_harm_in_a_log_is_replaced(given: bytes) -> None:
    (_, seen), (_, sent) = respond(seen_by_threads, [(b"x-request-id", given)])
    assert seen == sent
    assert re.fullmatch(rb"[0-9a-f]{16}", sent)


def test_requests_without_an_id_get_different_ones() -> None:
    assert len({respond(seen_by_threads, [])[1] for _ in range(10)}) == 10


def test_the_application_may_set_the_header_itself() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Request-ID", b"mine")]})

    assert respond(app, [(b"x-request-id", b"theirs")]) == [(b"X-Request-ID", b"mine")]
