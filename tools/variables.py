#!/usr/bin/env python3
"""Print the README's table of variables, from the role's argument specification and its defaults."""

from pathlib import Path

import yaml

ROLE = Path(__file__).resolve().parent.parent / "roles/gunicorn_fastapi"


def table() -> str:
    """One row per variable: its name, its default as YAML, and the first sentence of its description."""
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    options = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, option in options.items():
        default = yaml.safe_dump(defaults[name], default_flow_style=True, width=1000).removesuffix("...\n").strip()
        default = "the example in `app/`" if "role_path" in default else f"`{default}`"
        meaning = " ".join(option["description"].split()).partition(". ")[0].rstrip(".")
        rows.append(f"| `{name.removeprefix('gunicorn_fastapi_')}` | {default} | {meaning} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
