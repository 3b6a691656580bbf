"""Facts that two programs or two languages have to know are equal in both."""

import argparse
import importlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from appctl import admitting, asking, backoff, behind, fetch, followed, judge, lock, ours, prune, runs, stop, tasks
from appctl.app import CANDIDATE, IMPORT, INSTANCES, MAIN, RELEASE, RUN, App
from appctl.timers import parse
from gunicorn_fastapi import closed, crashes, doing, endings, last_words, readiness, server
from gunicorn_fastapi_controller import addresses, checks, judging, processes, timers
from jinja2 import Environment

ROOT = Path(__file__).resolve().parent.parent
ROLE = ROOT / "roles/gunicorn_fastapi"
VARIABLES: dict[str, Any] = yaml.safe_load((ROLE / "vars/main.yml").read_text())
OPTIONS: dict[str, Any] = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]
SHOP = App("shop")


def variable(name: str) -> str:
    """One of the role's own variables, for an application called shop."""
    text = str(VARIABLES[f"__gunicorn_fastapi_{name}"])
    known = {
        "gunicorn_fastapi_name": "shop",
        "__gunicorn_fastapi_directory": str(SHOP.root),
        "__gunicorn_fastapi_uv_version": "1.2",
    }
    return Environment(autoescape=False).from_string(text).render(known)


def default(name: str) -> object:
    """The default of a public variable."""
    return OPTIONS["options"][f"gunicorn_fastapi_{name}"]["default"]


def module(path: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location("module", ROOT / path)
    assert specification
    assert specification.loader
    loaded = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(loaded)
    return loaded


def test_scenarios_know_the_modules_of_the_control_command() -> None:
    for path in (*ROOT.glob("molecule/**/*.sh"), *ROOT.glob("molecule/**/*.py")):
        text = path.read_text()
        for name in re.findall(r"^from appctl import (\w+)$", text, re.MULTILINE):
            known = importlib.import_module(f"appctl.{name}")
            for used in re.findall(rf"\b{name}\.(\w+)", text):
                assert hasattr(known, used), f"{path}: {name}.{used}"


def test_the_control_command_knows_what_a_worker_notes() -> None:
    for name in ("STACKS", "TASKS", "STACKS_FILE", "TASKS_FILE"):
        assert getattr(tasks, name) == getattr(doing, name)
    for name in ("TABLE", "SLOTS", "SIZE", "FREE", "RUNNING", "BEGUN"):
        assert getattr(tasks, name) == getattr(last_words, name)


def test_workers_and_the_control_command_agree_on_maintenance() -> None:
    assert closed.path_of("shop") == SHOP.maintenance / "state.json"
    assert closed.PAGE_MAX == behind.PAGE_MAX
    assert admitting.HEADER.encode() in readiness.OWN
    library, module = Path(admitting.HEARS).parts[1:]
    assert (ROLE / "files" / library / module) == Path(closed.__file__)


def test_playbook_and_control_command_have_the_same_paths() -> None:
    assert variable("directory") == str(SHOP.root)
    assert variable("credentials") == str(SHOP.credentials)
    assert variable("state") == str(SHOP.state)
    assert variable("ctl") == str(SHOP.command)
    assert variable("uv_directory") == str(fetch.Uv("1.2", "").directory)
    assert VARIABLES["__gunicorn_fastapi_program"].startswith(f"{SHOP.tools}/ctl-")
    assert f"{{{{ __gunicorn_fastapi_directory }}}}/{SHOP.releases.name}" in (ROLE / "tasks/host.yml").read_text()


@pytest.mark.parametrize("name", ["gunicorn_fastapi_ctl", "gunicorn_fastapi_host"])
def test_modules_run_the_control_command_where_it_is(name: str) -> None:
    text = (ROOT / f"plugins/modules/{name}.py").read_text()
    found = re.findall(r'f"(/usr/local/sbin/[^"]+)"', text)
    assert [re.sub(r"\{(self\.)?name\}", "shop", path) for path in found] == [str(SHOP.command)]


def test_units_have_the_paths_of_the_control_command() -> None:
    unit = (ROOT / "tests/units/golden/257/main.service").read_text()
    app = App("fastapi")
    assert f"Environment=HOME={app.state} " in unit
    assert f"WorkingDirectory={app.releases}/@RELEASE@/app" in unit
    for kind in INSTANCES:
        socket = (ROOT / f"tests/units/golden/257/{kind}.socket").read_text()
        assert f"ListenStream={app.address(kind)}\n" in socket


def test_kinds_of_instance_are_called_alike() -> None:
    kinds = VARIABLES["__gunicorn_fastapi_kinds"]
    assert tuple(kinds) == (*INSTANCES, IMPORT, RELEASE, RUN)
    for kind, properties in kinds.items():
        assert properties["instance"] == kind
        assert SHOP.instance_service(kind) == f"shop{properties['unit']}.service"
        sockets = [f"shop{properties['private']}.socket"] if properties["private"] else []
        assert SHOP.private_sockets(SHOP.instance_service(kind)) == sockets


def test_what_has_to_be_free_is_what_is_made() -> None:
    standard = ours.Ours("shop").standard()
    made = [SHOP.root, SHOP.state, SHOP.runtime, SHOP.command]
    made += [SHOP.system / unit for unit in (SHOP.service, SHOP.socket, SHOP.slice, SHOP.instance_socket(MAIN))]
    assert {str(path) for path in made} <= set(standard)
    units = [SHOP.handover, SHOP.watch, fetch.unit(SHOP)]
    units += [name(kind) for kind in INSTANCES for name in (SHOP.instance_service, SHOP.instance_socket)]
    units += [*(SHOP.instance_service(kind) for kind in (IMPORT, RELEASE)), runs.unit_of(SHOP, "0123abcd")]
    parts = "|".join(ours.INSTANCES)
    for unit in units:
        assert re.fullmatch(rf"shop(-({parts}))?\.({'|'.join(ours.KINDS)})", unit), unit


def test_no_process_and_no_timer_is_called_as_something_of_the_role_s_own() -> None:
    words = {part for part in ours.INSTANCES if part.isalpha()} | {*INSTANCES, IMPORT, RELEASE, RUN}
    assert {*words, MAIN, "address"} <= set(processes.TAKEN)
    assert timers.wrong_with("run", {"command": "x", "on_calendar": "daily"}, {})
    assert parse(SHOP, runs.unit_of(SHOP, "0123abcd")) is None


def test_sockets_of_the_application_are_told_from_others() -> None:
    is_ours = module("plugins/module_utils/gunicorn_fastapi_addresses.py").unit_is_ours
    for kind in INSTANCES:
        assert is_ours(SHOP.instance_socket(kind), "shop")
    assert is_ours(SHOP.socket, "shop")
    assert not is_ours(App("shop_admin").socket, "shop")


@pytest.mark.parametrize("kind", INSTANCES)
def test_private_addresses_are_no_public_ones(kind: str) -> None:
    assert addresses.wrong_with_path(f"/srv/{SHOP.address(kind).name}", "shop")
    assert addresses.wrong_with_path(str(SHOP.address(kind)), "shop")
    assert addresses.wrong_with_path(str(SHOP.state / "x.sock"), "shop")


def test_the_user_is_described_alike() -> None:
    assert f"comment: {ours.GECOS}\n" in (ROLE / "tasks/host.yml").read_text()


def test_a_release_is_judged_as_it_was_asked() -> None:
    asked = re.findall(r"^ +'(\w+)': __gunicorn_fastapi_inputs", VARIABLES["__gunicorn_fastapi_judging"], re.MULTILINE)
    assert tuple(asked) == followed.Judging._fields
    usual = {name: default(f"canary_{name}") for name in ("share", "seconds", "unjudged")}
    assert followed.Judging()._asdict() | usual == followed.Judging()._asdict()
    bounds = judge.Bounds()._asdict()
    assert str(bounds).replace("'", "") in OPTIONS["options"]["gunicorn_fastapi_canary_bounds"]["description"]
    assert list(judging.LEAST) == list(bounds)
    assert judging.bounds({"gunicorn_fastapi_canary_bounds": bounds}) == ""


def test_as_many_releases_are_kept() -> None:
    assert default("keep_releases") == prune.KEEP
    assert checks.LEAST_RELEASES == prune.LEAST
    assert checks.keep_releases({"gunicorn_fastapi_keep_releases": prune.LEAST - 1})
    assert not checks.keep_releases({"gunicorn_fastapi_keep_releases": prune.LEAST})


def test_the_lock_is_waited_for_as_long() -> None:
    assert default("lock_wait") == lock.WAIT
    command = argparse.ArgumentParser()
    asking.add_lock_wait(command)
    assert command.parse_args([]).lock_wait == lock.WAIT


def test_a_service_and_a_worker_wait_alike_before_another_try() -> None:
    worker = crashes.Crashes()
    for failures in range(1, 20):
        worker.rounds = failures
        assert worker.wait() == backoff.pause(failures)


def test_each_time_has_room_for_the_one_within_it() -> None:
    unit = (ROOT / f"tests/units/golden/257/{CANDIDATE}.service").read_text()

    def number(pattern: str) -> int:
        found = re.search(pattern, unit, re.MULTILINE)
        assert found, pattern
        return int(found[1])

    start, graceful = default("start_timeout"), default("graceful_timeout")
    assert isinstance(start, int)
    assert isinstance(graceful, int)
    assert number(r"^ExecStartPost=.* --timeout (\d+)$") == start
    assert number(r"^TimeoutStartSec=(\d+)$") >= backoff.LONGEST + 2 * start
    assert number(r"^ExecStop=.* --timeout (\d+)$") > graceful
    assert number(r"^TimeoutStopSec=(\d+)$") > number(r"^ExecStop=.* --timeout (\d+)$") + stop.KILLING
    assert endings.MARGIN < server.RESERVE < checks.AFTER_DRAIN
