"""The application in a source, found as the fastapi command finds it, but read only: nothing of it is executed."""

from __future__ import annotations

import ast
import platform
import re
import tomllib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .problem import InputError, visible

VARIABLE = "gunicorn_fastapi_app_module"
PLACES = ("main.py", "app.py", "api.py", "app/main.py", "app/app.py", "app/api.py")
"""Where the fastapi command looks, in its order."""
IN_PACKAGES = ("main.py", "app.py", "api.py", "__init__.py")
"""Where it is in a package of the project's own, such as shop/main.py."""
NO_PACKAGES = ("tests", "test", "docs", "examples", "scripts", "alembic", "migrations")

CLASSES = ("FastAPI", "Starlette")
NAMES = ("app", "api")
OTHERS = ("APIRouter", "Celery", "Flask", "Typer", "Router")
"""What is often called app, and serves no ASGI."""

FACTORIES = ("create_app", "get_app", "make_app", "build_app", "app_factory")
IMPORT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(\(\))?", re.ASCII)


@dataclass
class Module:
    """What a file binds at its top, by name."""

    path: str
    applications: dict[str, int] = field(default_factory=dict)
    """The objects of CLASSES, with their lines."""
    values: dict[str, int] = field(default_factory=dict)
    """What could be one: calls of something else, and other expressions."""
    imported: dict[str, str] = field(default_factory=dict)
    factories: dict[str, int] = field(default_factory=dict)
    absolute: set[str] = field(default_factory=set)
    """The modules that it imports, but for relative ones."""
    unread: str = ""
    """Why it is no Python that this controller reads."""

    @property
    def name(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def body(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported, also those of if, try and with."""
    for statement in statements:
        yield statement
        if isinstance(statement, ast.If) and "__name__" not in ast.unparse(statement.test):
            yield from body([*statement.body, *statement.orelse])
        elif isinstance(statement, ast.Try):
            handlers = [inner for handler in statement.handlers for inner in handler.body]
            yield from body([*statement.body, *handlers, *statement.orelse, *statement.finalbody])
        elif isinstance(statement, ast.With):
            yield from body(statement.body)


def read(path: str, content: bytes) -> Module:
    """What a file binds. Nothing when it is no Python that this controller reads."""
    module, aliases = Module(path), {}
    try:
        tree = parsed(content)
    except (SyntaxError, ValueError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        module.unread = f"{path}{line}: {visible(getattr(error, 'msg', '') or str(error))}"
        return module
    for statement in body(tree.body):
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                aliases[alias.asname or alias.name] = alias.name
                module.imported[alias.asname or alias.name] = statement.module or alias.name
            if statement.module and not statement.level:
                module.absolute.add(statement.module)
        elif isinstance(statement, ast.Import):
            module.absolute.update(alias.name for alias in statement.names)
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    note(module, target.id, statement.value, aliases)
        elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and statement.name == "app":
            module.values["app"] = statement.lineno  # ASGI by hand
        elif isinstance(statement, ast.FunctionDef) and statement.name in FACTORIES and takes_nothing(statement):
            module.factories[statement.name] = statement.lineno
    return module


def parsed(content: bytes) -> ast.Module:
    """A file of somebody else's, whose odd escapes are no warning of ours. In bytes, which have the encoding."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(content)


def note(module: Module, name: str, value: ast.expr, aliases: dict[str, str]) -> None:
    """Note a name with the value that it is given."""
    called = ""
    if isinstance(value, ast.Call):
        called = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
        called = aliases.get(called, called)
    if called in CLASSES:
        module.applications[name] = value.lineno
        module.values.pop(name, None)
    elif called not in OTHERS and not isinstance(value, ast.Constant):
        module.values[name] = value.lineno


def takes_nothing(function: ast.FunctionDef) -> bool:
    """Whether a function can be called without arguments."""
    given = function.args
    required = len(given.posonlyargs) + len(given.args) - len(given.defaults)
    return required == 0 and all(default is not None for default in given.kw_defaults)


def discover(directory: Path) -> tuple[str, str]:
    """The application of a directory as MODULE:ATTRIBUTE, and where that was found, in words. Raises InputError."""
    if entry := entrypoint(directory / "pyproject.toml"):
        return entry, "as [tool.fastapi] in pyproject.toml says"
    modules = list(readable(directory, PLACES))
    chosen = candidates(modules)
    if not chosen:
        modules += packaged(directory)
        chosen = candidates(modules)
    if len(chosen) > 1:
        listed = ", ".join(f"{module.name}:{name} ({module.path}, line {line})" for module, name, line in chosen)
        raise InputError(f"{VARIABLE}: the source has several applications: {listed}. Name one of them.")
    if not chosen:
        where = "; ".join(
            [f"{m.path} has none" for m in modules if not m.unread]
            + [
                f"Python {platform.python_version()} of the controller cannot read {m.unread}"
                for m in modules
                if m.unread
            ]
        )
        where = where or f"none of {', '.join(PLACES)} is there"
        raise InputError(
            f"{VARIABLE}: no application was found: {where} and [tool.fastapi] in pyproject.toml "
            f"names none. {elsewhere(directory)}Name it as MODULE:ATTRIBUTE, such as shop.main:app."
        )
    module, name, line = chosen[0]
    for earlier in modules[: modules.index(module)]:
        if (earlier.imported.get(name) or "").lstrip(".") in (module.name, module.name.rpartition(".")[2]):
            return f"{earlier.name}:{name}", f"which {earlier.path} has of {module.path}, line {line}"
    return f"{module.name}:{name}", f"found in {module.path}, line {line}"


def readable(directory: Path, places: Iterable[str]) -> Iterator[Module]:
    """What the files bind that are there."""
    for place in places:
        try:
            yield read(place, (directory / place).read_bytes())
        except OSError:
            continue


def candidates(modules: list[Module]) -> list[tuple[Module, str, int]]:
    """The applications of files, those that are sure before those that could be, and factories where there is none."""
    certain = [module for module in modules if module.applications]
    chosen = [(module, *choice) for module in certain or modules if (choice := choose(module))]
    return chosen or [(m, f"{name}()", line) for m in modules for name, line in m.factories.items()]


def packaged(directory: Path) -> list[Module]:
    """What packages bind that lie in a directory, for each the first of its files that has an application.

    A package that is imported from within itself, as if its directory were the application's, is none of them.
    """
    found = []
    for init in sorted(directory.glob("*/__init__.py")):
        package = init.parent
        if package.name in NO_PACKAGES or not package.name.isidentifier():
            continue
        siblings = {path.stem for path in package.iterdir() if path.suffix == ".py" or path.is_dir()}
        for module in readable(directory, (f"{package.name}/{place}" for place in IN_PACKAGES)):
            inside = {name.split(".")[0] for name in module.absolute} & siblings - {package.name}
            if inside and not any((directory / name).exists() for name in inside):
                break
            if module.applications or module.factories or "app" in module.values:
                found.append(module)
                break
    return found


def is_beside(names: Iterable[str]) -> bool:
    """Whether a path is that of tests and the like, which are no part of an application."""
    return any(name in NO_PACKAGES for name in names)


def elsewhere(directory: Path) -> str:
    """The directories below one that have an application, for who has not named them."""
    found = []
    for below in sorted(path for path in directory.glob("*") if path.is_dir() and path.name[0] != "."):
        if below.name in NO_PACKAGES:
            continue
        try:
            if candidates(list(readable(below, PLACES))) or candidates(packaged(below)):
                found.append(below.name)
        except InputError:  # several
            found.append(below.name)
    return f"There is one in {', '.join(found)}: set gunicorn_fastapi_app_path. " if found else ""


def choose(module: Module) -> tuple[str, int] | None:
    """The application of a file: what is called app, else api, else the only one."""
    imported = {name: 1 for name in module.imported if name == "app"}
    both = {**imported, **module.values, **module.applications}
    if "app" in both:  # also one that is wrapped around another, as socketio.ASGIApp() is
        return "app", both["app"]
    for name in NAMES:
        if name in module.applications:
            return name, module.applications[name]
    if len(module.applications) > 1:
        listed = ", ".join(f"{module.name}:{name} (line {line})" for name, line in module.applications.items())
        raise InputError(f"{VARIABLE}: {module.path} has several applications: {listed}. Name one of them.")
    return next(iter(module.applications.items()), None)


def entrypoint(path: Path) -> str:
    """What a pyproject.toml says itself. Raises InputError when that is no import path."""
    try:
        tools = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {})
        entry = tools.get("fastapi", {}).get("entrypoint", "")
    except (OSError, ValueError, AttributeError):  # the lock's readers say what is wrong with it
        return ""
    if not entry:
        return ""
    if not isinstance(entry, str) or not IMPORT.fullmatch(entry):
        raise InputError(
            f"{VARIABLE}: entrypoint of [tool.fastapi] in pyproject.toml is {visible(str(entry))}, and not of the form "
            "MODULE:ATTRIBUTE. Correct it, or set the variable."
        )
    return entry
