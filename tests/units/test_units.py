"""The rendered units, whole, for each systemd: a change of the template is seen in the diff of these files.

GOLDEN=write pytest tests/units writes them anew.
"""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from gunicorn_fastapi_controller import processes, timers
from jinja2 import Environment, FileSystemLoader, StrictUndefined

ROLE = Path(__file__).resolve().parents[2] / "roles/gunicorn_fastapi"
GOLDEN = Path(__file__).parent / "golden"
VARIABLES = yaml.safe_load((ROLE / "vars/main.yml").read_text())
KINDS: dict[str, dict[str, Any]] = VARIABLES["__gunicorn_fastapi_kinds"]
KINDS["preflight"]["import_only"] = False
KINDS["release"] |= {"script": "/opt/fastapi/releases/@RELEASE@/etc/release-command", "within": 300}
BESIDE = processes.whole(
    {
        "worker": {"command": "celery worker", "stop_timeout": 3600, "ready": "notify"},
        "bot": {"command": ["python", "bot.py"], "ready": "test -e x", "memory_max": "1G"},
    }
)
for name, process in BESIDE.items():
    KINDS[name] = KINDS["run"] | {
        "instance": name,
        "unit": f"-{name}@",
        "suffix": f" ({name} %i)",
        "script": f"/opt/fastapi/releases/@RELEASE@/etc/process-{name}",
        "process": process,
    }
TIMERS = timers.whole(
    {
        "night": {
            "command": "x",
            "on_calendar": ["03:00", "Mon 04:00"],
            "on_failure": "mail",
            "spread": 600,
            "persistent": True,
        },
        "often": {"command": ["x"], "on_calendar": "hourly", "timeout": 60},
    }
)
for name, timer in TIMERS.items():
    KINDS[name] = KINDS["run"] | {
        "instance": name,
        "unit": f"-{name}",
        "suffix": f" ({name})",
        "script": f"/opt/fastapi/releases/@RELEASE@/etc/timer-{name}",
        "timer": timer,
        "within": timer["timeout"],
    }
CASES = {
    "252": {},
    "257": {},
    "closed": {
        "gunicorn_fastapi_egress": [],
        "__gunicorn_fastapi_credential_names": ["gunicorn_fastapi_environment", "password"],
        "gunicorn_fastapi_checks": [{"path": "/api"}],
        "gunicorn_fastapi_state_paths": ["logs"],
        "gunicorn_fastapi_working_directory": "data",
        "gunicorn_fastapi_proc": "visible",
        "gunicorn_fastapi_executable_memory": True,
    },
}


def render(template: str, kind: str, systemd: int, values: dict[str, Any]) -> str:
    """A template of a release's units, as Ansible renders it."""
    jinja = Environment(
        loader=FileSystemLoader(ROLE / "templates"),
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,
    )
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    return jinja.get_template(f"release/systemd/{template}").render(
        **defaults
        | {
            "gunicorn_fastapi_app_module": "main:app",
            "__gunicorn_fastapi_credential_names": [],
            "__gunicorn_fastapi_domains": [],
        }
        | values
        | {
            "kind": KINDS[kind],
            "__gunicorn_fastapi_host": {"systemd": systemd},
            "__gunicorn_fastapi_directory": "/opt/fastapi",
            "__gunicorn_fastapi_credentials": "/opt/fastapi/credentials",
            "__gunicorn_fastapi_ctl": "/usr/local/sbin/fastapictl",
            "__gunicorn_fastapi_program": "/usr/local/lib/gunicorn_fastapi/ctl-0123456789ab",
        }
    )


UNITS = [
    (kind, suffix)
    for kind in KINDS
    for suffix in ("service", "socket")
    if suffix == "service" or KINDS[kind]["private"]
]
UNITS += [(timer, "timer") for timer in TIMERS]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("kind", "suffix"), [*UNITS, ("metrics", "service"), ("metrics", "socket")])
def test_a_unit_is_as_it_was(case: str, kind: str, suffix: str) -> None:
    systemd = int(case) if case.isdigit() else 257
    if kind == "metrics":  # beside the releases, but within the same sandbox
        text = render(
            f"metrics.{suffix}.j2", "main", systemd, CASES[case] | {"gunicorn_fastapi_metrics_bind": "[::1]:1"}
        )
    else:
        text = render(f"{suffix}.j2", kind, systemd, CASES[case])
    golden = GOLDEN / case / f"{kind}.{suffix}"
    if os.environ.get("GOLDEN") == "write":
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("case", CASES)
def test_the_responder_is_as_it_was_and_has_the_sandbox_without_a_network(case: str) -> None:
    systemd = int(case) if case.isdigit() else 257
    text = render("maintenance.service.j2", "main", systemd, CASES[case])
    golden = GOLDEN / case / "maintenance.service"
    if os.environ.get("GOLDEN") == "write":
        golden.write_text(text)
    assert text == golden.read_text()
    closed = render("service.j2", "main", systemd, {**CASES[case], "gunicorn_fastapi_egress": []})
    start = "CapabilityBoundingSet="
    assert text.partition(start)[2].strip() == closed.partition(start)[2].partition("[Install]")[0].strip()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_the_operator_s_variables_reaches_what_runs_with_all_rights(kind: str) -> None:
    text = render("service.j2", kind, 257, {"gunicorn_fastapi_environment": {"LD_PRELOAD": "/var/lib/fastapi/x.so"}})
    assert not re.search("^EnvironmentFile=", text, re.MULTILINE)
    assert "x.so" not in text
    privileged = re.findall(r"^Exec\w+=[-@:!]*\+(\S+)", text, re.MULTILINE)
    told = KINDS[kind]["private"] or {"timer", "process"} & set(KINDS[kind])
    assert set(privileged) == ({"/usr/local/sbin/fastapictl"} if told else set())


def test_what_must_not_run_twice_is_only_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS["preflight"], "import_only", True)
    text = render("service.j2", "preflight", 257, {})
    assert re.search(r"^Type=oneshot$", text, re.MULTILINE)
    assert re.search(r"^ExecStart=.* --check-config$", text, re.MULTILINE)
    assert not re.search(r"^Exec(StartPost|Stop)=", text, re.MULTILINE)


def test_the_metrics_have_no_more_than_an_application_without_a_network() -> None:
    def keys(text: str) -> set[str]:
        return set(re.findall(r"^[A-Z]\w+=.*", text.partition("CapabilityBoundingSet=")[2], re.MULTILINE))

    for case in CASES.values():
        text = render("metrics.service.j2", "main", 257, case)
        alone = render("service.j2", "preflight", 257, {"gunicorn_fastapi_egress": []})
        assert keys(text) ^ keys(alone) == {"PrivateNetwork=no", "PrivatePIDs=yes"}
        assert not re.search(r"^Exec\w+=[-@:!]*\+|^(User|SupplementaryGroups|ReadWritePaths)=", text, re.MULTILINE)


def test_the_metrics_reach_the_edge_where_it_has_certificates_and_nothing_else() -> None:
    def network(**values: object) -> set[str]:
        text = render("metrics.service.j2", "main", 257, values)
        keys = "IPAddressAllow|IPAddressDeny|PrivateNetwork|RestrictAddressFamilies"
        return set(re.findall(rf"^(?:{keys})=.*", text, re.MULTILINE))

    closed = network()
    assert network(__gunicorn_fastapi_domains=["a.test"], gunicorn_fastapi_tls="off") == closed
    assert network(__gunicorn_fastapi_domains=["a.test"]) == {
        "IPAddressDeny=any", "IPAddressAllow=127.0.0.1", "PrivateNetwork=no",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_have_the_same_sandbox(kind: str) -> None:
    def sandbox(text: str) -> str:
        return text.partition("CapabilityBoundingSet=")[2].partition("[Install]")[0].strip()

    assert sandbox(render("service.j2", kind, 257, {})) == sandbox(render("service.j2", "main", 257, {})) != ""
