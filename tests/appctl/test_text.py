"""What is shown of texts from outside."""

import sys
import unicodedata

import pytest
from appctl.text import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, größe 1\n\tnext 日本", "plain, größe 1\n\tnext 日本"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x9b31m \x7f \r \x00", "\\x9b31m \\x7f \\x0d \\x00"),
        ("a\u2028MainPID=1\u2029b\x85c", "a\\u2028MainPID=1\\u2029b\\x85c"),
        ("\u202eevil\u2066 \u061c \u200b \ufeff", "\\u202eevil\\u2066 \\u061c \\u200b \\ufeff"),
        ("\ud800 \U000e0041", "\\ud800 \\U000e0041"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown


@pytest.mark.parametrize("one_line", [False, True])
def test_nothing_unseen_is_left_of_all_of_unicode(one_line: bool) -> None:
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    shown = visible(everything, len(everything), one_line=one_line)
    assert shown.encode().decode() == shown
    assert not one_line or len(shown.splitlines()) == 1
    unseen = {c for c in set(shown) if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert unseen == (set() if one_line else {"\n", "\t"})


def test_on_one_line_its_ends_are_written_out() -> None:
    assert visible("a\n  b\tc", one_line=True) == "a\\n  b\\tc"


def test_a_long_text_is_cut() -> None:
    assert visible("a" * 12, 10) == "aaaaaaaaaa... (2 more characters)"
