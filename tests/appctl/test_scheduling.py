"""Timers come and go with releases: which job runs after which, and what fails puts back."""

import json

import pytest
from appctl import scheduling, talk, timers
from appctl.app import App
from appctl.generations import generation
from appctl.process import CtlError
from appctl.timers import Job
from ctl_host import Host
from timed_host import Table, ask, deploy, has, runs, timed


@pytest.fixture(autouse=True)
def table(timed_host: Table) -> Table:
    return timed_host


def test_timers_run_the_jobs_of_the_release_that_serves_and_are_not_restarted(host: Host, table: Table) -> None:
    deploy(host, "aab2")
    assert runs(host) == {"night": "aab2", "often": "aab2"}
    assert table.log == ["start night.timer often.timer"]
    assert sorted(path.name for path in host.system.glob("fastapi-*.service")) == [
        "fastapi-night-aab2.service", "fastapi-often-aab2.service",
    ]  # fmt: skip
    link = host.system / "timers.target.wants/fastapi-night.timer"
    assert link.readlink() == host.system / "fastapi-night.timer"
    assert timers.is_settled(host)
    assert timers.used(host) == {"aab2"}
    table.log.clear()
    scheduling.settle(host)
    assert table.log == []


def test_a_job_that_is_under_way_finishes_with_its_own_release_and_the_next_one_waits(host: Host, table: Table) -> None:
    table.states["fastapi-night-aaa1.service"] = ("activating", "start")
    table.states["fastapi-night.timer"] = ("active", "running")
    deploy(host, "aab2")
    # That one would wait for the end of a job that it does not run any more.
    assert table.log == ["stop night.timer", "start night.timer often.timer"]
    assert (
        (host.system / "fastapi-night-aab2.service")
        .read_text()
        .endswith("\n[Unit]\nAfter=fastapi-night-aaa1.service\n")
    )
    assert (host.system / "fastapi-night-aaa1.service").exists()
    assert not (host.system / "fastapi-often-aaa1.service").exists()
    assert timers.used(host) == {"aaa1", "aab2"}
    assert timers.is_settled(host)
    (night, _) = timers.described(host)
    assert [(one["release"], one["current"]) for one in night["running"]] == [("aaa1", False)]
    assert any("finishes in aaa1" in line for line in timers.words([night]))
    assert any("finishes what it does, and the next one waits" in line for line in talk.said)
    # Back to it at once: now it is the one that the other's job would have to wait for.
    deploy(host, "aaa1")
    assert not (host.system / "fastapi-night-aab2.service").exists()
    table.states["fastapi-night-aaa1.service"] = ("inactive", "dead")
    assert timers.used(host) == {"aaa1"}


def test_a_job_that_waits_is_never_let_go_beside_another_and_begins_in_the_release_that_serves(
    host: Host, table: Table
) -> None:
    table.states["fastapi-night-aaa1.service"] = ("activating", "start")
    deploy(host, "aab2")
    table.jobs = {"fastapi-night-aab2.service"}
    table.log.clear()
    with generation(host, "bbb3") as made:
        waits = (host.system / "fastapi-night-aab2.service").read_text()
        assert waits.endswith("After=fastapi-night-aaa1.service\n")
        host.serves("bbb3")
        made.switch()
    # Before anything else: what waits for each other cannot be started.
    assert table.log == ["stop night-aab2.service", "start night.timer often.timer", "start night-bbb3.service"]
    text = (host.system / "fastapi-night-bbb3.service").read_text()
    assert text.endswith("After=fastapi-night-aaa1.service fastapi-night-aab2.service\n")
    assert not (host.system / "fastapi-night-aab2.service").exists()


def test_one_that_waits_begins_in_the_release_of_before_when_that_comes_back(host: Host, table: Table) -> None:
    table.states["fastapi-night-aaa1.service"] = ("activating", "start")
    deploy(host, "aab2")
    table.jobs = {"fastapi-night-aab2.service"}

    def fail_late() -> None:
        with generation(host, "bbb3") as made:
            made.switch()
            table.jobs = {"fastapi-night-bbb3.service"}
            table.states["fastapi-night-bbb3.service"] = ("inactive", "dead")
            raise CtlError("the server failed")

    with pytest.raises(CtlError, match="the server failed"):
        fail_late()
    assert table.log[-3:] == ["stop night-bbb3.service", "start night.timer often.timer", "start night-aab2.service"]
    assert runs(host)["night"] == "aab2"


def owing(host: Host, table: Table) -> None:
    """A rollback to the release whose job is under way, while one of the other release waits for that."""
    table.properties = {"Result": "success", "ExecMainCode": "1", "ExecMainStatus": "0", "InvocationID": "0a"}
    table.states["fastapi-night-aaa1.service"] = ("activating", "start")
    deploy(host, "aab2")
    table.jobs = {"fastapi-night-aab2.service"}
    table.log.clear()
    deploy(host, "aaa1")
    assert table.log == ["stop night-aab2.service", "start night.timer often.timer"]
    table.log.clear()


def test_a_rollback_to_the_release_of_the_job_that_is_under_way(host: Host, table: Table) -> None:
    """systemd would take the start of what starts for the same one."""
    owing(host, table)
    timed(host, "end", "aab2")  # of another unit
    assert table.log == []
    timed(host, "end")
    assert table.log == ["start night-aaa1.service"]
    timed(host, "end")
    assert table.log == ["start night-aaa1.service"]


@pytest.mark.parametrize("ended", [False, True])
def test_what_is_owed_goes_on_with_the_next_release(host: Host, table: Table, ended: bool) -> None:
    owing(host, table)
    with generation(host, "bbb3") as made:
        host.serves("bbb3")
        made.switch()
    assert table.log == ["start night.timer often.timer", "start night-bbb3.service"]
    assert (host.system / "fastapi-night-bbb3.service").read_text().endswith("\nAfter=fastapi-night-aaa1.service\n")
    timed(host, "end")
    assert len(table.log) == 2
    has(host, "aab2", "often")
    table.log.clear()
    table.jobs = {"fastapi-night-bbb3.service"}
    table.states["fastapi-night-bbb3.service"] = ("inactive", "dead")
    table.states["fastapi-night-aaa1.service"] = ("deactivating", "stop-post") if ended else ("activating", "start")
    deploy(host, "aaa1")
    begun = ["start night-aaa1.service"]
    assert table.log[-1:] == begun if ended else table.log[-1:] != begun  # systemd waits for the end of what ends
    table.log.clear()
    deploy(host, "aab2")  # which has no such timer
    timed(host, "end")
    assert "start night-aaa1.service" not in table.log


def test_what_waits_is_not_lost_by_a_switch_that_fails(host: Host, table: Table) -> None:
    table.states["fastapi-night-aaa1.service"] = ("activating", "start")
    deploy(host, "aab2")
    table.jobs = {"fastapi-night-aab2.service"}
    has(host, "bbb3", "night", "new")
    table.failing = "fastapi-new.timer"
    with pytest.raises(CtlError, match=r"new\.timer failed"):
        deploy(host, "bbb3")
    assert table.log[-1] == "start night-aab2.service"


def test_two_jobs_never_wait_for_each_other(host: Host, table: Table) -> None:
    table.states["fastapi-night-aaa1.service"] = ("activating", "start")
    deploy(host, "aab2")
    table.states["fastapi-night-aab2.service"] = ("activating", "start")
    table.states["fastapi-night-aaa1.service"] = ("inactive", "dead")
    deploy(host, "aaa1")
    assert "After=fastapi-night-aab2.service" in (host.system / "fastapi-night-aaa1.service").read_text()
    assert "After=" not in (host.system / "fastapi-night-aab2.service").read_text()


@pytest.mark.parametrize("fails", ["server", "timer"])
def test_whatever_fails_puts_the_timers_back(host: Host, table: Table, fails: str) -> None:
    before = timers.texts(host)
    has(host, "aab2", "night", "new")
    table.failing = "fastapi-new.timer"
    with pytest.raises(CtlError, match="the server failed" if fails == "server" else r"new\.timer failed"):
        deploy(host, "aab2", fails == "server")
    host.serves("aaa1")
    assert timers.texts(host) == before
    assert not timers.wants(host, "new")
    assert timers.is_settled(host)
    assert sorted(job.release for job in timers.services(host)) == ["aaa1", "aaa1"]


def test_one_that_cannot_be_put_back_is_told(host: Host, table: Table) -> None:
    has(host, "aab2", "night")
    table.failing = "fastapi-night.timer"
    with pytest.raises(CtlError, match=r"(?s)night\.timer failed\nIts timers of before could not be started again: "):
        deploy(host, "aab2")


def test_one_that_is_no_more_is_gone_and_comes_back_with_a_rollback(host: Host, table: Table) -> None:
    has(host, "aab2", "often")
    deploy(host, "aab2")
    assert runs(host) == {"often": "aab2"}
    assert table.log[0] == "stop night.timer"
    assert not timers.wants(host, "night")
    has(host, "bbb3")
    deploy(host, "bbb3")
    assert timers.texts(host) == {}
    assert timers.services(host) == []
    assert json.loads((host.base / "record").read_text()) == []
    deploy(host, "aaa1")
    assert runs(host) == {"night": "aaa1", "often": "aaa1"}
    assert timers.is_settled(host)


@pytest.mark.parametrize("lost", ["file", "link", "state", "release"])
def test_an_interruption_is_settled(host: Host, table: Table, lost: str) -> None:
    if lost == "file":
        (host.system / "fastapi-night.timer").unlink()
    elif lost == "link":
        (host.system / "timers.target.wants/fastapi-night.timer").unlink()
    elif lost == "state":
        table.states["fastapi-night.timer"] = ("inactive", "dead")
    else:
        host.serves("aab2")
    assert not timers.is_settled(host)
    scheduling.settle(host)
    assert timers.is_settled(host)
    assert timers.wants(host, "night")


def test_one_that_is_suspended_stays_so_until_it_is_resumed(host: Host, table: Table) -> None:
    assert ask(host, "suspend", "night") == {"changed": True}
    assert ask(host, "suspend", "night") == {"changed": False}
    assert not timers.wants(host, "night")
    assert timers.is_settled(host)
    for release in ("aab2", "aaa1"):
        deploy(host, release)
        assert runs(host)["night"] == release
        assert table.states["fastapi-night.timer"] == ("inactive", "dead")
    assert not timers.wants(host, "night")
    assert sum("night: suspended since" in line and "timers resume night" in line for line in talk.said) == 4
    assert "suspended since" in timers.words(timers.described(host))[0]
    assert ask(host, "resume", "night") == {"changed": True}
    assert ask(host, "resume", "night") == {"changed": False}
    assert table.states["fastapi-night.timer"] == ("active", "waiting")
    assert timers.wants(host, "night")
    assert timers.is_settled(host)


@pytest.mark.parametrize("action", ["run", "suspend", "resume"])
def test_what_there_is_not_is_refused(host: Host, table: Table, action: str) -> None:
    with pytest.raises(CtlError, match=r"day: no such timer\. Available: night, often"):
        ask(host, action, "day")
    with pytest.raises(CtlError, match="name a timer"):
        ask(host, action)
    assert table.log == []


def test_a_unit_of_somebody_else_is_not_replaced(host: Host) -> None:
    has(host, "aab2", "backup")
    theirs = host.system / "fastapi-backup.timer"
    theirs.write_text("[Timer]\nOnCalendar=daily\n")
    with pytest.raises(CtlError, match=r"fastapi-backup\.timer is there, and this role did not make it"):
        deploy(host, "aab2")
    assert theirs.read_text() == "[Timer]\nOnCalendar=daily\n"
    assert runs(host) == {"night": "aaa1", "often": "aaa1"}


def test_applications_whose_names_begin_alike_have_other_units(host: Host) -> None:
    """An application `shop` with a timer `admin`, and another one `shop_admin`."""
    shop, other = App("shop", host.base), App("shop_admin", host.base)
    (host.system / "shop-admin.timer").write_text("Unit=shop-admin-aaa1.service\n")
    (host.system / "shop-admin-aaa1.service").touch()
    (host.system / "shop_admin-x.timer").write_text("Unit=shop_admin-x-aaa1.service\n")
    (host.system / "shop_admin-x-aaa1.service").touch()
    assert timers.planned(shop) == {"admin": Job("admin", "aaa1")}
    assert timers.services(shop) == [Job("admin", "aaa1")]
    assert timers.planned(other) == {"x": Job("x", "aaa1")}
    assert App.of_unit("shop-admin-aaa1.service").name == "shop"
    assert App.of_unit("shop_admin-x.timer").name == "shop_admin"


@pytest.mark.parametrize(
    "name", ["fastapi.service", "fastapi-run-0123abcd.service", "fastapi-worker-aaa1@1-1.service",
             "fastapi-night-xyz.service", "fastapi_two-night-aaa1.service", "fastapi-night.service"],
)  # fmt: skip
def test_other_units_are_no_jobs(host: Host, name: str) -> None:
    assert timers.parse(host, name) is None
