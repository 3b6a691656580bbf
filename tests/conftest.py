"""What the tests share: servers that end with the test that started them, and a journal."""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest
from servers import ServerProcess

# Where the example's tests run alone, inside the sandbox, these are not there.
PLUGINS = "ctl_host", "closing_host", "journals", "services", "timed_host"
pytest_plugins = [name for name in PLUGINS if find_spec(name)]

# A shell's background job ignores both, and so would each program that a test starts and then interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

StartServer = Callable[..., ServerProcess]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Start servers as ``ServerProcess`` does; each has its own output file and a home of its own."""
    with ExitStack() as stack:
        count = 0

        def start(
            command: list[str],
            *,
            directory: Path,
            environment: dict[str, str] | None = None,
            descriptors: tuple[int, ...] = (),
        ) -> ServerProcess:
            nonlocal count
            count += 1
            server = ServerProcess(
                command,
                tmp_path / f"server-{count}.log",
                directory=directory,
                environment={"HOME": str(tmp_path), **(environment or {})},
                descriptors=descriptors,
            )
            stack.callback(server.end)
            return server

        yield start
