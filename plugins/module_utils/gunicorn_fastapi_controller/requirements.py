"""The lock file: what is installed is what was understood here, and nothing else.

The release's own list is written anew from it. Whatever is not exactly one version of one package, pinned by
its hashes, is refused with its line.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from .lines import LineError, logical_lines
from .problem import InputError, visible

DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}
ARCHIVES = (".whl", ".gz", ".zip")
SECRET = re.compile(r"://[^/\s]*@")
QUERY = re.compile(r"://[^\s#]*\?")
# What holds for every release anyway.
GRANTED = re.compile(r"--require-hashes|--prefer-binary|--pre|--only-binary[= ]\S+")
ADDRESS = re.compile("https?://", re.IGNORECASE)
# Where a release has wheels that were built for it.
BESIDE = "./wheels/"
BUILT = (
    "names source that would have to be built, and packages are not built on the host. The application's own source is "
    "part of the release: leave it out of the list. Of another one build a wheel: uv build --wheel"
)
REFUSED = {
    "--hash": "is not part of an entry. End the line before it with a backslash",
    "--no-binary": "has a package built on the host, and building would run its code as root. Remove it",
    "--trusted-host": "disables certificate verification. Remove it, and trust the authority on the host",
}


@dataclass(frozen=True)
class Entry:
    """One version of one package, from the index or, by its place, from an address or a file of the source."""

    name: str
    version: str
    hashes: tuple[str, ...] = ()
    extras: str = ""
    marker: str = ""
    place: str = ""

    @property
    def key(self) -> str:
        """The name by which packages are compared (PEP 503)."""
        return canonicalize_name(self.name)

    def __str__(self) -> str:
        """The entry as pip and uv read it."""
        named = f"{self.name}{self.extras}=={self.version}"
        if self.place:
            local = self.place.startswith(".")
            named = f"{self.place}{self.extras}" if local else f"{self.name}{self.extras} @ {self.place}"
        return " ".join([f"{named} ; {self.marker}" if self.marker else named, *(f"--hash={h}" for h in self.hashes)])

    def applies(self, environment: dict[str, str]) -> bool:
        """Whether a host with this environment (PEP 508) installs it."""
        return not self.marker or Marker(self.marker).evaluate(environment)


@dataclass(frozen=True)
class Requirements:
    """A list that was understood: its packages, and the options that say where they come from."""

    entries: tuple[Entry, ...]
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "".join(f"{line}\n" for line in (*self.options, *self.entries))


class Reader:
    """Reads one list. Paths in it are meant from where it stands, and have to lead into the source."""

    def __init__(
        self, path: Path, source: Path, packed: Collection[str], built: Mapping[str, bytes] | None = None
    ) -> None:
        self.path, self.source, self.packed, self.built = path, source.resolve(), packed, built or {}

    def read(self, text: str) -> Requirements:
        """The entries and options of a list. Raises LineError for the first line that is refused."""
        entries, options = [], []
        for number, line in logical_lines(text):
            try:
                if SECRET.search(line):
                    raise ValueError(
                        "contains a user or password, which everyone who can read the release would see. Put them into "
                        "the host's netrc"
                    )
                if QUERY.search(line):
                    raise ValueError(
                        "has an address with a query (?), which all who may read the release would know. Name the "
                        "address without it, or put the wheel into gunicorn_fastapi_wheelhouse"
                    )
                if line.startswith("-"):
                    options.append(self.option(line))
                else:
                    entries.append(self.entry(line))
            except ValueError as error:
                raise LineError(number, line, *error.args) from error
        return Requirements(tuple(entries), tuple(dict.fromkeys(o for o in options if o)))

    def option(self, line: str) -> str:
        """What an option becomes in the release's list, empty when it holds anyway. Raises ValueError."""
        match = re.fullmatch(r"(--[a-z-]+(?=[= ]|$)|-\w)[= ]?(\S+)?", line)
        name, value = match.groups() if match else (line.split("=")[0].split()[0], None)
        name = {"-i": "--index-url", "-f": "--find-links"}.get(name, name)
        if name in ("-e", "--editable"):
            raise ValueError(BUILT)
        if name in ("-r", "-c", "--requirement", "--constraint"):
            raise ValueError("names another file, and a release is made from one list", "Compile them into one: ")
        if GRANTED.fullmatch(line):
            return ""
        if name == "--no-index" and not value:
            return name
        if name in ("--index-url", "--extra-index-url", "--find-links") and value:
            if ADDRESS.match(value):
                return f"{name} {value}"
            if name == "--find-links":
                return f"{name} {self.local(value)}"
            raise ValueError("names an index that is not a URL. Write it as https://...")
        raise ValueError(REFUSED.get(name, "is an unsupported option. Remove it"))

    def entry(self, line: str) -> Entry:
        """What a line installs. Raises ValueError with the reason and maybe the next step."""
        words = line.split(" ")
        end = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
        text = " ".join(words[:end])
        first = re.sub(r"\[[^]]*\]$", "", re.split(r"[\s;]", text)[0])
        if first in (".", ".."):
            raise ValueError(BUILT)
        placed = re.match(r"[\w.-]+ ?(\[[^]]*\])? ?@", text) or "/" in first.split("=")[0] or first.endswith(ARCHIVES)
        made = self.placed(text) if placed else indexed(text)
        made = replace(made, hashes=tuple(dict.fromkeys((*made.hashes, *hashes(words[end:])))))
        if not made.hashes:
            raise ValueError("has no --hash, so what is installed could change unnoticed", "Make the lock file with: ")
        if not made.version:
            raise ValueError("is not pinned to one version by ==", "Make the lock file with: ")
        if made.place.startswith("."):
            self.verify(made)
        return made

    def placed(self, text: str) -> Entry:
        """A wheel by its address or its path. Raises ValueError."""
        match = re.match(r"([\w.-]+) ?(\[[^]]*\])? ?@ ?(.*)", text)
        name, extras, rest = match.groups() if match else ("", "", text)
        place, *marker = re.split(r" ; ?|; ", rest, maxsplit=1)
        place, _, fragment = place.partition("#")
        if not match and place.endswith("]"):
            place, _, extras = place.partition("[")
            extras = f"[{extras}"
        if re.match(r"(git|hg|svn|bzr)[+:]", place):
            raise ValueError("names a repository, which no hash pins. Name a wheel of it and its hash")
        if "://" in place and not (ADDRESS.match(place) or place.startswith("file:")):
            raise ValueError("names an address that is neither https://... nor a path. Put the wheel into the source")
        if not place.endswith(".whl"):
            raise ValueError("names no wheel, and packages are not built on the host. Build one: uv build --wheel")
        try:
            found, version, *_ = parse_wheel_filename(unquote(place.rpartition("/")[2]))
        except InvalidWheelFilename as error:
            raise ValueError("names a file that has no wheel's name. Keep the one that it was built with") from error
        if name and canonicalize_name(name) != found:
            raise ValueError(f"names a wheel of another package, {found}")
        if not ADDRESS.match(place) and place.removeprefix(BESIDE) not in self.built:
            place = self.local(place)
        pinned = hashes([f"--hash={part.replace('=', ':')}" for part in fragment.split("&") if part.startswith("sha")])
        condition = indexed(f"{found} ; {marker[0]}").marker if marker else ""
        return Entry(name or found, str(version), pinned, (extras or "").replace(" ", ""), condition, place)

    def local(self, place: str) -> str:
        """A path in the source, as from the release's list. Raises ValueError."""
        base = self.path.parent
        whole = (base / re.sub(r"^file:(//)?", "", place)).resolve()
        if not whole.is_relative_to(self.source):
            raise ValueError("names a path outside of the source, which the host does not have. Copy it in")
        if not whole.exists():
            raise ValueError(f"names a path that does not exist; it is meant from {base}. Correct it")
        name = str(whole.relative_to(self.source))
        if not any(packed == name or packed.startswith(f"{name}/") for packed in self.packed):
            raise ValueError("names a path that is left out of the release. Name it in gunicorn_fastapi_include")
        return f"./app/{name}"

    def verify(self, entry: Entry) -> None:
        """Compare a wheel of the source with its hashes. Raises ValueError."""
        file = entry.place.removeprefix(BESIDE)
        content = self.built.get(file) or (self.source / entry.place.removeprefix("./app/")).read_bytes()
        if not any(f"{kind}:{hashlib.new(kind, content).hexdigest()}" in entry.hashes for kind in DIGITS):
            raise ValueError("has a hash that is not the wheel's", "Make the lock file with: ")


def indexed(text: str) -> Entry:
    """A package of the index; without a version when it is not pinned to one. Raises ValueError."""
    try:
        wanted = Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(f"is not valid: {visible(str(error).splitlines()[0])}. Correct or remove it") from error
    version = ""
    if len(wanted.specifier) == 1:
        (specifier,) = wanted.specifier
        version = specifier.version if specifier.operator == "==" and not specifier.version.endswith(".*") else ""
    extras = f"[{','.join(sorted(wanted.extras))}]" if wanted.extras else ""
    return Entry(wanted.name, version, (), extras, str(wanted.marker or ""))


def hashes(options: list[str]) -> tuple[str, ...]:
    """The digests that an entry accepts. Raises ValueError for odd ones, and for other options."""
    found = []
    for word in " ".join(options).replace("--hash ", "--hash=").split():
        match = re.fullmatch(r"--hash=(\w+):([0-9a-fA-F]+)", word)
        if not match:
            raise ValueError(f"has '{visible(word)}', and only --hash=sha256:... may follow a package. Remove it")
        kind, digest = match.groups()
        if len(digest) != DIGITS.get(kind):
            raise ValueError(
                f"has a hash that is no {', '.join(DIGITS)} of the right length", "Make the lock file with: "
            )
        found.append(f"{kind}:{digest.lower()}")
    return tuple(found)


def advice(path: Path) -> str:
    """The command that makes the list, from what is there to make it from."""
    made = f"--output-file {path.name}"
    there = {name: (path.parent / name).is_file() for name in ("uv.lock", "poetry.lock", "pyproject.toml")}
    if (path.with_suffix(".in")).is_file():
        return f"uv pip compile --generate-hashes {made} {path.stem}.in"
    if there["uv.lock"]:
        return f"uv export --no-dev --no-emit-project --format requirements-txt {made}"
    if there["poetry.lock"]:
        return f"poetry export --format requirements.txt --output {path.name}"
    if there["pyproject.toml"]:
        return f"uv pip compile --generate-hashes {made} pyproject.toml"
    first = f"mv {path.name} {path.stem}.in" if path.is_file() else f"name the packages in {path.stem}.in"
    return f"uv pip compile --generate-hashes {made} {path.stem}.in (before that: {first})"


def read(
    path: Path,
    source: Path,
    packed: Collection[str] = (),
    text: str | None = None,
    built: Mapping[str, bytes] | None = None,
) -> Requirements:
    """The list at `path`, or the `text` that was made from it, for a release with the files `packed` of `source`.

    `built` has wheels that were made for the list, by the names of their files.

    Raises InputError for one that cannot be read, or has a line that is refused.
    """
    try:
        return Reader(path, source, packed, built).read(path.read_text(encoding="utf-8") if text is None else text)
    except UnicodeDecodeError as error:
        raise InputError(
            f"gunicorn_fastapi_requirements: {path} is not UTF-8 at its byte {error.start}, as when PowerShell's > has "
            "written it. Save it as UTF-8."
        ) from error
    except OSError as error:
        raise InputError(
            f"gunicorn_fastapi_requirements: {path} cannot be read: {error}. Make it with: {advice(path)}"
        ) from error
    except LineError as error:
        line = SECRET.sub("://...@", error.line.partition(" --hash")[0].strip() or error.line.strip())
        line = re.sub(rf"({QUERY.pattern})\S*", r"\1...", line)
        next_step = f". {error.advice}{advice(path)}" if error.advice else ""
        raise InputError(
            f"gunicorn_fastapi_requirements: {path}:{error.number}: '{visible(line)}' {error.reason}{next_step}"
        ) from error
