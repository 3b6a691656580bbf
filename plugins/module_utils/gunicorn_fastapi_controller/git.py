"""Commits of git repositories, from clones that are kept on the controller."""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from .location import VARIABLE, Location
from .problem import InputError, visible

TIMEOUT = 600
"""Seconds that one command of git may take, and that one run waits for another that uses the same clone."""

KEPT = 7 * 86400
"""Seconds that the files of a commit are kept after their last use."""

SETTINGS = {
    "advice.detachedHead": "false",
    "core.autocrlf": "false",
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "maintenance.auto": "false",
}
"""Nothing of a repository is executed, and its files are the same on each controller."""

# The helper gets them from its environment: no file and no command line ever has them.
HELPER = (
    """!f() { [ "$1" = get ] && printf 'username=%s\\npassword=%s\\n' "$REPOSITORY_USER" "$REPOSITORY_PASSWORD"; }; f"""
)

LFS = b"version https://git-lfs.github.com/spec/v1\n"

TOKEN = "give the controller a key (ssh-agent) or a token (git+https://TOKEN@HOST/..., from a vault)"
REASONS = {
    r"Host key verification failed": (
        "the key of its host is not known. Compare it, and add it to ~/.ssh/known_hosts on the controller"
    ),
    r"Could not resolve host|[Uu]nable to connect|Failed to connect|Connection (refused|timed out|reset)|unreachable": (
        "its host cannot be reached from the controller. Correct the address, or the controller's network"
    ),
    r"Authentication failed|could not read (Username|Password)|Permission denied|40[13]|Access denied": (
        f"access is denied. Correct the key or token, or {TOKEN}"
    ),
    r"not found|does not exist|does not appear to be a git repository|unavailable|No such file": (
        f"there is no such repository, or none that the controller may read. Correct the address, or {TOKEN}"
    ),
}
"""What git's last words mean, and the next step."""


class GitError(Exception):
    """git's last words."""


def environment() -> dict[str, str]:
    """The variables of this process, without those that would have git look at another repository."""
    ours = ("GIT_SSH", "GIT_SSL", "GIT_PROXY", "GIT_ASKPASS", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_LFS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name.startswith(ours)}
    return {**kept, "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C.UTF-8"}


def configured(settings: dict[str, str]) -> dict[str, str]:
    """The variables that give git these settings, which stand in no file."""
    pairs = [(f"GIT_CONFIG_KEY_{n}", key) for n, key in enumerate(settings)]
    pairs += [(f"GIT_CONFIG_VALUE_{n}", value) for n, value in enumerate(settings.values())]
    return {"GIT_CONFIG_COUNT": str(len(settings)), **dict(pairs)}


def git(directory: Path, *words: str, variables: dict[str, str] | None = None) -> str:
    """What git prints. Raises GitError with its last words, and InputError where there is no git."""
    try:
        done = subprocess.run(
            ["git", *words], cwd=directory, env={**environment(), **configured(SETTINGS), **(variables or {})},
            stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False, start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError:
        raise InputError(
            f"{VARIABLE}: git is not there on the controller. Install it (apt install git), or give a directory."
        ) from None
    except subprocess.TimeoutExpired:
        raise GitError(f"git {words[0]} took longer than {TIMEOUT} s") from None
    if done.returncode:
        raise GitError(done.stderr[-4000:].decode(errors="replace").strip() or f"git {words[0]} failed")
    return done.stdout.decode("utf-8", "surrogateescape")


@contextlib.contextmanager
def locked(path: Path, wait: float = TIMEOUT) -> Iterator[None]:
    """Hold a lock among all runs of this controller. Raises InputError when another has it for too long."""
    with path.open("w") as file:
        end = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise InputError(
                        f"{path} is held by another run for more than {wait:g} s. Wait for it, and deploy again."
                    ) from None
                time.sleep(0.1)
        yield


class Clone:
    """What the controller keeps of one repository."""

    def __init__(self, where: Location, cache: Path) -> None:
        self.where = where
        self.directory = cache / "sources" / hashlib.sha256(where.url.encode()).hexdigest()[:24]
        self.repository = self.directory / "repository.git"
        settings = {**SETTINGS, "credential.helper": ""}
        # A submodule of what is fetched from elsewhere is no file of this controller.
        self.variables = {"GIT_ALLOW_PROTOCOL": f"https:ssh{':file' * where.url.startswith('file:')}"}
        if shutil.which("git-lfs"):  # also where "git lfs install" was forgotten
            settings |= {"filter.lfs.process": "git-lfs filter-process", "filter.lfs.smudge": "git-lfs smudge -- %f"}
        if not (where.user or where.password):
            del settings["credential.helper"]  # the controller's own helpers serve
        else:
            split = urlsplit(where.url)
            settings[f"credential.{split.scheme}://{split.netloc}.helper"] = HELPER
            self.variables |= {"REPOSITORY_USER": where.user, "REPOSITORY_PASSWORD": where.password}
        self.variables |= configured(settings)

    def git(self, *words: str, directory: Path | None = None) -> str:
        return git(directory or self.repository, *words, variables=self.variables)

    def checked_out(self, run: str) -> tuple[str, Path]:
        """The commit and a directory with its files. One `run` gets one commit, however the branch moves meanwhile."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with locked(self.directory / "lock"):
                self.forget_others()
                if not (self.repository / "HEAD").exists():
                    shutil.rmtree(self.repository, ignore_errors=True)
                    git(self.directory, "init", "--quiet", "--bare", "--template=", str(self.repository))
                    self.git("config", "remote.origin.url", self.where.url)  # which has no secret in it
                commit = self.commit(run)
                return commit, self.tree(commit)
        except GitError as error:
            raise InputError(f"{VARIABLE}: {visible(self.where.url)}: {self.reason(str(error))}.") from None

    def forget_others(self) -> None:
        """Remove the clones that no run has used for a while."""
        for other in self.directory.parent.iterdir():
            lock = other / "lock"
            if other != self.directory and lock.exists() and lock.stat().st_mtime < time.time() - KEPT:
                with contextlib.suppress(InputError), locked(lock, 0):
                    shutil.rmtree(other)

    def reason(self, words: str) -> str:
        """What git's last words mean, without the secrets of the address."""
        for secret in (self.where.password, self.where.user):
            words = words.replace(secret, "***") if secret else words
        for pattern, meaning in REASONS.items():
            if re.search(pattern, words):
                return meaning
        return f"{visible(words.splitlines()[-1])}. Correct what git says there"

    def commit(self, run: str) -> str:
        """The commit that the source means in this run."""
        noted = self.directory / f"run-{run}-{hashlib.sha256(self.where.ref.encode()).hexdigest()[:12]}"
        for old in self.directory.glob("run-*"):
            if old.stat().st_mtime < time.time() - 86400:
                old.unlink()
        if noted.exists():
            return noted.read_text()
        commit = self.resolved(self.where.ref)
        noted.write_text(commit)
        return commit

    def resolved(self, ref: str) -> str:
        """The commit of a branch, a tag, a commit or the beginning of one. Raises InputError when there is none."""
        if re.fullmatch("[0-9a-f]{40}", ref):
            return ref
        names = [f"refs/heads/{ref}", f"refs/tags/{ref}"] if ref and not ref.startswith("refs/") else [ref or "HEAD"]
        listed = self.git("ls-remote", "origin", *names, *(f"{name}^{{}}" for name in names))
        found = {name: commit for commit, _, name in (line.partition("\t") for line in listed.splitlines())}
        commits = {name: found.get(f"{name}^{{}}", found[name]) for name in names if name in found}
        if len(set(commits.values())) > 1:
            raise InputError(
                f"{VARIABLE}: {visible(self.where.url)} has a branch and a tag {visible(ref)}, which differ. Write "
                f"{' or '.join(commits)} behind the @."
            )
        if commits:
            return next(iter(commits.values()))
        if re.fullmatch("[0-9a-f]{7,39}", ref):
            self.fetch_all()
            with contextlib.suppress(GitError):
                return self.git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}").strip()
        raise InputError(
            f"{VARIABLE}: {visible(self.where.url)} has no branch, tag or commit {visible(ref) or 'at all'}."
            f"{self.near(ref)} Correct what follows the @, or push it first."
        )

    def near(self, ref: str) -> str:
        """The names that were probably meant, in words."""
        listed = self.git("ls-remote", "--heads", "--tags", "--refs", "origin").splitlines()
        names = [line.split("\trefs/")[-1].partition("/")[2] for line in listed]
        near = difflib.get_close_matches(ref, names, 3) or names[:3]
        return f" It has {', '.join(map(visible, near))}{' and others' if len(names) > len(near) else ''}." * bool(near)

    def fetch_all(self) -> None:
        """All branches and tags, with their history."""
        shallow = ["--unshallow"] if (self.repository / "shallow").exists() else []
        self.git("fetch", "--quiet", "--tags", "--force", *shallow, "origin", "+refs/heads/*:refs/remotes/origin/*")

    def has(self, commit: str) -> bool:
        """Whether a commit is there, with its files."""
        try:
            self.git("cat-file", "-e", f"{commit}^{{commit}}")
        except GitError:
            return False
        return True

    def tree(self, commit: str) -> Path:
        """A directory with the files of a commit and of its submodules."""
        tree, whole = self.directory / "trees" / commit, self.directory / f"whole-{commit}"
        lfs = "with git-lfs" if shutil.which("git-lfs") else "without git-lfs"
        if whole.exists() and tree.is_dir() and (lfs.startswith("without") or whole.read_text() == lfs):
            os.utime(whole)
            return tree
        if not self.has(commit):
            try:
                self.git("fetch", "--quiet", "--no-tags", "--depth=1", "origin", commit)
            except GitError:  # a server that gives no commit by its name
                self.fetch_all()
        if not self.has(commit):
            raise InputError(
                f"{VARIABLE}: {visible(self.where.url)} has no commit {commit}. Correct it, or push it first."
            )
        self.forget(time.time() - KEPT, commit)
        self.git("worktree", "add", "--quiet", "--force", "--detach", str(tree), commit)
        if (tree / ".gitmodules").exists():
            # Their addresses may be relative to the repository's own.
            self.git("submodule", "--quiet", "update", "--init", "--recursive", "--depth=1", directory=tree)
        whole.write_text(lfs)
        return tree

    def forget(self, before: float, commit: str) -> None:
        """Remove the files of a commit, which are half there, and of those that nobody has used since a time."""
        (self.directory / "trees").mkdir(exist_ok=True)
        for tree in (self.directory / "trees").iterdir():
            whole = self.directory / f"whole-{tree.name}"
            if tree.name == commit or not whole.exists() or whole.stat().st_mtime < before:
                whole.unlink(missing_ok=True)
                shutil.rmtree(tree)
        self.git("worktree", "prune")


def state(directory: Path) -> tuple[str, bool]:
    """The commit of a directory that is part of a checkout, and whether it has changes. ("", False) elsewhere."""
    anyones = configured({**SETTINGS, "safe.directory": "*"})
    try:
        commit = git(directory, "rev-parse", "--verify", "--quiet", "HEAD", variables=anyones).strip()
        ignored = git(
            directory, "ls-files", "--others", "--ignored", "--exclude-standard", "--directory", variables=anyones
        )
        if ignored.startswith("./\n"):  # the repository does not want it
            return "", False
        quiet = dict.fromkeys(filters(directory, anyones), "")
        variables = configured({**SETTINGS, "safe.directory": "*", **quiet})
        changes = git(directory, "status", "--porcelain", "--ignore-submodules=dirty", "--", ".", variables=variables)
        return commit, bool(changes)
    except (GitError, InputError, OSError):
        return "", False


def filters(directory: Path, variables: dict[str, str]) -> list[str]:
    """The settings of a repository's own that would execute something when its files are compared."""
    try:
        listed = git(
            directory, "config", "--show-scope", "--name-only", "--get-regexp", r"^filter\.", variables=variables
        )
    except GitError:  # it has none
        return []
    pairs = [line.split("\t", 1) for line in listed.splitlines()]
    return [key for scope, key in pairs if scope in ("local", "worktree") and key.endswith((".clean", ".process"))]


def pointers(files: dict[str, Path]) -> list[str]:
    """The files that stand for others of git-lfs, whose content is not there."""
    return [name for name, path in files.items() if path.stat().st_size < 1024 and path.read_bytes().startswith(LFS)]
