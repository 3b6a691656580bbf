#!/usr/bin/env python3
"""Write what follows from the role's argument specification: its defaults, and the README's table of variables.

A variable is described once, in meta/argument_specs.yml, with its type, its default and its meaning.
"""

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
ROLE = ROOT / "roles/gunicorn_fastapi"
SPECIFICATION = ROLE / "meta/argument_specs.yml"
HEAD = """\
---
# Every public variable of the role. Written by tools/variables.py from meta/argument_specs.yml: change it there.
"""


def options() -> dict[str, dict[str, Any]]:
    """The variables of the role by their names, as argument_specs.yml describes them."""
    loaded: dict[str, dict[str, Any]] = yaml.safe_load(SPECIFICATION.read_text())["argument_specs"]["main"]["options"]
    return loaded


def as_yaml(value: object) -> str:
    """A value on one line, with double quotes where it needs some."""
    if isinstance(value, str):
        plain = bool(re.fullmatch(r"[A-Za-z_./][\w./:-]*", value)) and yaml.safe_load(value) == value
        return value if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(as_yaml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def defaults() -> str:
    """The text of defaults/main.yml."""
    blocks = [HEAD]
    for name, option in options().items():
        comment = textwrap.wrap(" ".join(option["description"].split()), 110, break_on_hyphens=False)
        blocks.append("".join(f"# {line}\n" for line in comment) + f"{name}: {as_yaml(option['default'])}\n")
    return "\n".join(blocks)


def table() -> str:
    """One row per variable: its name, its default as YAML, and the first sentence of its description."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, option in options().items():
        default = yaml.safe_dump(option["default"], default_flow_style=True, width=1000).removesuffix("...\n").strip()
        default = "the example in `app/`" if "role_path" in default else f"`{default}`"
        meaning = " ".join(option["description"].split()).partition(". ")[0].rstrip(".")
        rows.append(f"| `{name.removeprefix('gunicorn_fastapi_')}` | {default} | {meaning} |")
    return "\n".join(rows)


def written() -> dict[Path, str]:
    """The files that hold what follows, as they have to be."""
    readme = ROOT / "README.md"
    header = re.escape(table().partition("\n")[0])
    text = re.sub(rf"(?m)^{header}\n(\|.*\n)+", lambda _: f"{table()}\n", readme.read_text(), count=1)
    return {ROLE / "defaults/main.yml": defaults(), readme: text}


if __name__ == "__main__":
    for path, text in written().items():
        path.write_text(text)
