#!/usr/bin/env python3
"""Write which findings of ansible-test sanity are not ours to follow, each with its reason."""

import ast
import re
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# One file for each version of ansible-core that checks; it is named after it.
IGNORES = ROOT / "tests/sanity/ignore-2.21.txt"


def is_module(path: Path) -> bool:
    return path.parent == ROOT / "plugins/modules"


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


def is_launcher(path: Path) -> bool:
    return path.suffix == ".j2" and path.read_text(encoding="utf-8").startswith("#!")


RULES: list[tuple[Callable[[Path], bool], str, str]] = [
    (is_module, "validate-modules:missing-gplv3-license", "the collection's license is MIT"),
    (assigns_underscore, "pylint:disallowed-name", "_ is what is not used; nothing here is translated"),
    (
        asks_for_the_very_type,
        "pylint:unidiomatic-typecheck",
        "for each record; a subclass takes the slow way",
    ),
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
    IGNORES.parent.mkdir(exist_ok=True)
    IGNORES.write_text(ignores())
