"""The lines of a lock file, where pip and uv agree what they are."""

from __future__ import annotations

import re
from collections.abc import Iterator

# At each of them some program ends a line and another does not.
SEPARATORS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
VARIABLE = re.compile(r"\$\{\w+\}")


class LineError(Exception):
    """A line that is refused: its number, its text, the reason, and the next step where the reason does not say it."""

    def __init__(self, number: int, line: str, reason: str, advice: str = "") -> None:
        super().__init__(number, line, reason, advice)
        self.number, self.line, self.reason, self.advice = number, line, reason, advice


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of each entry: comments gone, continued lines joined, one blank between words.

    A line that is a comment ends where it ends, even with a backslash. Behind an entry, pip goes on after such a
    comment and uv does not. Raises LineError for that, and for whatever else they read differently.
    """
    parts: list[str] = []
    first = 0
    for number, line in enumerate(text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        if SEPARATORS.search(line):
            raise LineError(number, line, "has a control character, at which some programs end the line. Remove it")
        comment = re.search(r"(^|\s)#", line)
        continued = line.endswith("\\") and not line.lstrip().startswith("#")
        if continued and comment:
            reason = "has a comment that ends with a backslash, after which pip reads on and uv does not. Remove it"
            raise LineError(number, line, reason)
        piece = line[: comment.start()] if comment else line[:-1] if continued else line
        if parts and parts[-1][-1:].strip() and piece[:1].strip():
            raise LineError(number, line, "continues a word of the line before. Put a blank between them")
        first = first if parts else number
        parts.append(piece)
        if not continued:
            yield from joined(first, parts)
            parts = []
    yield from joined(first, parts)


def joined(number: int, parts: list[str]) -> Iterator[tuple[int, str]]:
    """The line that the parts make, unless it is empty."""
    line = " ".join(" ".join(parts).split())
    if "\\" in line:
        raise LineError(number, line, "has a backslash that is not at the end of a line. Remove it")
    if VARIABLE.search(line):
        raise LineError(number, line, "depends on a variable of whoever installs it. Write what it stands for")
    if line:
        yield number, line
