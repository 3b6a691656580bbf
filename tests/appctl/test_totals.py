"""What a host has counted never goes back, whatever ends or is killed, and nothing is counted twice."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from appctl import table, totals
from appctl.process import CtlError
from ctl_host import Host
from gunicorn_fastapi.counts import Counts, path_of

GROUP = os.getegid()


def start(host: Host, instance: str, number: int, release: str = "aaa1") -> Path:
    """An instance starts; its table."""
    host.tables.mkdir(exist_ok=True)
    name = f"{instance}-{number:032x}-{release}"
    totals.begin(host, name, GROUP)
    return host.tables / name


def serve(path: Path, requests: int, worker: int = 1) -> Counts:
    """A worker of it answers requests."""
    counts = Counts()
    counts.keep_in(path)
    counts.join(worker)
    for _ in range(requests):
        counts.count("GET", 200)
    return counts


def answered(host: Host) -> dict[str, float]:
    return {release: table.requests(found) for release, found in totals.look(host).by_release().items()}


def test_the_counts_of_a_handover_add_up(host: Host) -> None:
    main = start(host, "main", 1)
    serve(main, 5)
    candidate = start(host, "candidate", 2, "bbb3")
    serve(candidate, 3)
    assert answered(host) == {"aaa1": 5, "bbb3": 3}
    assert len(totals.look(host).running) == 2
    serve(start(host, "main", 3, "bbb3"), 10, worker=2)
    assert answered(host) == {"aaa1": 5, "bbb3": 13}
    serve(candidate, 1, worker=7)  # it drains
    assert answered(host) == {"aaa1": 5, "bbb3": 14}
    start(host, "candidate", 4, "ccc4")
    assert answered(host) == {"aaa1": 5, "bbb3": 14}
    assert totals.look(host).record.starts == {"main": 2, "candidate": 2}
    assert not main.exists()
    assert not candidate.exists()


def test_a_table_is_root_s_and_the_application_may_write_in_it(host: Host) -> None:
    status = start(host, "main", 1).stat()
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o664, os.geteuid(), GROUP)
    assert status.st_size == table.SIZE


class KilledError(BaseException):
    """What ends a process at any place."""


STEPS = ("durable", "unlink", "open", "ftruncate", "fchmod")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", [False, True])
def test_a_start_that_is_killed_anywhere_loses_nothing(
    host: Host, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    serve(start(host, "main", 1), 5)
    serve(start(host, "candidate", 2), 2)
    owner = {"durable": totals, "unlink": Path}.get(step, os)
    real: Callable[..., object] = getattr(owner, step)

    def killed(*arguments: object, **named: object) -> object:
        if after:
            real(*arguments, **named)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, killed)
        with pytest.raises(KilledError):
            start(host, "main", 3)
    assert answered(host) == {"aaa1": 7}
    start(host, "candidate", 4)
    assert answered(host) == {"aaa1": 7}
    serve(start(host, "main", 5), 1)
    assert answered(host) == {"aaa1": 8}


def test_who_looks_while_a_table_is_added_sees_it_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(start(host, "main", 1), 5)
    real = totals.tables
    starts = iter([2, 3])

    def tables(app: Host) -> list[Path]:
        found = real(app)
        if number := next(starts, 0):
            monkeypatch.setattr(totals, "tables", real)
            serve(start(host, "main", number), 1)
            monkeypatch.setattr(totals, "tables", tables)
        return found

    monkeypatch.setattr(totals, "tables", tables)
    assert answered(host) == {"aaa1": 7}


def test_what_is_no_table_is_not_read(host: Host) -> None:
    path = start(host, "main", 1)
    (host.tables / "main-x-aaa1").write_bytes(path.read_bytes())
    assert totals.look(host).running == []  # nobody has begun it
    serve(path, 1)
    assert [one.instance for one in totals.look(host).running] == ["main"]
    path.write_bytes(bytes(table.SIZE + 1))
    assert totals.look(host).running == []
    start(host, "main", 2)
    assert answered(host) == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"contained": 1}', json.dumps({"totals": {"aaa1": [1.0]}})])
def test_a_record_of_another_form_is_none(host: Host, text: str) -> None:
    host.totals.write_text(text)
    serve(start(host, "main", 1), 3)
    assert answered(host) == {"aaa1": 3}


def test_the_counts_of_the_latest_releases_are_kept(host: Host) -> None:
    for number in range(3 * totals.KEPT):
        serve(start(host, "main", number, f"{number:x}"), 1)
    kept = answered(host)
    assert len(kept) == totals.KEPT + 1
    assert f"{3 * totals.KEPT - 1:x}" in kept


def test_two_instances_do_not_begin_at_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with totals.alone(host), pytest.raises(CtlError, match="another start holds"), totals.alone(host):
        pass
    with totals.alone(host):
        pass


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, None),
        ({"GUNICORN_FASTAPI_INSTANCE": "main", "GUNICORN_FASTAPI_RELEASE": "aaa1"}, None),
        (
            {"GUNICORN_FASTAPI_INSTANCE": "main", "GUNICORN_FASTAPI_RELEASE": "aaa1", "INVOCATION_ID": "b" * 32},
            f"main-{'b' * 32}-aaa1",
        ),
    ],
)
def test_the_server_finds_its_table(
    host: Host, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], name: str | None
) -> None:
    for word in ("GUNICORN_FASTAPI_INSTANCE", "GUNICORN_FASTAPI_RELEASE", "INVOCATION_ID"):
        monkeypatch.delenv(word, raising=False)
    for word, value in variables.items():
        monkeypatch.setenv(word, value)
    place = Path("/") / host.tables.relative_to(host.base)
    assert path_of(host.name) == (place / name if name else None)
    assert name is None or totals.NAME.fullmatch(name)
