"""A worker that ends leaves no line behind."""

from http.client import HTTPConnection
from pathlib import Path

import pytest
from conftest import StartServer
from servers import BIN, free_port

FILES = Path(__file__).parent.parent.parent / "roles/gunicorn_fastapi/files"


@pytest.mark.parametrize("end", ["SIGTERM", "max_requests"])
def test_a_worker_that_ends_by_itself_leaves_no_line_unwritten(
    start_server: StartServer, tmp_path: Path, end: str
) -> None:
    requests = 60
    (tmp_path / "logging.conf").write_text(LOGGING)
    (tmp_path / "main.py").write_text(APPLICATION)
    (tmp_path / "gunicorn.conf.py").write_text(
        "from gunicorn_fastapi.hooks import Hooks\nglobals().update(Hooks('app', 'release').settings({}))\n"
        "control_socket_disable = True\nworkers = 2\nkeepalive = 1\ngraceful_timeout = 10\n"
        "worker_class = 'gunicorn_fastapi.worker.DrainingUvicornWorker'\nlogconfig = 'logging.conf'\n"
        f"max_requests = {10 if end == 'max_requests' else 0}\n"
    )
    port = free_port()
    server = start_server(
        [str(BIN / "gunicorn"), "main:app", "--bind", f"127.0.0.1:{port}"],
        directory=tmp_path,
        environment={"PYTHONPATH": str(FILES), "LISTEN_FDS": "0"},
    )
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


LOGGING = """
[loggers]
keys=root, gunicorn.error, gunicorn.access
[handlers]
keys=journal
[formatters]
keys=line
[logger_root]
level=INFO
handlers=journal
[logger_gunicorn.error]
level=INFO
handlers=journal
propagate=0
qualname=gunicorn.error
[logger_gunicorn.access]
level=INFO
handlers=journal
propagate=0
qualname=gunicorn.access
[handler_journal]
class=gunicorn_fastapi.log.JournalHandler
formatter=line
args=("app",)
[formatter_line]
class=gunicorn_fastapi.log.Formatter
format=%(asctime)s - %(levelname)s - %(name)s - %(request_id)s - %(message)s
"""

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
