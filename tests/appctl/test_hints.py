"""What is said of failures that the sandbox may have caused."""

import pytest
from appctl.hints import sandbox_hint

EXECUTABLE = "gunicorn_fastapi_executable_memory: true"
PROC = "gunicorn_fastapi_proc: visible"
WRITABLE = "/var/lib/shop ($STATE_DIRECTORY)"
EPERM = "PermissionError: [Errno 1] Operation not permitted"


@pytest.mark.parametrize(
    ("reason", "around", "hint"),
    [
        ("FileNotFoundError: [Errno 2] No such file or directory: '/proc/stat'", "", PROC),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/proc/meminfo'", "", PROC),
        ("OSError: [Errno 2] No such file or directory: '/proc/sys/kernel/random/boot_id'", "", PROC),
        ("psutil.NoSuchProcess: process PID not found (pid=1)", '  File "…/psutil/_common.py"', PROC),
        ("RuntimeError: can't find 'btime'", '  File "…/psutil/_pslinux.py", line 1, in boot_time', PROC),
        ("sqlite3.OperationalError: unable to open database file", "", WRITABLE),
        ("sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) unable to open database file", "", WRITABLE),
        ("sqlite3.OperationalError: attempt to write a readonly database", "", WRITABLE),
        ("RuntimeError: cannot cache function 'f': no locator available for file '/opt/shop/main.py'", "", WRITABLE),
        ("OSError: [Errno 30] Read-only file system: 'uploads'", "", "ReadWritePaths=/the/path"),
        ("LLVM ERROR: Unable to allocate section memory!", "", EXECUTABLE),
        ("MemoryError: Cannot allocate write+execute memory for ffi.callback().", "", EXECUTABLE),
        (EPERM, '  File "…/llvmlite/binding/executionengine.py", line 1', EXECUTABLE),
        ("subprocess.CalledProcessError: Command 'node' died with <Signals.SIGTRAP: 5>.", "", EXECUTABLE),
        ("CalledProcess: returncode=-5", "", EXECUTABLE),
        ("ImportError: x.so: cannot enable executable stack as shared object requires: …", "", EXECUTABLE),
        (EPERM, "    os.nice(5)", "SystemCallFilter=@resources"),
        (EPERM, "    os.sched_setaffinity(0, {0})", "SystemCallFilter=@resources"),
        (EPERM, "    os.setpriority(os.PRIO_PROCESS, 0, 5)", "SystemCallFilter=@resources"),
        ("psutil.AccessDenied: (pid=7)", "    psutil.Process().nice(5)", "SystemCallFilter=@resources"),
        (
            "OSError: [Errno 97] Address family not supported by protocol",
            "    socket.if_nameindex()",
            "RestrictAddressFamilies=AF_NETLINK",
        ),
        (
            "OSError: [Errno 97] Address family not supported by protocol",
            '  File "…/psutil/__init__.py", line 1, in net_if_addrs',
            "RestrictAddressFamilies=AF_NETLINK",
        ),
        ("OSError: [Errno 97] Address family not supported by protocol", "", "gunicorn_fastapi_egress"),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/home/me/.cache'", "", "ProtectHome=read-only"),
        ("PermissionError: [Errno 13] Permission denied: '/root/.config'", "", "ProtectHome=read-only"),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/dev/video0'", "", "PrivateDevices=no"),
        (EPERM, "    sock.connect(address)", "gunicorn_fastapi_egress"),
        ("TimeoutError: timed out", "    sock.connect(sa)", "gunicorn_fastapi_egress may not have that address"),
        ("TimeoutError: [Errno 110] Connection timed out", "    sock.connect(sa)", "gets no answer"),
        ("httpx.ConnectTimeout: timed out", '  File "…/httpx/_transports/default.py"', "gunicorn_fastapi_egress"),
        ("No usable sandbox! Update your kernel", "", "--no-sandbox"),
        ("unshare: unshare failed: Operation not permitted", "", "--no-sandbox"),
        ("Failed to move to new namespace: supported, but failed: errno = Operation not permitted", "", "--no-sandbox"),
        (EPERM, "    os.unshare(os.CLONE_NEWUSER)", "--no-sandbox"),
        ('sudo: The "no new privileges" flag is set', "", "setuid"),
        ("PermissionError: [Errno 13] Permission denied: '/etc/shadow'", "", "the traceback says which call or path"),
        (EPERM, "    mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)", EXECUTABLE),
        ("PermissionError: [Errno 13] Permission denied", "    m = mmap.mmap(-1, 9, prot=PROT_EXEC)", EXECUTABLE),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/proc/1/cgroup'", "", PROC),
        (
            "ValueError: not allowed to raise maximum limit",
            "    resource.setrlimit(resource.RLIMIT_NOFILE, (9, 9))",
            "LimitNOFILE=",
        ),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/dev/ttyUSB0'", "", "PrivateDevices=no"),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/dev/fd0'", "", "PrivateDevices=no"),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/tmp/model.bin'", "", "PrivateTmp=no"),
        (
            "FileNotFoundError: [Errno 2] No such file or directory",
            "    s.connect('/tmp/.s.PGSQL.5432')",
            "PrivateTmp=no",
        ),
        (
            "No such file or directory",
            'psycopg.OperationalError: connection to server on socket "/tmp/.s.PGSQL.5432" failed',
            "PrivateTmp=no",
        ),
        (
            "FileNotFoundError: [Errno 2] No such file or directory",
            "    open_unix_connection('/var/tmp/x')",
            "PrivateTmp=no",
        ),
        (EPERM, "    os.setgroups([])", "can neither become another one nor give files away"),
        (f"{EPERM}: '/var/lib/shop/a'", "    os.chown(path, 0, 0)", "one user, shop, which can neither"),
        (f"{EPERM}: '/tmp/b'", "    os.chmod('/tmp/b', 0o4755)", "RestrictSUIDSGID=no"),
        (EPERM, "    socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", "AmbientCapabilities=CAP_NET_RAW"),
        ("Failed to connect to bus: Permission denied", "", "hides the system bus"),
        ("AssertionError: Failed to connect to system scope bus via local transport: x", "", "hides the system bus"),
        ("PermissionError: [Errno 13] Permission denied", "    s.connect('/run/dbus/system_bus_socket')", "system bus"),
        (
            "subprocess.CalledProcessError: Command '['sudo', '-n', 'id']' returned non-zero exit status 1.",
            "",
            "setuid",
        ),
        ("PermissionError: [Errno 13] Permission denied", "    s.bind(('0.0.0.0', 81))", "no port below 1024"),
        (
            "PermissionError: [Errno 13] error while attempting to bind on address ('0.0.0.0', 443): permission denied",
            "",
            "no port below 1024",
        ),
        ("2026 - WARNING - gunicorn.error - Worker (pid:7) was sent SIGSYS!", "", "SystemCallFilter=@aio"),
    ],
)
def test_a_refusal_of_the_sandbox_comes_with_what_to_do(reason: str, around: str, hint: str) -> None:
    told = sandbox_hint(reason, ["Traceback (most recent call last):", around, reason], "shop")
    assert hint in told
    assert told.startswith((" (possibly blocked by the sandbox: ", " (killed for a forbidden system call"))
    assert "NAME" not in told


@pytest.mark.parametrize(
    "reason",
    [
        "",
        "ModuleNotFoundError: No module named 'x'",
        "RuntimeError: no database",
        "AttributeError: 'types.SimpleNamespace' object has no attribute 'x'",
        "AttributeError: module 'os' has no attribute 'unshare'",
        "NameError: Namespace 'shop' is not defined",
        "FileNotFoundError: [Errno 2] No such file or directory: 'config.yml'",
        "FileNotFoundError: [Errno 2] No such file or directory: '/proc/self/x'",
        "FileNotFoundError: [Errno 2] No such file or directory: '/proc/12/stat'",
        "FileNotFoundError: [Errno 2] No such file or directory: '/dev/tty'",
        "FileNotFoundError: [Errno 2] No such file or directory: 'tmp/x'",
        "FileNotFoundError: [Errno 2] No such file or directory: 'psutil'",
        "subprocess.CalledProcessError: Command '['pg_dump']' returned non-zero exit status 1.",
        "ConnectionRefusedError: [Errno 111] Connect call failed ('127.0.0.1', 5432)",
        "OSError: [Errno 98] Address already in use",
    ],
)
def test_nothing_is_said_of_what_the_sandbox_does_not_do(reason: str) -> None:
    assert sandbox_hint(reason, ["Traceback (most recent call last):", reason]) == ""
