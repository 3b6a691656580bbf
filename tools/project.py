"""What a stranger's project says of itself, as far as a deploy needs it: read only, nothing of it is executed."""

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gunicorn_fastapi_controller import discover, lists, secret, server
from gunicorn_fastapi_controller.environment import RESERVED
from gunicorn_fastapi_controller.ignored import GitIgnore
from gunicorn_fastapi_controller.names import TAKEN
from gunicorn_fastapi_controller.problem import InputError

PLACES = ("", "backend", "api", "server", "service", "app", "src")
"""Directories of the application in a repository, the likely ones first."""

SKIPPED = {".git", ".venv", "venv", "node_modules", "__pycache__", "tests", "test", "site-packages", "deploy"}
FILES_MAX, SIZE_MAX = 2000, 1024 * 1024
SECRET = re.compile(
    "SECRET|TOKEN|PASSWORD|PASSWD|KEY|DSN|CREDENTIAL|PRIVATE|SALT"
    "|(DATABASE|DB|MONGO|MONGODB|POSTGRES|POSTGRESQL|MYSQL|REDIS|AMQP|RABBITMQ|BROKER|SMTP)_?UR[IL]$"
)
QUEUE = re.compile(r"""^[\s"']*(arq|celery|dramatiq|huey|rq|saq|taskiq)\b""", re.MULTILINE)
HEALTH = re.compile(r"/(?:[\w/.-]*/)?(?:healthz?|health-?check|livez?|liveness|readyz?|ready|ping|status|up)/?")
SYSTEM = {
    "HOME",
    "PATH",
    "USER",
    "LANG",
    "PWD",
    "TZ",
    "TERM",
    "SHELL",
    "HOSTNAME",
    "TMPDIR",
    "PORT",
    "HOST",
    "CI",
    "TESTING",
}
SAMPLES = (".env.example", ".env.sample", ".env.template", ".env.dist")


@dataclass
class Project:
    """A project, and what could not be known of it."""

    top: Path
    path: str = ""
    module: str = ""
    found: str = ""
    health: str = ""
    old: list[str] = field(default_factory=list)
    """Packages of the server that its list pins in versions that are refused."""
    variables: dict[str, str] = field(default_factory=dict)
    """Names of environment variables that it reads, with the file that says so."""
    unknown: list[str] = field(default_factory=list)

    @property
    def application(self) -> Path:
        return self.top / self.path

    @property
    def name(self) -> str:
        """A name for units and directories, after the project's own."""
        given = str(described(self.application).get("name", ""))
        if given.lower() in ("", "app", *PLACES):  # which says nothing
            given = self.top.resolve().name
        name = re.sub("[^a-z0-9]+", "_", given.lower()).strip("_")[:31]
        name = name if re.match("[a-z]", name) else f"app_{name}"[:31].rstrip("_")
        return f"{name}_app"[:31] if name in TAKEN or name == "app" else name


def pyproject(directory: Path) -> dict[str, Any]:
    """The pyproject.toml of a directory. Empty without a readable one."""
    try:
        return tomllib.loads((directory / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def described(directory: Path) -> dict[str, Any]:
    """What a pyproject.toml says of the project, also that of poetry."""
    whole = pyproject(directory)
    if "project" in whole:
        return dict(whole["project"])
    poetry = whole.get("tool", {}).get("poetry", {})
    return {"name": poetry.get("name", ""), "requires-python": poetry.get("dependencies", {}).get("python", "")}


def read(top: Path) -> Project:
    """Look at a project."""
    project = Project(top)
    find_application(project)
    trees = list(modules(project.application))
    find_health(project, trees)
    for path, tree in trees:
        for name in environment(tree):
            project.variables.setdefault(name, str(path.relative_to(top)))
    find_samples(project)
    project.variables = {
        name: where
        for name, where in sorted(project.variables.items())
        if name not in SYSTEM and not RESERVED.fullmatch(name) and not name.startswith(("PYTEST_", "GITHUB_"))
    }
    find_packages(project)
    find_others(project)
    return project


def find_application(project: Project) -> None:
    """The directory and the import path of the application."""
    several = ""
    others = sorted(p.name for p in project.top.iterdir() if p.is_dir() and p.name not in SKIPPED and p.name[0] != ".")
    for place in dict.fromkeys([*PLACES, *others]):
        if not (project.top / place).is_dir():
            continue
        try:
            project.module, project.found = discover.discover(project.top / place)
        except InputError as error:
            if "several" in str(error) or "cannot read" in str(error):
                project.path, several = place, str(error)
                break
            continue
        project.path = place
        return
    project.unknown.append(
        f"which application is served: {several or 'none was found where the fastapi command looks'}. "
        "Write it into gunicorn_fastapi_app_module."
    )


def modules(directory: Path) -> Iterator[tuple[Path, ast.Module]]:
    """The Python files of an application, without its tests."""
    count = 0
    for path in sorted(directory.rglob("*.py")):
        if SKIPPED.intersection(path.relative_to(directory).parts) or path.name.startswith(("test_", "conftest")):
            continue
        count += 1
        if count > FILES_MAX:
            return
        try:
            if path.stat().st_size < SIZE_MAX:
                yield path, discover.parsed(path.read_bytes())
        except (OSError, ValueError, SyntaxError, RecursionError):
            continue


def find_health(project: Project, trees: list[tuple[Path, ast.Module]]) -> None:
    """A path that looks like a health check."""
    found = sorted({path for _, tree in trees for path in routes(tree) if HEALTH.fullmatch(path)}, key=len)
    if "/healthz" in found:
        return
    if found:
        project.health = found[0]
        project.unknown.append(
            f"whether {found[0]} is the whole path of a health check: it may have a prefix of a router before it. The "
            "first run says which paths the application has."
        )
    else:
        project.unknown.append(
            "a path that says whether it works: none looks like one. Add `@app.get('/healthz')`, or name one by "
            "gunicorn_fastapi_health_path."
        )


def routes(tree: ast.Module) -> Iterator[str]:
    """The paths of a module's GET routes, as they stand there, and the prefixes of its routers."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute):
                    given = [*decorator.args[:1], *(word.value for word in decorator.keywords if word.arg == "path")]
                    if decorator.func.attr == "get":
                        yield from constants(given)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("include_router", "APIRouter")):
            yield from constants(word.value for word in node.keywords if word.arg == "prefix")


def constants(values: Iterable[ast.expr]) -> Iterator[str]:
    """Those that are texts."""
    for value in values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.value


def environment(tree: ast.Module) -> Iterator[str]:
    """The environment variables that a module reads: os.environ, os.getenv(), and fields of settings."""
    for node in ast.walk(tree):
        given: ast.expr | None = None
        if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("environ"):
            given = node.slice
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("environ.get", "getenv")) and node.args:
            given = node.args[0]
        elif isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith("BaseSettings") for base in node.bases):
            yield from fields(node)
        if isinstance(given, ast.Constant) and isinstance(given.value, str) and re.fullmatch(r"\w+", given.value):
            yield given.value


def fields(settings: ast.ClassDef) -> Iterator[str]:
    """The variables of a settings class that must be given: without a default, or with a secret for one."""
    prefix = re.search(r"env_prefix\s*=\s*['\"](\w*)['\"]", ast.unparse(settings))
    for node in settings.body:
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        name = f"{prefix[1] if prefix else ''}{node.target.id}".upper()
        standing = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) and SECRET.search(name)
        if (node.value is None or standing) and "ClassVar" not in ast.unparse(node.annotation):
            yield name


def find_samples(project: Project) -> None:
    """The names in samples of a .env. A .env itself is a developer's."""
    for directory in dict.fromkeys([project.top, project.application]):
        for path in (directory / name for name in SAMPLES):
            try:
                for _, name, _ in secret.lines(str(path)) if path.is_file() else []:
                    project.variables.setdefault(name, path.name)
            except InputError as error:
                project.unknown.append(f"the variables in {path.name}: {error}")


def find_packages(project: Project) -> None:
    """What cannot be known about packages and Python."""
    try:
        found = lists.find(project.top.resolve(), project.application.resolve(), "")
        if found.is_asked:
            project.old = old_servers(found.path.read_text(encoding="utf-8", errors="replace"))
    except (InputError, OSError) as error:
        project.unknown.append(f"its packages: {error}")
    needs = described(project.application).get("requires-python", "")
    if needs:
        project.unknown.append(
            f"whether the host has a Python that fits {needs}: Debian 12 has 3.11, Debian 13 has 3.13. Another is "
            'had by its version, such as gunicorn_fastapi_python: "3.14".'
        )


def old_servers(text: str) -> list[str]:
    """The packages of the server that a lock or a list pins in a version that is refused."""
    found = []
    for name, (first, _) in server.TESTED.items():
        pinned = rf"""(?mi)^(?:{name}(?:\[[^]]*\])?\s*==\s*|name = "{name}"\s+version = ")(\d[\d.]*)"""
        versions = [match[1].strip(".") for match in re.finditer(pinned, text)]
        if any(numbers(version) < numbers(first) for version in versions):
            found.append(name)
    return found


def numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part]


def lists_of(project: Project) -> Iterator[Path]:
    """Where a person writes the packages of a project."""
    for directory in dict.fromkeys([project.application, project.top]):
        yield from (
            path
            for name in ("pyproject.toml", "requirements.in", "requirements.txt")
            if (path := directory / name).is_file()
        )


def find_others(project: Project) -> None:
    """What is beside the application, and may have to run, too."""
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in lists_of(project)]
    if queue := next((match[1] for text in texts if (match := QUEUE.search(text))), ""):
        project.unknown.append(
            f"which processes run beside it: its packages have {queue}. If so, "
            'gunicorn_fastapi_processes: {worker: {command: "..."}}.'
        )
    if list(project.application.glob("**/alembic.ini")):
        project.unknown.append(
            "whether a deploy migrates the database: it has alembic.ini. If so, "
            'gunicorn_fastapi_release_command: "alembic upgrade head".'
        )
    for path in sorted(project.top.glob("*/package.json")) + sorted(project.top.glob("package.json")):
        if '"build"' in path.read_text(encoding="utf-8", errors="replace"):
            here = path.parent.relative_to(project.top)
            project.unknown.append(
                f"whether {here / 'package.json'} is built into the application. If so, "
                "gunicorn_fastapi_build_command, and what .gitignore has of its result in gunicorn_fastapi_include."
            )
    ignored = GitIgnore(project.top.resolve(), project.top.resolve())
    if (project.top / ".env").is_file() and not ignored.ignores(".env", False):
        project.unknown.append("whether .env is anybody's business: git does not ignore it. Its values are not copied.")
