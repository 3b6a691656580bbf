"""What to do about a failure that may be the sandbox's doing.

A hint is only ever shown: the application may say what it likes.
"""

import re
from collections.abc import Sequence

LINES = 100
LONG = 1000
"""Lines around the reason that are looked at, the latest ones, and characters of each."""

DENIED = r"\[?Errno (1|13)\b|not permitted|[Dd]enied"
ABSENT = r"\[?Errno (1|2|13)\b|not permitted|[Dd]enied|No such file|NoSuch"
FAMILY = r"\[?Errno 97\b|Address family not supported"
EPERM = r"\[?Errno 1\b|not permitted"
ABSENT_ALONE = r"\[?Errno 2\b|No such file"
HOST_PROC = r"/proc/(1/|(?!self\b|thread-self\b)[a-z])"
BUS = "it hides the system bus, because systemd listens there"
NAMESPACES = "it allows no namespaces, and browsers want some for a sandbox of their own. Start them with --no-sandbox"
EDIT = "`systemctl edit NAME`, [Service] "

TMP = f"its /tmp and /var/tmp are its own and begin empty. Use a file elsewhere, or the host's: {EDIT}PrivateTmp=no"


class Hint:
    """What to say where a pattern is in the reason, and another one in the lines around it, its traceback."""

    def __init__(self, reason: str, text: str, around: str = "") -> None:
        self.reason = re.compile(reason)
        self.text = text
        self.around = re.compile(around)


# The first that fits counts.
HINTS = (
    Hint(
        r"SIGTRAP|exit status 133\b|(returncode|exit ?code)[ =:]{1,3}(-5|133)\b"
        r"|write\+execute memory|LLVM ERROR|executable (stack|memory)|segment writable|failed to map segment"
        r"|CodeRange|CoreCLR|ffi_prep_closure",
        "compilers at run time, such as Node's or numba's, write memory and execute it. "
        "Set gunicorn_fastapi_executable_memory: true",
    ),
    Hint(
        rf"{DENIED}|SystemError|MemoryError",
        "compilers at run time write memory and execute it. Set gunicorn_fastapi_executable_memory: true",
        around=r"numba|llvmlite|cffi|/jit|_jit|PROT_EXEC",
    ),
    Hint(
        HOST_PROC,
        "of /proc it shows the application's own processes only. Set gunicorn_fastapi_proc: visible",
    ),
    Hint(
        rf"{DENIED}|AccessDenied|not allowed to raise",
        "it leaves priorities, CPUs and limits to systemd, which sets them by Nice=, CPUAffinity= or LimitNOFILE=. "
        f"For the call itself: {EDIT}SystemCallFilter=@resources",
        around=r"\bnice\b|sched_set|setpriority|cpu_affinity|ionice|ioprio_set|mempolicy|\bmbind\b|[sp]r?limit\(|rlimit",
    ),
    Hint(
        rf"{FAMILY}|[Nn]etlink|{DENIED}",
        f"a list of network interfaces needs a netlink socket. {EDIT}RestrictAddressFamilies=AF_NETLINK",
        around=r"if_(name|addr|stat)|ifaddr|netifaces|[Nn]etlink|NETLINK|pyroute2",
    ),
    Hint(
        rf"psutil\.|NotImplementedError|RuntimeError|{ABSENT}",
        "psutil reads the host's /proc. Set gunicorn_fastapi_proc: visible",
        around=rf"\bpsutil[/.]|{HOST_PROC}",
    ),
    Hint(
        r"unable to open database file|readonly database|Errno 30\b|Read-only file system|no locator available for",
        "it leaves /var/lib/NAME ($STATE_DIRECTORY) and /tmp to write to. Give the application an absolute path there, "
        "by gunicorn_fastapi_environment, have a path of its source lead there by gunicorn_fastapi_state_paths, or "
        f"open another one: {EDIT}ReadWritePaths=/the/path",
    ),
    Hint(
        rf"({ABSENT}).{{0,300}}['\" ]/(home|root)\b",
        f"it hides /home and /root. Put the file into /var/lib/NAME, or open them: {EDIT}ProtectHome=read-only",
    ),
    Hint(
        rf"({ABSENT}).{{0,300}}['\" ]/dev/"
        r"(?!(shm|null|zero|full|u?random|fd|std(in|out|err)|log|tty|pts|ptmx)\b)",
        f"it hides devices. {EDIT}PrivateDevices=no DeviceAllow=/dev/the-device",
    ),
    Hint(
        rf"({ABSENT_ALONE}).{{0,300}}['\" ]/(var/)?tmp/",
        TMP,
    ),
    Hint(ABSENT_ALONE, TMP, around=r"(connect|connection)\(.{0,200}['\"]/(var/)?tmp/|socket \"/(var/)?tmp/"),
    Hint(
        FAMILY,
        "it allows AF_UNIX, and AF_INET and AF_INET6 unless gunicorn_fastapi_egress is []. "
        f"Another one: {EDIT}RestrictAddressFamilies=AF_...",
    ),
    Hint(r"No usable sandbox|(\b[Nn]amespace|unshare|setns).{0,300}not permitted", NAMESPACES),
    Hint(DENIED, NAMESPACES, around=r"\b(unshare|setns)\("),
    Hint(
        r"no new privileges|effective uid is not 0|must be setuid|[Cc]ommand .{0,20}\b(sudo|su|doas|pkexec)\b",
        "no program can become another user in it, neither sudo nor any that is setuid",
    ),
    Hint(
        EPERM,
        "it has one user, NAME, which can neither become another one nor give files away. Have the application not try",
        around=r"\b[lf]?chown\(|\bset(res|re|e)?[ug]id\(|\b(set|init)groups\(|\bchroot\(",
    ),
    Hint(
        EPERM,
        f"it allows no set-user-ID and set-group-ID bits. {EDIT}RestrictSUIDSGID=no",
        around=r"\b(f|l)?chmod\(|copymode|copystat|\bmkdir\(|makedirs\(|extractall",
    ),
    Hint(
        DENIED,
        f"raw sockets need a capability. {EDIT}PrivateUsers=no CapabilityBoundingSet=CAP_NET_RAW "
        "AmbientCapabilities=CAP_NET_RAW",
        around=r"SOCK_RAW|scapy|icmp",
    ),
    Hint(r"system_bus_socket|org\.freedesktop|connect to .{0,20}\bbus\b", BUS),
    Hint(DENIED, BUS, around=r"system_bus_socket|[/.]s?d?_?dbus|systemctl|hostnamectl|timedatectl"),
    Hint(
        r"\[?Errno 13\b",
        "it can open no port below 1024. systemd opens those of gunicorn_fastapi_bind; give another one a higher port",
        around=r"\.bind\(|bind on address|create_server\(|start_server\(|HTTPServer\(",
    ),
    Hint(
        EPERM,
        "gunicorn_fastapi_egress may not have that address, and what it does not have is not permitted",
        around=r"\bconnect|getaddrinfo|sendto\(|httpx|aiohttp|asyncpg|psycopg|redis|requests/",
    ),
    # Its packets are dropped, and TCP goes on trying: only datagrams are refused at once.
    Hint(
        r"[Tt]imed? ?out|TimeoutError|\[?Errno 110\b",
        "gunicorn_fastapi_egress may not have that address, and a connection to what it does not have gets no answer",
        around=r"\bconnect|httpx|aiohttp|asyncpg|psycopg|redis|requests/",
    ),
    # EPERM, EACCES, EROFS, EAFNOSUPPORT: what the sandbox answers, though not it alone.
    Hint(r"\[Errno (1|13|30|97)\]", "the traceback says which call or path it was"),
)

KILLED = (
    "killed for a forbidden system call, as SystemCallErrorNumber=kill in a drop-in has it. The kernel's audit has "
    "its number: `journalctl --grep=type=1326`, or `ausearch -m SECCOMP` where auditd runs. Without that line the "
    f"call fails and its traceback names it; with it, uvloop needs {EDIT}SystemCallFilter=@aio"
)


def sandbox_hint(reason: str, said: Sequence[str] = (), name: str = "NAME") -> str:
    """What to do about a reason that may be the sandbox's doing, in brackets. Empty when it is not.

    `said`: the lines around it, with its traceback; `name`: the application's.
    """
    reason = reason[:LONG]
    if "SIGSYS" in reason:
        return f" ({KILLED})".replace("NAME", name)
    around = "\n".join([*(line[:LONG] for line in said[-LINES:]), reason])
    for hint in HINTS:
        if hint.reason.search(reason) and hint.around.search(around):
            return f" (possibly blocked by the sandbox: {hint.text})".replace("NAME", name)
    return ""
