"""The role's variables, converted to the types of its argument specification."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from .problem import InputError

PREFIX = "gunicorn_fastapi_"


def shown(value: object) -> str:
    """A value as an operator writes it."""
    return json.dumps(value, ensure_ascii=False, default=str)


def matches(pattern: str, value: str) -> bool:
    """Whether a whole value is of a form. Digits and letters are those of ASCII, a line end is none."""
    return re.fullmatch(pattern, value, re.ASCII) is not None


def to_int(value: object) -> int:
    """A whole number, also from its digits: that is what -e name=5 gives."""
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]+\s*", value, re.ASCII):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError


def to_bool(value: object) -> bool:
    """A truth value, also from the words that YAML and Ansible have for it."""
    if isinstance(value, bool):
        return value
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    return words[str(value).strip().lower()]


def to_str(value: object) -> str:
    """A text, also a whole number. Nobody knows any more how the rest was written that YAML reads (on, 3.10)."""
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return str(value)
    raise ValueError


def to_list(value: object) -> list[str]:
    """A list of texts, also from JSON or from words with commas between them."""
    if isinstance(value, str):
        text = value.strip()
        value = json.loads(text) if text.startswith("[") else [p.strip() for p in text.split(",") if p.strip()]
    if not isinstance(value, (list, tuple)):
        raise ValueError
    return [to_str(item) for item in value]


def to_mappings(value: object) -> list[dict[str, Any]]:
    """A list of mappings. Not from a text, as for one of them."""
    if not isinstance(value, (list, tuple)):
        raise ValueError
    return [to_dict(item) for item in value]


def to_dict(value: object) -> dict[str, Any]:
    """A mapping. Not from a text: the words of one could be secrets, and there are several ways to read it."""
    if not isinstance(value, Mapping):
        raise ValueError
    return {str(key): item for key, item in value.items()}


def to_raw(value: object) -> object:
    """A list where it is one in JSON; else the value as it is, also a text that begins like one."""
    try:
        return to_list(value) if isinstance(value, str) and value.strip().startswith("[") else value
    except ValueError:
        return value


KINDS: dict[str, tuple[Callable[[Any], object], str]] = {
    "int": (to_int, "a whole number"),
    "bool": (to_bool, "true or false"),
    "str": (to_str, "a text, which needs quotes in YAML"),
    "list": (to_list, "a list of texts, which need quotes in YAML"),
    "list of dict": (to_mappings, "a list of mappings"),
    "dict": (to_dict, "a mapping"),
    "raw": (to_raw, "a value"),
}


def most(name: str) -> int:
    """The largest number that a variable may have: systemd and the kernel ignore a larger one, or cut it off."""
    return 2**53 if name.endswith("_max") else 2**31 - 1


def converted(name: str, value: object, option: Mapping[str, Any]) -> object:
    """The value of one variable in its type. Raises InputError, which repeats no value that may be secret."""
    of_mappings = option["type"] == "list" and option.get("elements") == "dict"
    convert, wanted = KINDS["list of dict" if of_mappings else option["type"]]
    if value is False and "off" in option.get("choices", []):
        value = "off"  # as YAML reads it without quotes
    try:
        result = convert(value)
    except (ValueError, KeyError):
        if option["type"] == "dict":
            example = f"""-e '{{"{name}": {{"key": "value"}}}}'"""
            raise InputError(f"{name} is not a mapping. Write it as YAML, on the command line as {example}.") from None
        if of_mappings:
            raise InputError(f"{name} is not {wanted}. Write it as YAML, such as [{{path: /}}].") from None
        raise InputError(f"{name}: {shown(value)} is not {wanted}.") from None
    if isinstance(result, int) and abs(result) > most(name):
        raise InputError(f"{name}: {shown(value)} must be at most {most(name)}.")
    if "choices" in option and result not in option["choices"]:
        raise InputError(f"{name}: {shown(value)} must be one of {', '.join(option['choices'])}.")
    return result


def inputs_and_problems(
    values: Mapping[str, object], options: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Any], list[str]]:
    """The variables in their types, and what is wrong with those that are not in the first."""
    inputs: dict[str, Any] = {}
    problems = []
    for name, option in options.items():
        try:
            inputs[name] = converted(name, values[name], option)
        except InputError as error:
            problems.append(str(error))
    return inputs, problems


def unknown(names: list[str], known: list[str]) -> list[str]:
    """A sentence for each name of ours that the role does not have, with the one that was probably meant."""
    problems = []
    for name in sorted(name for name in names if name.startswith(PREFIX) and name not in known):
        near = difflib.get_close_matches(name.removeprefix(PREFIX), [n.removeprefix(PREFIX) for n in known], 1, 0.7)
        hint = f"A typo of {PREFIX}{near[0]}? " if near else ""
        problems.append(f"{name}: unknown variable. {hint}The README lists all variables.")
    return problems
