"""What is shown of texts from outside."""

import pytest
from appctl.text import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, größe 1\n\tnext", "plain, größe 1\n\tnext"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x9b31m \x7f \r \x00", "\\x9b31m \\x7f \\x0d \\x00"),
        ("a\u2028MainPID=1\u2029b\x85c", "a\\u2028MainPID=1\\u2029b\\x85c"),
        ("\u202eevil\u2066 \u061c \u200b \ufeff", "\\u202eevil\\u2066 \\u061c \\u200b \\ufeff"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_long_text_is_cut() -> None:
    assert visible("a" * 12, 10) == "aaaaaaaaaa... (2 more characters)"
