"""Each check of a host refuses what was found there, and says what to do."""

import re
from typing import Any

import pytest
from gunicorn_fastapi_controller import hosts

GOOD: dict[str, Any] = {
    "init": "systemd", "systemd": 257, "system": "Debian GNU/Linux 13 (trixie)", "python": "3.13.5", "refusal": "",
    "taken": [], "timers": {},
    "holders": [], "free": 10**10, "read_only": [], "noexec": "", "filters": True,
    "edge": {"owners": {"a.test": "shop"}, "foreign": False},
}  # fmt: skip
NGINX = {"address": "0.0.0.0:80", "by": "is held by nginx (process 7)"}
INPUTS: dict[str, Any] = {
    "gunicorn_fastapi_name": "fastapi", "gunicorn_fastapi_python": "python3", "gunicorn_fastapi_keep_releases": 5,
    "gunicorn_fastapi_domains": [],
}  # fmt: skip


def test_a_good_host() -> None:
    assert hosts.problems(GOOD, INPUTS) == []


def test_all_that_is_wrong_is_told_at_once() -> None:
    bad = {"init": "tini", "systemd": 0, "python": "", "refusal": "no", "holders": [NGINX], "noexec": "/opt"}
    bad |= {"filters": False, "taken": ["/x"]}
    inputs = INPUTS | {"gunicorn_fastapi_domains": ["a.test"]}
    assert len(hosts.problems(GOOD | bad, inputs)) == len(hosts.CHECKS)


def test_a_time_that_never_comes_and_a_unit_of_somebody_else_are_refused() -> None:
    (problem,) = hosts.problems(GOOD | {"timers": {"night": {"25:00": "is no time for systemd: x"}}}, INPUTS)
    assert problem == (
        "gunicorn_fastapi_timers: night: on_calendar: 25:00 is no time for systemd: x (systemd-analyze calendar "
        "'25:00'). Correct it, nothing has changed."
    )
    (problem,) = hosts.problems(GOOD | {"taken": ["/etc/systemd/system/shop-night.timer"]}, INPUTS)
    assert "shop-night.timer is there, and this role did not make it. Remove it, or choose another name" in problem


def test_a_domain_is_one_application_s() -> None:
    wanted = INPUTS | {"gunicorn_fastapi_domains": ["a.test", "b.test"]}
    (problem,) = hosts.problems(GOOD, wanted)
    assert problem == "gunicorn_fastapi_domains: a.test belongs to shop on this host. Remove it there first, or here."
    assert hosts.problems(GOOD, wanted | {"gunicorn_fastapi_name": "shop"}) == []


def test_the_caddy_of_somebody_else_is_left_alone() -> None:
    found = GOOD | {"edge": {"owners": {}, "foreign": True}}
    assert hosts.problems(found, INPUTS) == []
    (problem,) = hosts.problems(found, INPUTS | {"gunicorn_fastapi_domains": ["a.test"]})
    assert "caddy.service is in use here and was not set up by this role. Leave it to the role (systemctl" in problem


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"init": "python3"}, "process 1 is python3, not systemd, .* In a container, start its init"),
        ({"systemd": 249}, r"systemd 249 of Debian GNU/Linux 13 \(trixie\) is older than 252. Debian 12, .* have it"),
        ({"systemd": 0}, "systemctl does not report its version, so it is missing or hangs. Try systemctl --version"),
        ({"python": "3.8.19"}, "gunicorn_fastapi_python: python3 is 3.8.19; 3.11 or later is required. Install"),
        ({"python": "3.9"}, "gunicorn_fastapi_python: python3 is 3.9; 3.11 or later is required. Install"),
        (
            {"python": "", "python_path": ""},
            "gunicorn_fastapi_python: python3 was not found; 3.11 or later is required. Install",
        ),
        (
            {"python": "", "python_path": "/srv/py", "python_why": "its file system is mounted noexec"},
            "cannot run the application either: its file system is mounted noexec. Install one that every user may",
        ),
        ({"refusal": "the host has a user shop"}, "gunicorn_fastapi_name: the host has a user shop.$"),
        ({"noexec": "/opt"}, r"/opt, which has /opt/fastapi, is mounted noexec, .* \(mount -o remount,exec /opt, "),
        ({"filters": False}, "gunicorn_fastapi_egress: systemd cannot filter addresses here .* Use "),
        (
            {"holders": [NGINX, {"address": "[::]:80", "by": "is held by x (process 1)"}]},
            r"0.0.0.0:80 is held by nginx \(process 7\). \[::\]:80 is held by x \(process 1\). Stop that, or choose",
        ),
    ],
)  # fmt: skip
def test_a_bad_host(found: dict[str, Any], said: str) -> None:
    (problem,) = hosts.problems(GOOD | found, INPUTS)
    assert re.search(said, problem)


@pytest.mark.parametrize("version", ["3.11.2", "3.14.0", "4.0", "3.15.0a1"])
def test_a_good_python(version: str) -> None:
    assert hosts.problems(GOOD | {"python": version}, INPUTS) == []


def test_room_for_a_release() -> None:
    needed = 300 * 2**20 + 2 * 10 * 2**20
    assert hosts.room({"free": needed, "read_only": []}, INPUTS, "/opt/shop", 10 * 2**20) == ""
    assert hosts.room({"free": needed - 1, "read_only": []}, INPUTS, "/opt/shop", 10 * 2**20) == (
        "/opt/shop has 320.00 MB left and a release may need 320.00 MB. Free disk space; a lower "
        "gunicorn_fastapi_keep_releases (now 5) frees some at the next deploy."
    )


def test_a_disk_that_is_mounted_read_only() -> None:
    told = hosts.room(GOOD | {"read_only": ["/etc", "/opt"]}, INPUTS, "/opt/shop", 1)
    assert told.startswith(
        "/etc, /opt is mounted read-only, and a deploy writes there. Have it mounted writable (mount"
    )
    assert "remount,rw /etc" in told


def test_a_process_that_gives_itself_a_name_does_not_write_on_the_terminal() -> None:
    held = {"address": "0.0.0.0:80", "by": "is held by \x1b[2J\u202e\n (process 7)"}
    (told,) = hosts.problems(GOOD | {"holders": [held]}, INPUTS)
    assert "is held by \\x1b[2J\\u202e\\n (process 7)" in told
