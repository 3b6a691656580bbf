"""What is wrong with an operator's input, in words that are safe to show."""

from __future__ import annotations


class InputError(Exception):
    """The thing, the reason and the next step, in words for the operator."""


def visible(text: str) -> str:
    """The text with every character written out that a terminal would obey or not show."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
