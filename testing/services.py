"""A gunicorn as the role configures it, on a public and on a private socket."""

import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from servers import BIN, PASS_SOCKET, PATIENCE, ServerProcess

FILES = Path(__file__).parents[1] / "roles/gunicorn_fastapi/files"

CONFIGURATION = """
import sys

sys.path.append({files!r})

from gunicorn_fastapi.hooks import Hooks
from gunicorn_fastapi.worker import DrainingUvicornWorker

hooks = Hooks("shop", "0d6a72e61398")
worker_class = "gunicorn_fastapi.worker.DrainingUvicornWorker"
DrainingUvicornWorker.drain_timeout = {drain_timeout}
workers = hooks.workers({workers}, 128)
control_socket_disable = True
accesslog = "-"
hooks.uvicorn({options!r})
globals().update(hooks.settings({settings!r}))
"""


class UnixConnection(HTTPConnection):
    """A connection to a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._path)


class Service:
    """The two sockets, and the gunicorn on them once it is started."""

    def __init__(self, start_server: Any, directory: Path) -> None:
        self._start_server = start_server
        self.directory = directory
        self.public = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.private = socket.socket(socket.AF_UNIX)
        self.private.bind(str(directory / "main.sock"))
        self.private.listen()

    def start(
        self,
        app: str,
        *,
        workers: int = 2,
        drain_timeout: float = 5,
        environment: dict[str, str] | None = None,
        settings: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
    ) -> ServerProcess:
        """Start a gunicorn for the source of an application; its directory is the current one."""
        (self.directory / "main.py").write_text(app)
        configuration = self.directory / "gunicorn.conf.py"
        configuration.write_text(
            CONFIGURATION.format(
                files=str(FILES),
                workers=workers,
                drain_timeout=drain_timeout,
                settings=settings or {},
                options=options or {},
            )
        )
        descriptors = (self.public.fileno(), self.private.fileno())
        server: ServerProcess = self._start_server(
            [
                *(sys.executable, "-c", PASS_SOCKET, ",".join(map(str, descriptors))),
                *(f"{BIN}/gunicorn", "main:app", f"--config={configuration}"),
            ],
            directory=self.directory,
            environment=environment,
            descriptors=descriptors,
        )
        return server

    def connection(self) -> HTTPConnection:
        """A new connection to the public socket."""
        host, port = self.public.getsockname()
        return HTTPConnection(host, port, timeout=PATIENCE)

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of a public answer, on a connection of its own."""
        with closing(self.connection()) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()

    def workers(self) -> str | None:
        """What a new private connection is told."""
        return _workers(UnixConnection(str(self.directory / "main.sock")))

    def public_workers(self) -> str | None:
        """What a public one is told."""
        return _workers(self.connection())

    def notes(self) -> list[str]:
        """What the application has written down, in its order."""
        path = self.directory / "notes"
        return path.read_text().splitlines() if path.exists() else []

    def close(self) -> None:
        """Give the addresses up."""
        self.public.close()
        self.private.close()


@pytest.fixture
def service(start_server: Any, tmp_path: Path) -> Iterator[Service]:
    """A public and a private socket for a gunicorn as the role configures it."""
    with closing(Service(start_server, tmp_path)) as made:
        yield made


def _workers(connection: HTTPConnection) -> str | None:
    with closing(connection):
        connection.request("GET", "/healthz")
        response = connection.getresponse()
        assert response.status == 200
        return response.getheader("x-workers")
