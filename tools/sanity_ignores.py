#!/usr/bin/env python3
"""Print which findings of ansible-test sanity are not ours to follow, each with its reason."""

import ast
import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def is_documented(path: Path) -> bool:
    return path.parent in (ROOT / "plugins/modules", ROOT / "plugins/callback")


def assigns_underscore(path: Path) -> bool:
    """Whether a file has a variable `_`, as what is not used is called everywhere but in Ansible."""
    if path.suffix != ".py":
        return False
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    return any(isinstance(n, ast.Name) and n.id == "_" and isinstance(n.ctx, ast.Store) for n in nodes) or any(
        isinstance(n, ast.arg) and n.arg == "_" for n in nodes
    )


def asks_for_the_very_type(path: Path) -> bool:
    return path.suffix == ".py" and bool(re.search(r"type\(\w+\) is ", path.read_text(encoding="utf-8")))


def needs_packaging(path: Path) -> bool:
    """Whether a file of the controller imports what ansible-core itself needs there."""
    if path.suffix != ".py" or path.parent.name != "gunicorn_fastapi_controller":
        return False
    names = {p.stem for p in path.parent.glob("*.py") if "from packaging" in p.read_text(encoding="utf-8")}
    text = path.read_text(encoding="utf-8")
    imported = re.findall(r"^from (?:\.|\S*gunicorn_fastapi_controller[.]?)(\w*) import (.*)$", text, re.MULTILINE)
    return path.stem in names or any(names & {module, *re.findall(r"\w+", what)} for module, what in imported)


def starts_programs(path: Path) -> bool:
    return path.is_relative_to(ROOT / "plugins") and bool(
        re.search(r"subprocess\.(run|Popen)\(", path.read_text(encoding="utf-8"))
    )


def fetches_by_itself(path: Path) -> bool:
    return path.is_relative_to(ROOT / "plugins") and "urllib.request.urlopen(" in path.read_text(encoding="utf-8")


def is_launcher(path: Path) -> bool:
    return path.suffix == ".j2" and path.read_text(encoding="utf-8").startswith("#!")


RULES: list[tuple[Callable[[Path], bool], str, str]] = [
    (is_documented, "validate-modules:missing-gplv3-license", "the collection's license is MIT"),
    (assigns_underscore, "pylint:disallowed-name", "_ is what is not used; nothing here is translated"),
    (
        asks_for_the_very_type,
        "pylint:unidiomatic-typecheck",
        "for each record; a subclass takes the slow way",
    ),
    (fetches_by_itself, "replace-urlopen", "open_url would load Ansible into a library that tools and tests load, too"),
    (needs_packaging, f"import-{PYTHON}!skip", "for the controller, where ansible-core brings packaging"),
    (starts_programs, "pylint:ansible-bad-function", "in no module, or as another user, which run_command cannot"),
    (is_launcher, "shebang", "not a module; what it starts is isolated (-IS)"),
]


def ignores() -> str:
    """The text of the file."""
    files = [path for top in ("plugins", "roles", "app") for path in sorted((ROOT / top).rglob("*")) if path.is_file()]
    # Links would list a file twice.
    files = [path for path in files if path.resolve() == path and "__pycache__" not in path.parts]
    lines = [f"{f.relative_to(ROOT)} {code} # {why}" for f in files for holds, code, why in RULES if holds(f)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(ignores(), end="")
