"""A worker that ends leaves no line behind."""

from http.client import HTTPConnection
from pathlib import Path

import pytest
from conftest import StartServer
from journals import serve


@pytest.mark.parametrize("end", ["SIGTERM", "max_requests"])
def test_a_worker_that_ends_by_itself_leaves_no_line_unwritten(
    start_server: StartServer, tmp_path: Path, end: str
) -> None:
    requests = 60
    settings = f"workers = 2\nmax_requests = {10 if end == 'max_requests' else 0}\n"
    server, port = serve(start_server, tmp_path, APPLICATION, settings)
    server.wait_for("Application startup complete", 2)
    for number in range(requests):
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", f"/{number}", headers={"X-Request-ID": f"id-{number}"})
        response = connection.getresponse()
        assert response.getheader("x-request-id") == f"id-{number}"
        assert response.read() == b"done"
        connection.close()
    if end == "max_requests":
        server.wait_for("Booting worker", 3)  # the worker looks at its count every 0.1 s, and drains
    server.stop()
    for number in range(requests):
        assert server.output.count(f'- "GET /{number} HTTP/1.1" 200') == 1
        assert f"app - id-{number} - in {number}" in server.output


APPLICATION = """
import logging

async def app(scope, receive, send):
    if scope["type"] == "http":
        logging.getLogger("app").info("in %s", scope["path"].strip("/"))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"done"})
    elif scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
"""
