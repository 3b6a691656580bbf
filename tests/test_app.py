"""The example application, started in each way that its users start it."""

import json
import re
from pathlib import Path
from urllib.request import urlopen

import pytest
from conftest import StartServer
from credentials import credential
from servers import BIN, PATIENCE, free_port

APP = Path(__file__).parents[1] / "app"

GUNICORN = [
    f"{BIN}/gunicorn",
    "main:app",
    "--workers=4",
    "--worker-class=uvicorn.workers.UvicornWorker",
]

LINE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - [A-Z]+ - %s - %s"


def ask(port: int, path: str) -> tuple[int, str]:
    """The status and the body of one answer."""
    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as response:
        return response.status, response.read().decode()


def assert_greets(port: int) -> None:
    """The application behind ``port`` is ours and well."""
    assert ask(port, "/") == (200, "null")
    status, body = ask(port, "/healthz")
    assert status == 200
    assert json.loads(body) == {"status": "ok"}


def test_python_main(start_server: StartServer, tmp_path: Path) -> None:
    """``python main.py`` listens on uvicorn's default port, here moved to one that is free."""
    port = free_port()
    (tmp_path / "sitecustomize.py").write_text(f"import uvicorn\nuvicorn.run.__kwdefaults__['port'] = {port}\n")
    server = start_server([f"{BIN}/python", "main.py"], directory=APP, environment={"PYTHONPATH": str(tmp_path)})
    server.wait_for(f"Uvicorn running on http://127.0.0.1:{port}")
    assert_greets(port)


def test_uvicorn(start_server: StartServer) -> None:
    """uvicorn's own process manager, four workers."""
    port = free_port()
    server = start_server(
        [f"{BIN}/uvicorn", "main:app", "--host=127.0.0.1", f"--port={port}", "--workers=4"],
        directory=APP,
        # Its manager replaces workers that take longer than 5 s to import, on a busy machine forever.
        environment={"UVICORN_TIMEOUT_WORKER_HEALTHCHECK": "60"},
    )
    server.wait_for("Application startup complete.", times=4)
    assert_greets(port)


def test_gunicorn(start_server: StartServer) -> None:
    """gunicorn with the worker class that ships with uvicorn, four workers."""
    port = free_port()
    server = start_server([*GUNICORN, f"--bind=127.0.0.1:{port}"], directory=APP)
    server.wait_for("Application startup complete.", times=4)
    assert len(server.children()) == 4
    assert_greets(port)


def test_log_lines(start_server: StartServer) -> None:
    """With ``logging.conf`` access lines and the servers' own lines have one form, each once."""
    port = free_port()
    server = start_server([*GUNICORN, f"--bind=127.0.0.1:{port}", "--log-config=logging.conf"], directory=APP)
    server.wait_for("Application startup complete.", times=4)
    assert ask(port, "/") == (200, "null")
    access = LINE % (r"uvicorn\.access", r'127\.0\.0\.1:\d+ - "GET / HTTP/1\.1" 200')
    server.wait_for("uvicorn.access")
    server.stop()

    lines = server.output.splitlines()
    assert sum(re.fullmatch(access, line) is not None for line in lines) == 1
    assert sum("GET / HTTP/1.1" in line for line in lines) == 1
    assert sum("Listening at" in line for line in lines) == 1
    loggers = r"(gunicorn\.error|uvicorn\.error|uvicorn\.access)"
    assert [line for line in lines if not re.fullmatch(LINE % (loggers, ".+"), line)] == []


def test_a_credential_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An application reads its secrets where systemd says that they are, as they are."""
    (tmp_path / "key").write_text("several\nlines\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert credential("key") == "several\nlines\n"
    with pytest.raises(FileNotFoundError, match="password"):
        credential("password")


@pytest.mark.parametrize("name", ["app/requirements.txt", "server-requirements.txt"])
def test_requirements_are_pinned_and_hashed(name: str) -> None:
    """Each requirement of a locked list names one version and at least one hash."""
    files = APP.parent / "roles/gunicorn_fastapi/files"
    path = APP / "requirements.txt" if name.startswith("app/") else files / name
    entries = re.split(r"\n(?=\w)", path.read_text().replace("\\\n", " "))
    assert len(entries) > 5
    for entry in entries:
        assert re.match(r"[\w.-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry
