"""The application's source: which of its files belong in a release."""

from __future__ import annotations

import fnmatch
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .archive import Member, from_disk
from .ignored import DockerIgnore, GitIgnore, Rule, git_rule, octets
from .problem import InputError, visible

# Left out unless gunicorn_fastapi_include names them: what belongs to a developer's machine, or is made while it runs.
SECRETS = (".env", ".env.*", ".envrc")
SAMPLES = (".env.example", ".env.sample", ".env.template", ".env.dist", ".env.defaults")
DATABASES = ("*.db", "*.sqlite", "*.sqlite3")
OTHERS = ("node_modules", ".DS_Store", ".idea", ".vscode", ".tox", ".nox", ".ansible", ".terraform")
# What gunicorn's own configuration is usually called. The role has one of its own.
CONFIGURATIONS = (
    "gunicorn.conf.py",
    "gunicorn_conf.py",
    "gunicorn_config.py",
    "gunicorn.config.py",
    "gunicorn-conf.py",
)
# Bytes from which on the largest directories of a source are named.
LARGE = 100 * 1024 * 1024


def fits(name: str, patterns: tuple[str, ...] | list[str]) -> bool:
    """Whether a name fits one of the shell patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def is_directory(path: Path) -> bool:
    """Whether a path is that of a directory, also where it can be none."""
    try:
        return path.is_dir()
    except OSError:
        return False


class Source:
    """A directory of the controller, and what of it goes into a release.

    `top` is that of the source that it is in, `tracked` what git tracks there, if git is not to be asked. Of one that
    is `whole` nothing is left out but the names of `exclude`: it holds what a build has left of a source. Links may
    lead to `state`, a directory of the host.
    """

    def __init__(
        self,
        path: Path,
        exclude: list[str],
        include: list[str],
        top: Path | None = None,
        tracked: set[str] | None = None,
        whole: bool = False,
        state: str = "",
    ) -> None:
        if not is_directory(path):
            raise InputError(
                f"gunicorn_fastapi_app_source: {path} is not a directory on the controller. "
                "Give the directory that has the application's source and its lock file."
            )
        self.path, self.exclude = path.resolve(), exclude
        self.include: list[Rule] = [git_rule(line, "") for line in include]
        self.git, self.docker = GitIgnore(self.path, (top or path).resolve(), tracked), DockerIgnore(self.path)
        self.state = state
        self.left_out: list[str] = []
        found = self.all_of("") if whole else self.walk("", ignored=False, by_git=False)
        self.members = {member.name.removeprefix("app/"): member for member in found}
        for name, member in self.members.items():
            if member.link and not member.link.startswith("/"):
                self.check_target(name, member.link)

    def included(self, path: str, is_directory: bool) -> bool:
        """Whether gunicorn_fastapi_include names the path itself; the last pattern that fits decides."""
        for rule in reversed(self.include):
            if (is_directory or not rule.directories_only) and rule.pattern.fullmatch(octets(path)):
                return not rule.brings_back
        return False

    def ignores(self, path: str, is_directory: bool) -> bool:
        """Whether a path is left out by what people usually leave out, or by .dockerignore."""
        name = path.rpartition("/")[2]
        if not is_directory and fits(name, (*SECRETS, *DATABASES)) and name not in SAMPLES:
            self.left_out.append(path)
            return True
        return fits(name, (*OTHERS, ".env")) or (
            self.docker.ignores(path) and not (is_directory and self.docker.brings_back)
        )

    def walk(self, below: str, *, ignored: bool, by_git: bool) -> Iterator[Member]:
        """The members from a directory on. In one that is ignored only what is included counts, and in one that git
        ignores what it tracks all the same."""
        try:
            names = sorted(entry.name for entry in os.scandir(self.path / below))
        except OSError as error:
            raise InputError(
                f"gunicorn_fastapi_app_source: {visible(str(self.path / below))} cannot be read: {error.strerror}. "
                "Make it readable, or add its name to gunicorn_fastapi_exclude."
            ) from error
        for name in names:
            if fits(name, self.exclude):
                continue
            path = f"{below}{name}"
            whole = self.path / path
            is_directory = whole.is_dir() and not whole.is_symlink()
            included = self.included(path, is_directory)
            out = ignored or self.ignores(path, is_directory)
            git_out = by_git or self.git.ignores(path, is_directory)
            if is_directory and included:
                yield from self.all_of(f"{path}/")
            elif is_directory and (self.include or not (out or (git_out and path not in self.git.above))):
                yield from self.walk(f"{path}/", ignored=out, by_git=git_out)
            elif not is_directory and (included or not (out or (git_out and path not in self.git.tracked))):
                yield self.member(path, whole)

    def all_of(self, below: str) -> Iterator[Member]:
        """All of a directory that is included, but for the names that are excluded."""
        for here, directories, names in os.walk(self.path / below):
            directories[:] = sorted(d for d in directories if not fits(d, self.exclude))
            links = [d for d in directories if (Path(here) / d).is_symlink()]
            for name in sorted(n for n in names if not fits(n, self.exclude)) + links:
                whole = Path(here) / name
                yield self.member(str(whole.relative_to(self.path)), whole)

    def member(self, path: str, whole: Path) -> Member:
        """A file or a link. Raises InputError for what cannot be in a release."""
        try:
            path.encode()
        except UnicodeEncodeError as error:
            shown = repr(os.fsencode(whole))[2:-1]
            raise InputError(
                f"gunicorn_fastapi_app_source: {shown} has a name that is not UTF-8. "
                "Rename it, or add a pattern for its name to gunicorn_fastapi_exclude."
            ) from error
        if whole.is_symlink():
            return from_disk(f"app/{path}", whole, self.target(whole))
        if not whole.is_file():
            raise InputError(
                f"gunicorn_fastapi_app_source: {visible(str(whole))} is neither a file nor a directory. "
                "Add its name to gunicorn_fastapi_exclude."
            )
        return from_disk(f"app/{path}", whole)

    def target(self, whole: Path) -> str:
        """Where a link of a release points: never by a path that only the controller has. Raises InputError."""
        target = whole.readlink()
        lexical = Path(os.path.normpath(whole.parent / target))
        if self.state and target.is_absolute() and lexical.is_relative_to(self.state):
            return str(lexical)  # which the host has
        try:
            resolved = whole.resolve()
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"gunicorn_fastapi_app_source: {visible(str(whole))} is a link that leads to itself. Remove it."
            ) from error
        if not resolved.is_relative_to(self.path):
            raise InputError(
                f"gunicorn_fastapi_app_source: {visible(str(whole))} points out of the source, to "
                f"{visible(str(target))}, which would not be there on the host. Copy it in, or add its name to "
                "gunicorn_fastapi_exclude."
            )
        from_top = os.path.normpath(whole.parent.relative_to(self.path) / target)
        if not target.is_absolute() and from_top.split("/")[0] != "..":
            return str(target)
        inside = lexical if lexical.is_relative_to(self.path) else resolved
        return os.path.relpath(inside, whole.parent)

    def check_target(self, name: str, link: str) -> None:
        """Raises InputError for a link to what is there on the controller, and was left out of the release."""
        path = os.path.normpath(os.path.join(os.path.dirname(name), link))  # noqa: PTH118, PTH120 - it is no path yet
        there = path == "." or any(n == path or n.startswith(f"{path}/") for n in self.members)
        whole = self.path / path
        if not there and whole.exists() and not (whole.is_dir() and not any(whole.iterdir())):
            raise InputError(
                f"gunicorn_fastapi_app_source: {visible(name)} points to {visible(path)}, which is left out of the "
                "release. Name that in gunicorn_fastapi_include, or the link in gunicorn_fastapi_exclude."
            )

    def check_directory(self, path: str) -> None:
        """Raises InputError for a working directory that the release has not."""
        if path and not any(name.startswith(f"{path}/") for name in self.members):
            raise InputError(
                f"gunicorn_fastapi_working_directory: {visible(path)} is no directory of the release. Correct it, or "
                "name what is left out in gunicorn_fastapi_include."
            )

    def leave_out(self, file: str) -> None:
        """Leave out a file of secrets that is given otherwise, under whatever name it is in the source, too."""
        path = Path(os.path.expandvars(file)).expanduser()
        if not (file and path.is_file()):
            return
        secret = from_disk("", path).digest
        self.members = {name: member for name, member in self.members.items() if member.link or member.digest != secret}

    def warnings(self, env_file: str = "") -> list[str]:
        """What an operator may miss, or not have meant. `env_file` is given otherwise."""
        said = []
        secrets = [path for path in self.left_out if fits(path.rpartition("/")[2], SECRETS)]
        databases = [path for path in self.left_out if path not in secrets]
        given = Path(os.path.expandvars(env_file)).expanduser().resolve()
        secrets = [path for path in secrets if (self.path / path).resolve() != given]
        if secrets:
            said.append(
                f"{listing(secrets)} is not part of the release. Give the path of one by gunicorn_fastapi_env_file, "
                "which keeps it secret, or its variables by gunicorn_fastapi_environment."
            )
        if databases:
            said.append(
                f"{listing(databases)} is not part of the release. A database belongs in the application's state "
                "directory, /var/lib/NAME; name one that is only read in gunicorn_fastapi_include."
            )
        if configurations := [path for path in self.members if fits(path.rpartition("/")[2], CONFIGURATIONS)]:
            said.append(
                f"{listing(configurations)} is not read: gunicorn has a configuration of the role's. Give its settings "
                "and the names of its hooks (MODULE.FUNCTION) by gunicorn_fastapi_gunicorn_settings."
            )
        sizes = Counter[str]()
        for name, member in self.members.items():
            sizes[f"{name.partition('/')[0]}/" if "/" in name else name] += member.size
        if sizes.total() > LARGE:
            largest = ", ".join(f"{visible(name)} {size / 2**20:.0f} MB" for name, size in sizes.most_common(3))
            said.append(
                f"the source has {sizes.total() / 2**20:.0f} MB, most of it in {largest}. "
                "Leave out what the application does not read by gunicorn_fastapi_exclude."
            )
        return [f"gunicorn_fastapi_app_source: {warning}" for warning in said]


def listing(paths: list[str]) -> str:
    """At most three of them, and how many more."""
    shown = ", ".join(visible(path) for path in paths[:3])
    return f"{shown} and {len(paths) - 3} more" if len(paths) > 3 else shown
