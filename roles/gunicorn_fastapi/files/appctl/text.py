"""Text from outside, made safe to show."""

import re

SHOWN = 4096
"""Characters that are shown of one text."""

# Unicode's control, format, surrogate and line separating characters, and its blank letters; a terminal obeys
# them, or they hide or turn what stands beside them. The newline and the tab are not among them.
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5"
    "\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff9-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)
BREAKS = re.compile("[\n\t]")


def visible(text: str, most: int = SHOWN, one_line: bool = False) -> str:
    """A text whose control characters are written out, such as \\x1b, and that is cut after `most` characters.

    Newlines and tabs stay unless it has to be `one_line`. What is visible already stays as it is.
    """
    shown = UNSEEN.sub(escaped, text[:most])
    if one_line:
        shown = BREAKS.sub(escaped, shown)
    return shown if len(text) <= most else f"{shown}... ({len(text) - most} more characters)"


def escaped(match: re.Match[str]) -> str:
    """A character by its number, as Python writes it."""
    number = ord(match[0])
    if number < 0x100:
        return {"\n": "\\n", "\t": "\\t"}.get(match[0], f"\\x{number:02x}")
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
