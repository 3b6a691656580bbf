"""Whether a package of a lock is for this host, and whether a wheel of it can be installed: by names alone."""

import ast
import platform
import re
from collections.abc import Callable
from operator import eq, ge, gt, le, lt, ne
from urllib.parse import unquote

COMPARED: dict[type[ast.cmpop], Callable[..., bool]] = {
    ast.Eq: eq, ast.NotEq: ne, ast.Lt: lt, ast.LtE: le, ast.Gt: gt, ast.GtE: ge,
    ast.In: lambda left, right: left in right, ast.NotIn: lambda left, right: left not in right,
}  # fmt: skip
VERSIONS = ("python_version", "python_full_version", "implementation_version")


def file_of(wheel: dict[str, object]) -> str:
    """The name of a wheel's file in a lock."""
    place = str(wheel.get("name") or wheel.get("url") or wheel.get("path") or "")
    return unquote(place.partition("#")[0].rpartition("/")[2])


def fits(file: str, python: str, machine: str) -> bool:
    """Whether a wheel can be installed, by its name: for that version of Python, and on Linux with glibc."""
    words = file.removesuffix(".whl").split("-")
    if len(words) < 5:
        return False
    minor, abi = int(python.split(".")[1]), set(words[-2].split("."))
    places = words[-1].split(".")
    if not any(p == "any" or re.fullmatch(rf"(many)?linux.*_{re.escape(machine)}", p) for p in places):
        return False
    for tag in words[-3].split("."):
        match = re.fullmatch(r"(py|cp)3(\d*)", tag)
        own = int(match[2] or 0) if match else minor + 1
        if (own == minor and abi & {"none", "abi3", f"cp3{minor}"}) or (own < minor and "abi3" in abi):
            return True
        if match and match[1] == "py" and own < minor and "none" in abi:
            return True
    return False


def holds(marker: str, python: str) -> bool | None:
    """Whether a marker (PEP 508) holds here; None for one that is not understood."""
    names = {
        "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": platform.machine(),
        "platform_python_implementation": "CPython", "implementation_name": "cpython",
        "python_version": ".".join(python.split(".")[:2]), "python_full_version": python,
        "implementation_version": python,
    }  # fmt: skip

    def value(node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return names[node.id]
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        raise ValueError

    def true(node: ast.expr) -> bool:
        if isinstance(node, ast.BoolOp):
            each = [true(part) for part in node.values]
            return all(each) if isinstance(node.op, ast.And) else any(each)
        if not (isinstance(node, ast.Compare) and len(node.ops) == 1):
            raise ValueError
        left, right = value(node.left), value(node.comparators[0])
        compare = COMPARED[type(node.ops[0])]
        if isinstance(node.left, ast.Name) and node.left.id in VERSIONS:
            if isinstance(node.ops[0], (ast.In, ast.NotIn)):
                raise ValueError
            size = 3 if node.left.id != "python_version" else 2
            return compare(numbers(left, size), numbers(right, size))
        return compare(left, right)

    try:
        return true(ast.parse(marker, mode="eval").body) if marker else True
    except (SyntaxError, ValueError, KeyError, RecursionError):
        return None


def numbers(version: str, size: int) -> tuple[int, ...]:
    """The first numbers of a version. Raises ValueError for one that has other parts."""
    found = [int(part) for part in version.split(".")]
    return tuple([*found, 0, 0, 0][:size])
