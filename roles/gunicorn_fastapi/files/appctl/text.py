"""Text from outside, made safe to show."""

import re

SHOWN = 4096
"""Characters that are shown of one text."""

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def visible(text: str, most: int = SHOWN) -> str:
    """A text whose control characters are written out, such as \\x1b, and that is cut after `most` characters."""
    cut = text[:most]
    shown = _UNSEEN.sub(lambda match: escape(match[0]), cut)
    return shown if len(text) <= most else f"{shown}... ({len(text) - most} more characters)"


def escape(character: str) -> str:
    """A character by its number."""
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
