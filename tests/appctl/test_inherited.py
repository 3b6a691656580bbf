"""What NAMEctl inherits from whoever starts it decides nothing."""

import resource
import signal
import subprocess
import sys
from pathlib import Path

from appctl import inherited

PROGRAM = Path(str(inherited.__file__)).parents[1]

LAUNCHER = (
    f"import sys; sys.path.insert(0, {str(PROGRAM)!r})\n"
    "from appctl import inherited\n"
    "inherited.forget()\n"
    "from appctl.process import CtlError, run\n"
)


def started(code: str, before: str) -> subprocess.CompletedProcess[bytes]:
    """Have a process do something, and then become one that does as the control command does."""
    script = f"import os, resource, signal, sys\n{before}\nos.execv(sys.executable, [sys.executable, '-IS', '-c', "
    script += f"{LAUNCHER + code!r}])"
    return subprocess.run([sys.executable, "-IS", "-c", script], check=False, capture_output=True)


def test_what_fails_has_failed_though_nobody_waits_for_children() -> None:
    code = "try:\n    run('false')\n    print('taken for a success')\nexcept CtlError as error:\n    print(error)"
    done = started(code, "signal.signal(signal.SIGCHLD, signal.SIG_IGN)")
    assert done.stdout == b"false: exit status 1\n"


def test_outputs_that_were_closed_are_no_file_of_ours(tmp_path: Path) -> None:
    code = f"file = open({str(tmp_path / 'file')!r}, 'w')\nprint('out', flush=True)\nsys.stderr.write('error')\n"
    code += "run('sh', '-c', 'echo to nobody; echo >&2 to nobody')\nfile.write(str(file.fileno() > 2))"
    done = started(code, "[os.close(number) for number in (0, 1, 2)]")
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == "True"


def test_thousands_of_descriptors_hinder_nothing() -> None:
    before = (
        "resource.setrlimit(resource.RLIMIT_NOFILE, (2000, 2000))\n"
        "[os.set_inheritable(os.open('/dev/null', 0), True) for _ in range(1500)]"
    )
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 2000
    assert started("print(run('echo', 'x'), end='')", before).stdout == b"x\n"


def test_a_umask_opens_no_file_to_others(tmp_path: Path) -> None:
    started(f"open({str(tmp_path / 'file')!r}, 'w')", "os.umask(0)")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_signals_that_were_blocked_arrive() -> None:
    done = started("signal = __import__('signal'); signal.raise_signal(signal.SIGTERM); print('goes on')",
                   "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])")  # fmt: skip
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, b"")


def test_the_command_forgets_before_it_does_anything() -> None:
    launcher = PROGRAM.parent / "templates/usr/local/sbin/appctl.j2"
    lines = launcher.read_text().splitlines()
    assert lines.index("inherited.forget()") < next(n for n, line in enumerate(lines) if "appctl.cli" in line)
