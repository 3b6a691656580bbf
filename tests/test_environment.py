"""The application's variables arrive as they were given."""

import datetime
import json
import subprocess

import pytest
from gunicorn_fastapi_controller import environment


def arrived(values: dict[str, object]) -> dict[str, str]:
    """The variables that a program gets from a shell that has read the file, as the unit does it."""
    script = "set -a && . /dev/stdin && exec env --null"
    done = subprocess.run(
        ["/bin/sh", "-c", script], input=environment.rendered(values).encode(), capture_output=True, check=True, env={}
    )
    pairs = (entry.split("=", 1) for entry in done.stdout.decode().split("\0") if entry)
    return {name: value for name, value in pairs if name not in ("PWD", "_", "SHLVL", "OLDPWD")}


@pytest.mark.parametrize(
    "text",
    [
        "", "plain", "two words", " blanks ", "it's", "'", "''", '"', '"quoted"', "$HOME", "${HOME}", "$(id)", "`id`",
        "a\\b", "\\", "\\n", "#no comment", "a=b=c", "!!", "~", "*", "; exit 3", "& | < >", "line\nline", "\n", "\ttab",
        "ä€😀", "@RELEASE@", "%h %%", "{{ no_template }}", "-----BEGIN KEY-----\nabc\n-----END KEY-----\n", "\x01\x7f",
    ],
)  # fmt: skip
def test_a_text_arrives_to_the_last_byte(text: str) -> None:
    assert arrived({"VALUE": text, "Z": "after"}) == {"VALUE": text, "Z": "after"}


@pytest.mark.parametrize(
    "value", [[1, "a"], {"a": [None, True]}, [], {}, True, False, 5, 1.5, ["http://a", "b'c"], ["ä"]]
)
def test_everything_else_arrives_as_json(value: object) -> None:
    text = arrived({"VALUE": value})["VALUE"]
    assert json.loads(text) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), "2024-01-02T03:04:05+00:00"),
        ({"a": [datetime.date(2024, 1, 2)]}, '{"a": ["2024-01-02"]}'),
    ],
)
def test_a_date_of_yaml_arrives_as_it_was_written(value: object, text: str) -> None:
    assert arrived({"VALUE": value}) == {"VALUE": text}


def test_null_leaves_the_variable_out() -> None:
    assert arrived({"GONE": None, "HERE": "x"}) == {"HERE": "x"}


def test_the_order_of_the_variables_changes_nothing() -> None:
    assert environment.rendered({"A": "1", "B": "2"}) == environment.rendered({"B": "2", "A": "1"})
