"""What is refused of domains and certificates before a host is asked."""

import re
from pathlib import Path

import pytest
import variables
from gunicorn_fastapi_controller import checks, domains, inputs

OPTIONS = variables.options()
DEFAULTS = {name: option["default"] for name, option in OPTIONS.items()} | {"gunicorn_fastapi_log_quiet": ["/healthz"]}


def problems(**values: object) -> list[str]:
    given = DEFAULTS | {f"gunicorn_fastapi_{name}": value for name, value in values.items()}
    converted, wrong = inputs.inputs_and_problems(given, OPTIONS)
    return wrong + checks.problems(converted)


@pytest.mark.parametrize(
    "name", ["shop.example.com", "a.b", "xn--mller-kva.example", "a-b.c-d.example", "1.example.com"]
)
def test_a_name_that_can_be_served(name: str) -> None:
    assert problems(domains=[name]) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("https://shop.example.com", "is more than a name"),
        ("shop.example.com/x", "is more than a name"),
        ("shop.example.com:443", "without a port"),
        ("localhost", "not the full name"),
        ("10.0.0.1", "not the full name"),
        ("-a.example.com", "not the full name"),
        ("a_b.example.com", "not the full name"),
        ("a..example.com", "not the full name"),
        ("..", "not the full name"),
        ("", "not the full name"),
        ("a." + "b" * 64, "not the full name"),
        ("shop.example.com\n", "not the full name"),
        ("Shop.Example.com", "Give it as shop.example.com."),
        ("shop.example.com.", "Give it as shop.example.com."),
        ("müller.example", "Give it as xn--mller-kva.example."),
        ("*.example.com", "Set gunicorn_fastapi_tls: files"),
        ("*.*.example.com", "not the full name"),
    ],
)
def test_a_name_that_cannot(name: str, said: str) -> None:
    (problem,) = problems(domains=[name])
    assert problem.startswith("gunicorn_fastapi_domains: ")
    assert said in problem


def test_a_name_that_is_there_twice() -> None:
    assert problems(domains=["a.test", "a.test"]) == [
        'gunicorn_fastapi_domains: "a.test" is there twice. Give it once.'
    ]


def test_off_without_quotes_is_what_it_says() -> None:
    assert problems(domains=["a.test"], tls=False) == []
    converted, _ = inputs.inputs_and_problems(
        {"gunicorn_fastapi_tls": False}, {k: OPTIONS[k] for k in ["gunicorn_fastapi_tls"]}
    )
    assert converted == {"gunicorn_fastapi_tls": "off"}
    assert len(problems(tls=True)) == 1


def test_certificates_of_one_s_own_are_files(tmp_path: Path) -> None:
    file = tmp_path / "x.pem"
    file.write_text("x")
    good = {"domains": ["*.a.test"], "tls": "files", "tls_certificate": str(file), "tls_key": str(file)}
    assert problems(**good) == []
    assert problems(**good | {"tls_key": ""}) == ['gunicorn_fastapi_tls_key: "" is not a file on the controller.']
    assert re.search(
        "tls: files alone", problems(**good | {"tls": "internal", "domains": ["a.test"], "tls_key": ""})[0]
    )
    assert problems(**good | {"domains": []}) == []  # and nothing of it is used


@pytest.mark.parametrize(
    ("bind", "said"),
    [
        (["127.0.0.1:8000"], ""),
        (["0.0.0.0:80"], ""),
        (["127.0.0.1:8000", "0.0.0.0:80"], "Caddy has the ports 80 and 443"),
        (["[::]:443"], "Caddy has the ports 80 and 443"),
        (["/run/shop.sock"], "the role makes the one that Caddy uses"),
    ],
)
def test_other_addresses_beside_the_edge(bind: list[str], said: str) -> None:
    found = problems(domains=["a.test"], bind=bind)
    assert len(found) == bool(said)
    assert said in "".join(found)
    assert problems(bind=bind) == []


def test_the_edge_closes_idle_connections_first() -> None:
    assert problems(domains=["a.test"], drain_timeout=3) == []
    assert re.search("Set it to at least 3", problems(domains=["a.test"], drain_timeout=2)[0])
    text = (Path(variables.ROLE) / "files/edge/Caddyfile").read_text()
    assert re.findall(r"keepalive (\d+)s", text) == [str(domains.KEPT_IDLE)]


@pytest.mark.parametrize(
    ("given", "right"), [("unix", True), ("10.0.0.1, unix", True), ("*", True), ("10.0.0.1", False)]
)
def test_the_edge_is_believed_about_clients(given: str, right: bool) -> None:
    assert (problems(domains=["a.test"], gunicorn_settings={"forwarded_allow_ips": given}) == []) == right


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("acme_directory", "http://ca.test/dir"), ("acme_directory", "https://ca.test/dir\n}"),
        ("acme_email", "ops@a.test }"), ("acme_email", "ops"), ("acme_root", "/nowhere"), ("hsts", -1),
    ],
)  # fmt: skip
def test_other_values(variable: str, value: object) -> None:
    assert len(problems(**{variable: value})) == 1


@pytest.mark.parametrize(
    ("redirects", "said"),
    [
        ({"www.a.test": "a.test"}, ""),
        ({"www.a.test": "b.test"}, 'leads to "b.test", which is none of gunicorn_fastapi_domains'),
        ({"www.a.test": None}, "leads to null"),
        ({"a.test": "a.test"}, "is one of gunicorn_fastapi_domains"),
        ({"*.a.test": "a.test"}, "is a wildcard"),
        ({"WWW.a.test": "a.test"}, "Give it as www.a.test"),
        ({"https://www.a.test": "a.test"}, "is more than a name"),
    ],
)
def test_names_that_lead_to_another(redirects: dict[str, object], said: str) -> None:
    for tls in ("internal", "off"):
        found = problems(domains=["a.test"], tls=tls, domain_redirects=redirects)
        assert len(found) == bool(said)
        assert said in "".join(found)
    assert bool(problems(domain_redirects=redirects))


def test_static_files_are_in_the_source() -> None:
    assert problems(domains=["a.test"], static={"/static": "static", "/": "front/dist"}) == []
    assert problems(domains=["a.test"], static_fallback="front/dist/index.html") == []
    for prefix in ("static", "/static/", "//", "/../x", "/a b", "/.x", "/*"):
        assert "is not a path of the application" in problems(domains=["a.test"], static={prefix: "static"})[0]
    for source in ("/srv", "../x", "a/../b", "", "a/", "a*", 5):
        assert "is not a directory of the source" in problems(domains=["a.test"], static={"/static": source})[0]
    for values in (
        {"static": {"/static": "static"}},
        {"static_fallback": "index.html"},
        {"unavailable_page": "503.html"},
    ):
        assert "Caddy serves it, which takes gunicorn_fastapi_domains" in problems(**values)[0]
