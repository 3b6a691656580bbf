"""Each check of the role's variables refuses what is wrong, says what to do, and lets pass what is right."""

import datetime
import json
import re
from pathlib import Path
from typing import Any

import pytest
import variables
import yaml
from gunicorn_fastapi_controller import checks, health_checks, inputs

OPTIONS = variables.options()
DEFAULTS: dict[str, Any] = {name: option["default"] for name, option in OPTIONS.items()}
DEFAULTS["gunicorn_fastapi_log_quiet"] = [DEFAULTS["gunicorn_fastapi_health_path"]]  # as Ansible resolves it


def problems(**values: object) -> list[str]:
    """What the checks say when these variables, without their prefix, are not the defaults."""
    given = DEFAULTS | {f"gunicorn_fastapi_{name}": value for name, value in values.items()}
    converted, wrong = inputs.inputs_and_problems(given, OPTIONS)
    return wrong + checks.problems(converted)


def refused(**values: object) -> str:
    """The one sentence about one wrong variable."""
    (problem,) = problems(**values)
    assert problem.startswith(f"gunicorn_fastapi_{next(reversed(values))}: ")
    return problem


def test_the_defaults_are_right() -> None:
    assert problems() == []


def test_each_check_has_a_case_that_it_refuses() -> None:
    """All at once, so that an operator corrects them at once."""
    found = problems(
        name="Web App", app_source="", app_path="../x", app_version="a b",
        app_module="main.py", requirements=" ", extras=["a b"], groups=["-x"],
        packages=["Python"], upgrade=["a b"], lock_date="2023", lock_file=" ", exclude=[""], include=["./dist"],
        state_paths=["/x"], working_directory="..",
        worker_class="sync", python="4.13", python_mirror="/nowhere", log_quiet=["readyz"], health_path="healthz",
        health_host="a b", workers=0, checks=[{}],
        bind=["localhost:http", "0.0.0.0:443"], domains=["Shop"], tls="files", acme_directory="ca",
        acme_email="me", acme_root="/nowhere", hsts=-1, static={"x": "y"}, static_fallback="../x",
        unavailable_page="../x", domain_redirects={"x": "y"},
        metrics_bind="9464",
        socket_mode="rw", socket_user="www data", socket_group="",
        environment={"MY-KEY": "x"}, credentials={"../key": "x"},
        build_command=" ", build_environment={"A-B": ""}, build_timeout=0, prepare_command=" ",
        prepare_timeout=0,
        secret_environment={"MY-KEY": "x"}, env_file="/nonexistent", egress=["db.example.com"],
        release_command=[""], processes={"worker": {}}, timers={"night": {}}, release_timeout=0,
        gunicorn_settings={"Max-Requests": 1, "forwarded_allow_ips": "10.0.0.1"}, uvicorn_settings={"port": 80},
        drain_timeout=0, graceful_timeout=2, header_max=0, header_timeout=0,
        body_max=-1, allowed_clients={"admin": []}, stall_timeout=-1, websocket_message_max=0, websocket_memory_max=-1,
        keep_releases=1,
        canary_share=100, watch_seconds=-1, canary_bounds={"slow": 2},
        lock_wait=0, start_timeout=0, backlog=0, tasks_max=0, worker_memory=0, memory_max="lots", cpu_quota="1.5",
        hooks={"after": "notify"}, index_url="https://me:secret@packages.example.com/simple", wheelhouse="/nonexistent",
        advisories="/nonexistent",
    )  # fmt: skip
    assert len(found) == len(checks.CHECKS)


@pytest.mark.parametrize(
    "given",
    [
        {"before_deploy": "nonexistent-program"}, {"on_failure": "echo 'a"}, {"after_deploy": []}, {"timeout": 0},
        {"timeout": "soon"}, {"timeout": True}, {"after_deploys": "true"},
    ],
)  # fmt: skip
def test_hooks_that_could_not_run(given: dict[str, object]) -> None:
    assert refused(hooks=given)


def test_hooks() -> None:
    assert problems(hooks={"before_deploy": "sh -c 'exit 0'", "after_deploy": ["true", "a b"], "timeout": 5}) == []


@pytest.mark.parametrize("name", ["fastapi", "shop", "shop_probe", "shop_admin", "shop2", "a", "shopctl", "x" * 31])
def test_a_name_of_an_application(name: str) -> None:
    assert problems(name=name) == []


@pytest.mark.parametrize("name", ["Web App", "shop-probe", "2shop", "_shop", "shop\n", "", "x" * 32, "shöp", "../x"])
def test_a_name_that_names_nothing(name: str) -> None:
    assert "Use a lower-case letter, then up to 30 of a-z, 0-9 and _." in refused(name=name)


def test_a_name_that_would_be_another_applications_unit() -> None:
    for name in ("shop-probe", "shop-candidate", "shop-admin"):
        assert 'What follows a hyphen is a unit of an application "shop". Use' in refused(name=name)


@pytest.mark.parametrize(
    "name", ["dpkg", "apt", "systemd", "root", "shadow", "system", "user", "ssh", "dbus", "gunicorn_fastapi", "journal"]
)
def test_a_name_that_the_system_has(name: str) -> None:
    assert f"Choose another name, such as {name}_app." in refused(name=name)
    assert problems(name=f"{name}_app") == []


@pytest.mark.parametrize("module", ["main:app", "package.main:app", "package.main:create_app()", "a._b:c.d"])
def test_an_application(module: str) -> None:
    assert problems(app_module=module) == []


@pytest.mark.parametrize("module", ["main.py", "main", "main:", ":app", "main:app --reload", "a..b:app", "main:app\n"])
def test_no_application(module: str) -> None:
    assert "MODULE:ATTRIBUTE, such as main:app" in refused(app_module=module)


@pytest.mark.parametrize("path", ["healthz", "http://x/healthz", "/a b", "/a;b", "/%h", "/a\n", ""])
def test_no_health_path(path: str) -> None:
    assert "Give one that begins with a slash" in refused(health_path=path)
    assert problems(health_path="/healthz?deep=1&x=~a/b") == []


@pytest.mark.parametrize(
    "host", ["", "http://shop", "https://", "shop/", "a b", "shop:http", "shop\r\nX: 1", "--timeout", "$(id)", "ß"]
)
def test_no_health_host(host: str) -> None:
    assert "is not the name of a host" in refused(health_host=host)


def test_health_hosts() -> None:
    for host in ("localhost", "shop.example.com:8443", "https://shop.example.com", "10.0.0.5"):
        assert problems(health_host=host) == []


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        ({}, "the path null"),
        ({"path": "items"}, 'the path "items"'),
        ({"path": "/a b"}, "%20 for a blank"),
        ({"path": "/", "status": 99}, "status 99"),
        ({"path": "/", "status": "ok"}, 'status "ok"'),
        ({"path": "/", "host": "a b"}, 'the host "a b"'),
        ({"path": "/", "contains": ""}, 'has to contain ""'),
        ({"path": "/", "contains": 5}, "has to contain 5"),
        ({"path": "/", "body": "x"}, '"body", and a check has path'),
        ({"path": "/", "headers": ["x"]}, "no mapping"),
        ({"path": "/", "headers": {"Host": "x"}}, 'the header "Host"'),
        ({"path": "/", "headers": {"X-A": "a\r\nB: c"}}, "no text that a header can have"),
        ({"path": "/", "headers": {"X-A": 5}}, "no text that a header can have"),
    ],
)
def test_no_check(check: dict[str, object], reason: str) -> None:
    said = refused(checks=[{"path": "/right"}, check])
    assert said.startswith("gunicorn_fastapi_checks: check 2 has ")
    assert reason in said


def test_a_header_s_value_is_not_told() -> None:
    assert "secret" not in refused(checks=[{"path": "/", "headers": {"Authorization": "secret\n"}}])


def test_checks() -> None:
    whole = {"path": "/a?b=%20", "status": "401", "host": "https://a.b", "contains": "ä", "headers": {"Accept": "a b"}}
    assert problems(checks=[{"path": "/"}, whole]) == []
    for odd in ("/healthz", ["/healthz"], {"path": "/"}):
        assert "gunicorn_fastapi_checks is not a list of mappings" in problems(checks=odd)[0]
    assert json.loads(health_checks.rendered([{"path": "/"}, whole])) == [
        {"path": "/", "status": 0, "host": "", "contains": "", "headers": {}},
        {**whole, "status": 401},
    ]


@pytest.mark.parametrize("value", [b"x", [b"x"], {"a": {1, 2}}, object()])
def test_a_variable_that_has_no_form_is_refused_by_its_name(value: object) -> None:
    assert 'the value of "DAY" is neither a text, a number' in refused(
        environment={"DAY": value, "A": datetime.date.min}
    )


@pytest.mark.parametrize("workers", [0, "0", "-1", "1000", "two", "1.5", ""])
def test_no_number_of_workers(workers: object) -> None:
    assert 'is neither "auto" nor a whole number from 1 to 999' in refused(workers=workers)
    assert problems(workers="auto") == problems(workers=2) == problems(workers="16") == []


@pytest.mark.parametrize(
    "bind",
    [["0.0.0.0:80"], ["127.0.0.1:1", "[::1]:65535"], ["0.0.0.0:80", "[::]:80"], ["/run/shop.sock"],
     ["[::ffff:1.2.3.4]:80"], "0.0.0.0:8080", "0.0.0.0:8080,[::]:8080", '["0.0.0.0:8080"]'],
)  # fmt: skip
def test_addresses(bind: object) -> None:
    assert problems(bind=bind) == []


@pytest.mark.parametrize(
    "address",
    ["999.1.1.1:99999", "256.0.0.1:80", "0.0.0.0:0", "0.0.0.0:65536", "0.0.0.0:99999", "1.2.3:80", "01.2.3.4:80",
     "localhost:80", "80", ":80", "0.0.0.0", "[:::]:80", "[::1:80", "::1:80", "[::1]", "[1.2.3.4]:80",
     "[fe80::1%eth0]:80", "[12345::]:80", "/run/../etc/x", "/run//x", "/", "run/x.sock", "/run/a b", "/" + 107 * "x",
     "0.0.0.0:80\n", "0.0.0.0:٨٠", "@abstract"],
)  # fmt: skip
def test_no_address(address: str) -> None:
    assert "with an IP address, a port from 1 to 65535" in refused(bind=["127.0.0.1:80", address])


@pytest.mark.parametrize("other", ["127.0.0.1:080", "127.0.0.1:80"])
def test_an_address_twice(other: str) -> None:
    assert f'"127.0.0.1:80" and "{other}" are the same address' in refused(bind=["127.0.0.1:80", other])
    assert "are the same address" in refused(bind=["[::1]:80", "[0:0::1]:80"])
    assert "has no address. Give at least one" in refused(bind=[])


@pytest.mark.parametrize(
    ("bind", "said"),
    [
        (["127.0.0.1:80", "0.0.0.0:80"], '"0.0.0.0:80" includes "127.0.0.1:80". Remove one of them'),
        (["[::]:80", "[::1]:80"], '"[::]:80" includes "[::1]:80"'),
        (["/var/lib/fastapi/a.sock"], "others than root can write to /var/lib/fastapi/. Choose a path such as"),
        (["/tmp/a.sock"], "others than root can write to /tmp/"),
        (["/run/fastapi/main.sock"], "/run/fastapi is for the private addresses"),
        (["/run/shop/main.sock"], "main.sock is the name of a private address"),
    ],
)
def test_addresses_that_exclude_each_other_or_are_no_place_for_root(bind: list[str], said: str) -> None:
    assert said in refused(bind=bind)


@pytest.mark.parametrize(
    "bind",
    [["[::]:80", "0.0.0.0:80"], ["[::]:80", "127.0.0.1:80"], ["0.0.0.0:81", "127.0.0.1:80"], ["/run/fastapi_a/a.sock"]],
)
def test_addresses_that_go_together(bind: list[str]) -> None:
    assert problems(bind=bind) == []


@pytest.mark.parametrize("mode", [0o660, 0o640, 0o770, 660])
def test_a_mode_that_yaml_has_made_a_number(mode: int) -> None:
    """0660 without quotes is 432, which would be taken for a mode, too."""
    assert f"{mode} is a number, and 0660 without quotes is another one to YAML. Give three octal" in refused(
        socket_mode=mode
    )


@pytest.mark.parametrize("mode", ["0660", "660", "0666"])
def test_a_mode_of_a_socket(mode: str) -> None:
    assert problems(socket_mode=mode, socket_group="www-data") == []


@pytest.mark.parametrize("mode", ["", "0999", "66", "1777", "rw-rw----"])
def test_no_mode_of_a_socket(mode: str) -> None:
    assert "is not a mode" in refused(socket_mode=mode)


def test_variables_of_the_application() -> None:
    assert problems(environment={"A_b1": "x y", "N": 5, "EMPTY": ""}) == []
    assert '"MY-KEY", "2X" is not a valid variable name' in refused(
        environment={"MY-KEY": "hidden", "2X": "hidden", "OK": "x"}
    )
    assert (
        problems(environment={"PEM": "line\nline", "LIST": [1, "a"], "MAP": {"a": None}, "NONE": None, "ON": True})
        == []
    )
    assert '"NUL" contains a NUL byte' in refused(environment={"NUL": "hidden\0"})
    for name in ("GUNICORN_FASTAPI_INSTANCE", "LISTEN_FDS", "NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY"):
        assert f'"{name}" is set by systemd or the role' in refused(environment={name: "hidden"})
    assert "GUNICORN_CMD_ARGS would override" in refused(environment={"GUNICORN_CMD_ARGS": "--workers=8"})
    assert problems(environment={"GUNICORN_CMD_ARGS": None}) == []
    assert "hidden" not in str(problems(environment={"MY-KEY": "hidden"}) + problems(environment={"NUL": "hidden\0"}))


def test_credentials() -> None:
    assert problems(credentials={"database_password": "x", "tls.key": "a\nb"}) == []
    assert '"../key", ".x" is not a valid file name' in refused(credentials={"../key": "hidden", ".x": "hidden"})
    assert 'the value of "number" is not a string. Put quotes' in refused(credentials={"number": 5})
    assert "hidden" not in str(problems(credentials={"../key": "hidden"}))


@pytest.mark.parametrize("egress", ["any", [], ["10.0.0.0/8", "localhost", "::1", "fd00::/8", "10.1.2.3/8"], '["::1"]'])
def test_egress(egress: object) -> None:
    assert problems(egress=egress) == []


@pytest.mark.parametrize("egress", ["none", "10.0.0.0/8", ["any"], 5, {"a": 1}, None, [5]])
def test_egress_that_is_no_list_of_networks(egress: object) -> None:
    assert 'is neither "any" nor a list of addresses' in refused(egress=egress)


def test_egress_names_the_wrong_ones_alone() -> None:
    wrong = ["db.example.com", "10.0.0.0/8 0.0.0.0/0", "10.0.0.0/33", "999.0.0.1", "10.0.0.0/255.0.0.0"]
    assert refused(egress=["10.0.0.0/8", *wrong]).startswith(
        f"gunicorn_fastapi_egress: {inputs.shown(wrong)} is neither"
    )


@pytest.mark.parametrize("value", [None, "many", "5.5", 5.0, True, "", "\u0665", "1_000", "0x10", [5]])
def test_what_is_no_whole_number(value: object) -> None:
    assert refused(backlog=value).endswith("is not a whole number.")


@pytest.mark.parametrize(
    "name", ["backlog", "worker_memory", "drain_timeout", "start_timeout", "header_max", "header_timeout"]
)
def test_numbers_above_zero(name: str) -> None:
    for value in (0, -1, "0"):
        assert refused(**{name: value}).endswith(f"{int(value)} must be greater than 0.")
    assert problems(**{name: "1"}) == []


def test_how_a_release_is_judged() -> None:
    assert problems(canary_share="10", canary_seconds="60", watch_seconds=300, canary_bounds={"slower": 3.5}) == []
    assert "0 for no canary" in refused(canary_share=91)
    assert "the run waits so long" in refused(canary_seconds=0)
    assert "0 for no watch" in refused(watch_seconds=7200)
    assert "stop_first does not allow that" in refused(handover="stop_first", canary_share=10)
    assert problems(watch_seconds=60, handover="stop_first") == []
    assert 'unknown bound "slow". There are failed, crashed, slower' in refused(canary_bounds={"slow": 2})
    for bounds in ({"slower": 0.5}, {"failed": "1"}, {"failed": True}, {"memory": float("nan")}, {"failed": -1}):
        assert "must be a number from" in refused(canary_bounds=bounds)
    assert "percents below 100" in refused(canary_bounds={"failed": 100})
    assert "a whole number" in refused(canary_bounds={"requests": 1.5})


def test_numbers_with_bounds_of_their_own() -> None:
    assert "Set it to at least 8." in refused(drain_timeout=5, graceful_timeout=4)
    assert problems(drain_timeout="5", graceful_timeout="8") == []
    assert "1 must be at least 2" in refused(keep_releases=1)
    assert "0 is unlimited" in refused(body_max=-1)
    assert "0 is unlimited" in refused(stall_timeout=-1)
    assert "at least gunicorn_fastapi_websocket_message_max, 2" in refused(
        websocket_message_max=2, websocket_memory_max=1
    )
    assert problems(stall_timeout=0, websocket_message_max=2, websocket_memory_max="2") == []


@pytest.mark.parametrize("value", ["lots", "-1", "0", "0%", "101%", "5 M", "1.5G", "512MB", "512M\n"])
def test_no_amount_of_memory(value: str) -> None:
    assert "such as 512M or 2G" in refused(memory_max=value)
    assert problems(memory_max=536870912) == problems(memory_max="2G") == problems(memory_max="50%") == []


@pytest.mark.parametrize("value", [512, "512", "63M", "65535K", str(64 * 2**20 - 1)])
def test_memory_for_no_worker(value: object) -> None:
    """It would end what serves: a change applies at once."""
    assert "is less than one worker takes. Give at least 64M" in refused(memory_max=value)
    for enough in ("64M", "65536K", str(64 * 2**20), "1G", "1T", "1%", ""):
        assert problems(memory_max=enough) == []


@pytest.mark.parametrize("value", [15, "1", 0, -1])
def test_tasks_for_no_worker(value: object) -> None:
    assert "is too few for two generations of a worker. Give at least 16." in refused(tasks_max=value)
    assert problems(tasks_max="16") == []


@pytest.mark.parametrize("value", ["1.5", 2, "0%", "%", "-5%"])
def test_no_share_of_a_cpu(value: object) -> None:
    assert "such as 150%" in refused(cpu_quota=value)
    assert problems(cpu_quota="150%") == []


@pytest.mark.parametrize("url", ["https://me:secret@a.example/simple", "https://secret@a.example/", "//me:secret@a/"])
def test_an_index_with_a_password(url: str) -> None:
    assert "Put them into the host's netrc." in refused(index_url=url)
    assert "secret" not in refused(index_url=url)


def test_an_index() -> None:
    assert problems(index_url="https://a.example/simple/@scope") == []
    assert "is not a URL" in refused(index_url="packages.example.com")


def test_a_wheelhouse(tmp_path: Path) -> None:
    assert problems(wheelhouse=str(tmp_path)) == []
    assert "is not a directory on the controller" in refused(wheelhouse=str(tmp_path / "x"))


def test_words_that_are_choices() -> None:
    assert refused(log_level="loud") == (
        'gunicorn_fastapi_log_level: "loud" must be one of debug, info, warning, error, critical.'
    )


@pytest.mark.parametrize(("value", "wanted"), [("false", False), ("no", False), ("True", True), (False, False)])
def test_truth_values(value: object, wanted: bool) -> None:
    assert inputs.converted("x", value, {"type": "bool"}) is wanted
    assert "is not true or false" in refused(executable_memory="maybe")


def test_a_text_in_place_of_a_mapping_is_not_repeated() -> None:
    for name in ("credentials", "environment"):
        (problem,) = problems(**{name: "key=swordfish"})
        assert problem.startswith(f"gunicorn_fastapi_{name} is not a mapping. Write it as YAML")
        assert "swordfish" not in problem


def test_an_unknown_variable_and_its_nearest() -> None:
    names = [f"gunicorn_fastapi_{name}" for name in ("worker", "ports", "name", "log_levl")]
    said = inputs.unknown([*names, "other"], list(OPTIONS))
    known = "The README lists all variables."
    assert said == [
        f"gunicorn_fastapi_log_levl: unknown variable. A typo of gunicorn_fastapi_log_level? {known}",
        f"gunicorn_fastapi_ports: unknown variable. {known}",
        f"gunicorn_fastapi_worker: unknown variable. A typo of gunicorn_fastapi_workers? {known}",
    ]


INTEGERS = [name.removeprefix("gunicorn_fastapi_") for name, option in OPTIONS.items() if option["type"] == "int"]


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("number", [10**20, "99999999999999999999", -(10**20)])
def test_a_number_that_no_host_takes(name: str, number: object) -> None:
    """systemd would ignore the line, and the kernel cut it off."""
    assert f"{name}: " in (found := problems(**{name: number})[0])
    assert "must be at most " in found


def test_a_large_body_is_allowed() -> None:
    assert problems(body_max=5 * 2**30) == []


def test_a_wheelhouse_that_can_be_no_path() -> None:
    assert "is not a directory on the controller" in refused(wheelhouse="a" * 5000)


def test_the_scenario_knows_what_is_said() -> None:
    """Its first case has a variable for each kind of problem; nothing of it needs a host."""
    case = yaml.safe_load((variables.ROOT / "molecule/bad_input/vars/cases.yml").read_text())["refused"][0]
    given = DEFAULTS | case["input"]
    converted, found = inputs.inputs_and_problems({name: given[name] for name in OPTIONS}, OPTIONS)
    said = " ".join([*found, *checks.problems(converted), *inputs.unknown(list(given), list(OPTIONS))])
    assert re.search(".*".join(case["says"]), said), said


@pytest.mark.parametrize("command", ["", "alembic upgrade head", ["alembic", "upgrade", "head"], "[ -f x ] && y", []])
def test_a_release_command(command: object) -> None:
    assert problems(release_command=command) == []


@pytest.mark.parametrize(
    ("command", "says"),
    [({"a": 1}, "neither a text nor a list"), ([1], "neither a text"), ("a\0b", "zero byte"), ([""], "begins with")],
)
def test_no_release_command(command: object, says: str) -> None:
    assert says in refused(release_command=command)


def test_who_may_ask_for_a_path() -> None:
    assert problems(allowed_clients={"/admin": ["192.0.2.0/24", "2001:db8::7"], "/": ["10.0.0.1"]}) == []
    assert "is not a path of the application" in refused(allowed_clients={"/admin/": ["10.0.0.1"]})
    assert "is not a path of the application" in refused(allowed_clients={"/a/../b": ["10.0.0.1"]})
    wrong: tuple[object, ...] = ([], "10.0.0.1", None)
    for networks in wrong:
        assert "/admin has no list of networks" in refused(allowed_clients={"/admin": networks})
    assert '["office", "192.0.2.1/24", 7] of /admin are neither' in refused(
        allowed_clients={"/admin": ["10.0.0.1", "office", "192.0.2.1/24", 7]}
    )
    for path in ("/static", "/static/x", "/"):
        said = refused(domains=["a.test"], static={"/static": "static"}, allowed_clients={path: ["10.0.0.1"]})
        assert "which Caddy serves to everybody" in said
    assert problems(domains=["a.test"], static={"/": "dist"}, allowed_clients={"/admin": ["10.0.0.1"]}) == []
