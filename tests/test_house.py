"""What keeps the house in order: files that are read in one sitting, and imports that go one way."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
ROLE = TOP / "roles" / "gunicorn_fastapi" / "files"
LIBRARY = TOP / "plugins" / "module_utils" / "gunicorn_fastapi_controller"
PACKAGES = [ROLE / "appctl", ROLE / "gunicorn_fastapi", LIBRARY]
LINES = 350


def test_each_file_is_read_in_one_sitting() -> None:
    files = [*(TOP / "roles").rglob("*.py"), *(TOP / "plugins").rglob("*.py")]
    assert len(files) > 50
    assert {file.name: count for file in files if (count := len(file.read_text().splitlines())) > LINES} == {}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_imports_have_no_circle(package: Path) -> None:
    """Those for types alone count, too. A package's own `__init__`, which only hands on, does not."""
    graph = {name: set(imported(file, package)) & modules(package).keys() for name, file in modules(package).items()}
    assert sum(map(len, graph.values())) > len(graph)
    while free := {name for name, below in graph.items() if not below & graph.keys()}:
        graph = {name: below for name, below in graph.items() if name not in free}
    assert {name: sorted(below & graph.keys()) for name, below in graph.items()} == {}


def modules(package: Path) -> dict[str, Path]:
    """Each module of a package by its whole name."""
    files = (file for file in package.rglob("*.py") if file.name != "__init__.py")
    return {".".join(file.relative_to(package.parent).with_suffix("").parts): file for file in files}


def imported(file: Path, package: Path) -> Iterator[str]:
    """The whole names of what a file imports, wherever in it; of what comes from a package, as if it were a module."""
    here = file.relative_to(package.parent).with_suffix("").parts
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level] if node.level else ()
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)
