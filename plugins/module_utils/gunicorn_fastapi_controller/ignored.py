"""What .gitignore and .dockerignore leave out of a source, as git and docker read them."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

CLASSES = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "blank": " \\t", "cntrl": "\\x00-\\x1f\\x7f", "digit": "0-9",
    "graph": "!-~", "lower": "a-z", "print": " -~", "punct": "!-/:-@\\[-`{-~", "space": "\\s", "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}  # fmt: skip
"""What [:alpha:] and its like are."""

NOTHING = "(?!)"


def bracketed(rest: str, negations: str) -> tuple[str, int]:
    """A regular expression for a pattern's [...], and its length. One that does not end matches nothing."""
    position = 2 if rest[1:2] and rest[1] in negations else 1
    inside, begin = "", position
    while position < len(rest):
        named = re.match(r"\[:([a-z]+):\]", rest[position:])
        if rest[position] == "]" and position > begin:
            return f"(?!/)[{'^' if begin == 2 else ''}{inside}]", position + 1
        if named and named[1] in CLASSES:
            inside, position = inside + CLASSES[named[1]], position + named.end()
        elif rest[position] == "-" and inside and rest[position + 1 : position + 2] not in ("]", ""):
            inside, position = inside + "-", position + 1
        else:
            position += rest[position] == "\\"
            inside, position = inside + re.escape(rest[position : position + 1]), position + 1
    return NOTHING, len(rest)


def octets(text: str) -> str:
    """A text with a letter for each of its bytes: to git, ? and [...] stand for a byte."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def expression(pattern: str) -> str:
    """A regular expression for a pattern with *, ?, [...] within a name and ** over any number of directories."""
    made, position = "", 0
    while position < len(pattern):
        rest = pattern[position:]
        if rest.startswith("**/") and (position == 0 or pattern[position - 1] == "/"):
            made, position = made + "(?:.*/)?", position + 3
        elif rest == "**" and (position == 0 or pattern[position - 1] == "/"):
            made, position = made + ".+", position + 2
        elif rest[0] == "*":
            made, position = made + "[^/]*", position + 1
        elif rest[0] == "?":
            made, position = made + "[^/]", position + 1
        elif rest[0] == "[":
            group, length = bracketed(rest, "!^")
            made, position = made + group, position + length
        else:
            literal, length = escaped(rest)
            made, position = made + literal, position + length
    return made


def escaped(rest: str) -> tuple[str, int]:
    """A regular expression for a pattern's next letter, which a backslash may precede, and its length."""
    length = 2 if rest[0] == "\\" and len(rest) > 1 else 1
    return re.escape(rest[length - 1]), length


def docker_expression(pattern: str) -> str:
    """The same for docker, to which ** is any number of directories wherever it stands, and [!a] is ! or a."""
    made, position = "", 0
    while position < len(pattern):
        rest = pattern[position:]
        if rest.startswith("**"):
            length = 3 if rest[2:3] == "/" else 2
            part = "(?:.*/)?" if rest[length:] else ".*"
        elif rest[0] == "[":
            part, length = bracketed(rest, "^")
        elif rest[0] in "*?":
            part, length = "[^/]*" if rest[0] == "*" else "[^/]", 1
        else:
            part, length = escaped(rest)
        made, position = made + part, position + length
    return made


@dataclass(frozen=True)
class Rule:
    """One line of such a file."""

    pattern: re.Pattern[str]
    brings_back: bool
    directories_only: bool = False


def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern, or one that matches nothing when it makes no sense."""
    try:
        return re.compile(pattern, re.DOTALL)
    except re.error:
        return re.compile(NOTHING)


def lines(path: Path) -> list[str]:
    """The lines of a file that are neither empty nor comments; none when it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return []
    return [line for line in text.removeprefix("\ufeff").split("\n") if line.strip() and not line.startswith("#")]


def git_rule(line: str, base: str) -> Rule:
    """A line of the .gitignore in the directory `base`."""
    line = octets(re.sub(r"(?<!\\) +$", "", line.rstrip("\r")))
    brings_back = line.startswith("!")
    line = line.removeprefix("!")
    directories_only = line.endswith("/")
    line = line.rstrip("/")
    anywhere = "" if "/" in line else "(?:.*/)?"
    prefix = re.escape(octets(f"{base}/")) if base else ""
    return Rule(compiled(f"{prefix}{anywhere}{expression(line.removeprefix('/'))}"), brings_back, directories_only)


def docker_rule(line: str) -> Rule:
    """A line of the .dockerignore: it is about a path and all below it."""
    line = line.strip()
    brings_back = line.startswith("!")
    line = line.removeprefix("!").strip()
    path = os.path.normpath(line).lstrip("/") if line else ""
    return Rule(compiled(f"{docker_expression(path)}(?:/.*)?"), brings_back)


class GitIgnore:
    """The .gitignore files of a repository, from its top to wherever the source's walk has come.

    `tracked` is what git tracks, where the source is a copy that git knows nothing of."""

    def __init__(self, source: Path, top: Path, tracked: set[str] | None = None) -> None:
        self.source = source
        self.top = next((p for p in (source, *source.parents) if (p / ".git").exists()), top)
        self.rules: dict[str, list[Rule]] = {}
        above = self.source.relative_to(self.top)
        if any(self.fitting(PurePosixPath(path), True) for path in (above, *above.parents) if path.name):
            self.top, self.rules = source, {}  # the repository does not want it, and the operator named it
        if tracked is None:
            tracked = self.ask_git() if (self.top / ".git").exists() else set()
        self.tracked = tracked
        self.above = {str(p) for path in self.tracked for p in PurePosixPath(path).parents}

    def ask_git(self) -> set[str]:
        """What git has in its index, which no .gitignore concerns. Empty without git."""
        command = ["git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "ls-files", "-z"]
        command.append("--recurse-submodules")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        try:
            done = subprocess.run(command, cwd=self.source, env=environment, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return set()
        return {name.decode("utf-8", "surrogateescape") for name in done.stdout.split(b"\0") if name}

    def of(self, directory: PurePosixPath) -> list[Rule]:
        """The rules of a directory's own file, by its path in the repository."""
        key = str(directory)
        if key not in self.rules:
            base = "" if key == "." else key
            self.rules[key] = [git_rule(line, base) for line in lines(self.top / directory / ".gitignore")]
        return self.rules[key]

    def ignores(self, path: str, is_directory: bool) -> bool:
        """Whether the rules leave out a path of the source, given that none of its directories is. They do not
        concern what is tracked."""
        return self.fitting(PurePosixPath(self.source.relative_to(self.top)) / path, is_directory)

    def fitting(self, whole: PurePosixPath, is_directory: bool) -> bool:
        """Whether the rules leave out a path of the repository: the last one of the nearest file decides."""
        path = octets(str(whole))
        for directory in whole.parents:
            for rule in reversed(self.of(directory)):
                if (is_directory or not rule.directories_only) and rule.pattern.fullmatch(path):
                    return not rule.brings_back
        return False


class DockerIgnore:
    """The .dockerignore of the source: the last line that fits decides."""

    def __init__(self, source: Path) -> None:
        self.rules = [docker_rule(line) for line in lines(source / ".dockerignore")]
        self.brings_back = any(rule.brings_back for rule in self.rules)

    def ignores(self, path: str) -> bool:
        """Whether a path of the source is left out."""
        for rule in reversed(self.rules):
            if rule.pattern.fullmatch(path):
                return not rule.brings_back
        return False
