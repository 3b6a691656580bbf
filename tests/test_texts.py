"""What cannot be meant is refused by its variable's name, and not passed on to fail late or to do nothing."""

from pathlib import Path

import pytest
import variables
from test_checks import problems, refused

OPTIONS = variables.options()

EMPTY: dict[str, list[object]] = {
    "str": ["", " ", "\t", "\n", None, True, False, 3.10, [], ["x"], {}, {"a": 1}, b"x",
            " x", "x ", "x\n", "a\0b", "a\x1bb"],
    "list": [None, True, 5, 1.5, {}, {"a": 1}, [""], [" "], ["\n"], [None], [True], [1.5], [["x"]], [{}], [" x"],
             ["x\n"], ["a\0b"], "a\x1bb", "[", '["x"'],
    "dict": ["", " ", None, True, 5, [], [""], "x", "{}", {"": "x"}, {" ": "x"}, {"x ": "x"}, {"a\n": "x"}],
    "int": ["", " ", None, True, 1.5, "1.5", [], [1], {}, "x", "1 2", "--1", "\0"],
    "bool": ["", " ", None, 2, "x", [], [True], {}, "yes no"],
    "raw": ["", " ", None, True, 5, 1.5, {}, {"a": 1}, [""], [" "], [None], " any", "any\n", "[", "a\0b"],
}  # fmt: skip
"""What cannot be meant as a value, whatever the variable of a type."""

MEANT: dict[str, list[object]] = {
    "advisories": [""],
    "app_path": [""],
    "app_version": [""],
    "app_module": [""],
    "build_command": ["", " x", "x ", "x\n", "a\x1bb"],
    "env_file": [""],
    "requirements": [""],
    "lock_date": [""],
    "lock_file": [""],
    "working_directory": [""],
    "memory_max": [""],
    "metrics_bind": [""],
    "cpu_quota": [""],
    "index_url": [""],
    "wheelhouse": [""],
    "python_mirror": [""],
    "prepare_command": ["", " x", "x ", "x\n", "a\x1bb"],
    "tls": [False],
    "tls_certificate": [""],
    "tls_key": [""],
    "acme_directory": [""],
    "acme_email": [""],
    "acme_root": [""],
    "release_command": ["", " any", "any\n", "["],
    "static_fallback": [""],
    "unavailable_page": [""],
}
"""By README, an empty one of these stands for none, or for what is found; YAML reads off as False. What is for a shell
may be anything."""

NOTHING_MEANT = [
    (name.removeprefix("gunicorn_fastapi_"), value)
    for name, option in OPTIONS.items()
    for value in EMPTY[option["type"]]
    if value not in MEANT.get(name.removeprefix("gunicorn_fastapi_"), [])
]


@pytest.mark.parametrize(("name", "value"), NOTHING_MEANT)
def test_what_cannot_be_meant_is_refused_by_the_name_of_its_variable(name: str, value: object) -> None:
    found = problems(**{name: value})
    assert [problem for problem in found if problem.startswith(f"gunicorn_fastapi_{name}")]
    assert all(problem.isprintable() for problem in found)


def test_an_empty_list_is_none_where_it_can_be() -> None:
    for name in ("exclude", "include", "log_quiet", "egress"):
        assert problems(**{name: []}) == []
    assert problems(exclude="", include=" ", log_quiet="") == []


def test_texts_that_pass() -> None:
    assert (
        problems(
            app_source="/srv/my shop",
            requirements="locks/prod.txt",
            extras=["pg"],
            groups=["x.y"],
            lock_date="2023-06-30",
            lock_file="./lock.txt",
            python="/opt/python 3.13/bin/python3",
        )
        == []
    )
    assert problems(exclude=["*.pyc", "my file", "caf\u00e9"], include=["static/dist", "!*.map", "/a b/"]) == []
    assert problems(log_quiet=["/healthz", "*", "?x", "[/]a", "/a b"]) == []
    for worker_class in ("uvicorn_worker.UvicornWorker", "my.worker.Mine", "asgi", "egg:mine#worker"):
        assert problems(worker_class=worker_class) == []
    for python in ("python3", "python3.13", "pypy3", "/usr/local/bin/python3.13t"):
        assert problems(python=python) == []


@pytest.mark.parametrize("worker_class", ["uvicorn", "Uvicorn Worker", "my..Worker", "my.", ".Worker", "my:Worker"])
def test_no_worker_class(worker_class: str) -> None:
    assert "is not of the form MODULE.CLASS" in refused(worker_class=worker_class)


@pytest.mark.parametrize("worker_class", ["sync", "gthread", "gevent", "tornado"])
def test_a_worker_class_for_wsgi(worker_class: str) -> None:
    assert "an ASGI application needs a worker class for ASGI" in refused(worker_class=worker_class)


@pytest.mark.parametrize(
    "python",
    ["4.13", "3.13.", "./python3", "venv/bin/python", "~/bin/python3", "python3 -I", "/", "/opt//x"],
)
def test_no_interpreter(python: str) -> None:
    assert "is neither a version, the name of a program nor an absolute path" in refused(python=python)


@pytest.mark.parametrize("python", ["3.13", "3.14.2", "python3", "/usr/local/bin/python3.13"])
def test_an_interpreter(python: str) -> None:
    assert problems(python=python) == []


def test_the_mirror_is_a_server_or_a_directory(tmp_path: Path) -> None:
    assert problems(python_mirror=str(tmp_path)) == problems(python_mirror="https://example.org/builds") == []
    assert "is neither a URL (https://...) nor a directory on the controller" in refused(python_mirror="file:///srv")
    assert "it contains a user or a password" in refused(python_mirror="https://me:word@example.org/builds")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"exclude": ["tests/data"]}, "has a slash, and what is compared with it is a name"),
        ({"exclude": ["node_modules/"]}, "has a slash"),
        ({"include": ["./static/dist"]}, "fits no path, which begins at the top of the source"),
        ({"include": ["!../x"]}, "fits no path"),
        ({"include": ["."]}, "fits no path"),
        ({"log_quiet": ["healthz"]}, "fits no request, because a path begins with a slash"),
        ({"log_quiet": ["http://shop/healthz"]}, "fits no request"),
    ],
)
def test_patterns_that_fit_nothing(values: dict[str, list[str]], said: str) -> None:
    assert said in refused(**values)
